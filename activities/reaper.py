"""Looks after a lock whose case has closed or was terminated without giving it back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from activities.failures import port_failures
from activities.ports import Journal, Notify
from runbooks.base import Model
from runbooks.change import Receipt
from runbooks.detection import Target
from runbooks.guard_memory import Memory, Recovered, Remember
from runbooks.standing import counted, is_of, merged

UNDER_LOCK = frozenset(
    {"checking", "acting", "verifying", "undoing", "restoring", "waiting_domain", "holding", "closing", "closed"}
)
"""States of a case in which a domain may be held for it. In all others it has given back what it had, unless it says that it
is at work. One that closes with a lock in its hand leaves it to the Guard, which must find it closed and tell people."""


class ReapRequest(Model):
    """A holder, or the owner of a standing receipt. Empty run_id: the newest run."""

    domain: str
    workflow_id: str
    run_id: str = ""
    asks: bool = Field(
        default=False, description="Ask it as well whether it does anything under a lock at this moment."
    )
    counted: tuple[str, ...] = Field(default=(), description="Ids under which the Guard counts what stands of it.")
    case: str = Field(
        default="", description="That held the domain: what it gave to people as it closed is told as left too."
    )


class Holder(Model):
    """`unknown` is not closed."""

    state: Literal["open", "closed", "unknown"]
    why: str = ""
    idle: bool = Field(default=False, description="Open, and by its own word it holds no lock now. False: not known.")


class Reaped(Model):
    """What people were told about; `told` is empty when there was nothing to tell."""

    receipts: tuple[str, ...]
    told: str
    left: Recovered = Recovered(standing=(), owners={}, targets={})
    ended: tuple[str, ...] = Field(
        default=(), description="Of what is counted: what the journal says stands no more, its case having closed."
    )


class ReaperActivities:
    """Describes holders, and hands what they left to people."""

    def __init__(self, client: Client, journal: Journal, notify: Notify, domains: Sequence[str]) -> None:
        self._domains = domains
        self._client = client
        self._journal = journal
        self._notify = notify

    @activity.defn(name="recover_domain")
    async def recover(self, domain: str) -> Recovered:
        """What stands in the domain by the journal: a Guard that lost its state must not think that nothing does."""
        with port_failures():
            found = [r for d in self._domains for r in await self._journal.standing(d)]
            kept = await self._journal.remembered(domain)
        stands = counted_all([r for r in found if domain in (r.domain, *r.domains)])
        if kept is None:
            return stands
        # A memory that cannot be read fails here, again and again, and no permit is given meanwhile: it may hold a halt.
        return stands.model_copy(update={"number": kept[0], "memory": Memory.model_validate_json(kept[1])})

    @activity.defn(name="remember_domain")
    async def remember(self, what: Remember) -> int:
        """Written down for the Guard that comes after a terminated one. The number that is kept, see `Journal.remember`."""
        with port_failures():
            return await self._journal.remember(what.memory.domain, what.number, what.memory.model_dump_json())

    @activity.defn(name="describe_holder")
    async def describe(self, req: ReapRequest) -> Holder:
        """Is this run still open?"""
        if req.workflow_id.startswith("people:"):
            return Holder(state="unknown", why="owned by people")
        handle = self._client.get_workflow_handle(req.workflow_id, run_id=req.run_id or None)
        try:
            found = await handle.describe(rpc_timeout=timedelta(seconds=5))
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return Holder(state="closed", why="no such workflow is kept any more")
            return Holder(state="unknown", why=error.message)
        if found.status in (WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW):
            return Holder(state="open", idle=req.asks and await self._idle(handle))
        reset = found.raw_description.workflow_extended_info.reset_run_id
        if reset:  # the UI's Reset ended this run, and the same case goes on as another one
            return await self.describe(ReapRequest(domain=req.domain, workflow_id=req.workflow_id, run_id=reset))
        return Holder(state="closed", why=found.status.name.lower() if found.status else "closed")

    async def _idle(self, handle: WorkflowHandle[Any, Any]) -> bool:
        """True when the case says that it is in none of the states in which it may hold a lock, nor at work. Not heard, or not
        said, as by an older build: False."""
        try:
            said = await handle.query("status", rpc_timeout=timedelta(seconds=5))
        except (RPCError, WorkflowQueryFailedError):
            return False
        if not isinstance(said, dict) or not isinstance(said.get("state"), str):
            return False
        return said["state"] not in UNDER_LOCK and said.get("at_work") is False

    @activity.defn(name="reap")
    async def reap(self, req: ReapRequest) -> Reaped:
        """Tells people what stands without an owner. It is not undone blindly: the fault may still be there."""
        with port_failures():
            left = await self._journal.unsettled(req.workflow_id)
            # What the case itself gave to people stands as well.
            owned = [r for d in self._domains for r in await self._journal.standing(d)]
            # In the order of the journal: increments of a step are merged in it.
            there = {r.id: r for r in [*owned, *left] if r.case_workflow_id == req.workflow_id}.values()
            ended = await self._ended(req.counted, {f"{r.case}/{r.step_id}" for r in there})
            if not req.run_id and ended and set(ended) == set(req.counted):
                # It put everything back and closed while no Guard was there to hear it: nobody need be woken.
                return Reaped(receipts=(), told="", ended=ended)
            lines = [
                f"- {r.lever} on {r.target_id}: {r.before} became {r.after}; take it back with `interlock undo {r.id}`"
                for r in there
            ] or ["- nothing that the journal knows of"]
            lines += [
                f"- once that is taken back or yours for good, signal `settled` to guard:{req.domain} with {rid!r}: "
                "until then it counts, and Interlock leaves its target alone"
                for rid in dict.fromkeys(f"{r.case}/{r.step_id}" for r in there if r.domain == req.domain)
            ]
            told = await self._notify.tell(
                f"reaped/{req.workflow_id}/{req.run_id}",
                f"{req.workflow_id} ended without giving domain {req.domain} back",
                "What it changed still stands and is now yours:\n" + "\n".join(lines),
            )
            for receipt in left:
                await self._journal.settle(receipt.id, "adopted", f"people, told as {told.reference}")
        return Reaped(
            receipts=tuple(r.id for r in left),
            told=told.reference,
            # A case that was cancelled gives what stands to people itself, and has told the Guard nothing of it.
            left=counted_all(
                [r for r in there if req.domain in (r.domain, *r.domains) and (r in left or r.case == req.case)]
            ),
            ended=ended,
        )

    async def _ended(self, counted: Sequence[str], stands: Collection[str]) -> tuple[str, ...]:
        """Only what the journal knows the end of: a journal that has lost a change knows of no end either."""
        out = []
        for rid in counted:
            head, _, tail = rid.rpartition("#")
            case = f"{head}#{tail.partition('/')[0]}"
            over = not any(is_of(rid, step) for step in stands)
            if over and await self._journal.record(case) is not None:
                out.append(rid)
        return tuple(out)


def counted_all(receipts: Sequence[Receipt]) -> Recovered:
    """What stands by these receipts, step by step."""
    steps: dict[str, Receipt] = {}
    for receipt in receipts:
        rid = f"{receipt.case}/{receipt.step_id}"
        steps[rid] = merged(steps.get(rid), receipt)
    return Recovered(
        standing=tuple(counted(rid, receipt) for rid, receipt in steps.items()),
        owners={rid: receipt.case_workflow_id for rid, receipt in steps.items()},
        targets={rid: Target.of(receipt.target_id) for rid, receipt in steps.items()},
    )
