"""Acts of every lever: apply under a permit, read back what is unknown. One class per kind of system, with one way to act."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Protocol

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.checkpoint import Checkpoint, no_checkpoint
from activities.errors import Refused
from activities.facts import Clock, known, utc_now
from activities.failures import port_failures
from activities.ports import Actuator, Journal
from runbooks.base import digest
from runbooks.change import Change, Receipt
from runbooks.facts import GuardView, Unknown
from runbooks.plan import ApplyRequest, ReadBack, ReadBackRequest

HALT_REACHES = timedelta(seconds=4)
"""A halt stops every write that has not begun within five seconds of it; one is for the clocks of two machines."""


class Stops(Protocol):
    """Knows whether levers are halted."""

    async def view(self, domain: str) -> GuardView:
        """Retryable when it cannot be asked: then nothing is written."""
        ...


class Acts:
    """Acts through one Actuator."""

    def __init__(
        self,
        actuator: Actuator,
        journal: Journal,
        guard: Stops,
        clock: Clock = utc_now,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._actuator = actuator
        self._journal = journal
        self._guard = guard
        self._clock = clock
        self._checkpoint = checkpoint

    async def _apply(self, req: ApplyRequest) -> Receipt:
        """One increment, compare-and-set under the permit's epoch. The same permit again reads back and never acts twice.

        Raises ApplicationError of type Refused (provably not applied), Permanent, Retryable or Ambiguous.
        """
        permit = req.permit
        if permit.change_digest != req.change.digest or permit.step_id != req.step.id or permit.case != req.case:
            raise ApplicationError(f"permit {permit.id} is not for this change", type="Refused", non_retryable=True)
        with port_failures():
            done = await self._journal.receipt(permit.id)
            if done is not None:
                return done
            receipt = self._receipt(req)
            first = await self._journal.intend(permit, req.change, receipt)
            # Of before the question: how long its answer is on the way must not lengthen what it is good for.
            asked = self._clock()
            # The adapter decides under its own lock whether this very permit has already written.
            before, stopped = await asyncio.gather(self._actuator.read(permit.domain), self._stopped(req))
            if permit.purpose == "act":
                # Adapters look at this before each write: none begins later than this after levers were last seen free.
                # Stopped, and this permit had begun: what it wrote is read back, and no further write begins.
                latest = self._clock() if stopped else asked + HALT_REACHES
                permit = permit.model_copy(update={"act_before": min(permit.act_before, latest)})
            try:
                if stopped and before.permit_id != permit.id:
                    raise Refused(stopped)
                await self._actuator.swap(req.change, permit)
            except Refused as refused:
                # Never applied, or no longer what stands: somebody else has written since. Either way nothing of it is ours.
                # But for a late attempt: what an earlier one did has its receipt by now, and that one stands.
                if await self._journal.receipt(permit.id) is None:
                    await self._journal.settle(receipt.id, "not_standing", str(refused)[:200])
                raise
            had_acted = not first and before.permit_id == permit.id
            receipt = receipt.model_copy(update={"recovered": had_acted})
            self._checkpoint("before_receipt")
            await self._journal.receive(receipt)
            for receipt_id, state in req.ends.items():
                await self._journal.settle(receipt.id if receipt_id == "self" else receipt_id, state, receipt.id)
            self._checkpoint("before_return")
            return receipt

    async def _stopped(self, req: ApplyRequest) -> str:
        """Why levers are stopped in a domain of the step; empty when they are not. Asked as late as can be: a halt that
        came after the permit still holds. What is begun already goes on to its read-back."""
        if req.permit.purpose != "act":
            return ""
        views = await asyncio.gather(*(self._guard.view(d) for d in req.step.domains or (req.permit.domain,)))
        return next((w for v in views if (w := v.halted or v.breaker)), "")

    def _receipt(self, req: ApplyRequest) -> Receipt:
        return Receipt(
            id=f"r-{digest({'permit': req.permit.id})}",
            permit_id=req.permit.id,
            case=req.case,
            case_workflow_id=req.workflow_id,
            step_id=req.step.id,
            lever=req.step.step.lever,
            target_id=req.target_id,
            domain=req.permit.domain,
            epoch=req.permit.epoch,
            before=req.change.before,
            after=req.change.after,
            blast=req.change.blast,
            domains=req.step.domains,
            acted_at=self._clock(),
        )

    async def _read_back(self, req: ReadBackRequest) -> ReadBack:
        """After an ambiguous or failed act: what stands there? Never writes to the proxy."""
        apply = req.apply
        now = await known(self._actuator.read(apply.permit.domain), 5, self._clock)
        if isinstance(now, Unknown):
            return ReadBack(state="unknown", why=now.why)
        found = {k: now.value.settings.get(k) for k in apply.change.after}
        receipt = self._receipt(apply)
        done = all(apply.change.done(k, v) for k, v in found.items())
        if done and now.value.permit_id != apply.permit.id:
            # Somebody else set the same: a receipt for it would one day take back what was never ours.
            return ReadBack(
                state="unknown", why=f"the settings are those of the change, set by {now.value.permit_id!r}"
            )
        if done:
            with port_failures():
                await self._journal.receive(receipt)
            return ReadBack(state="applied", why="the settings are those of the change", receipt=receipt)
        if found == apply.change.before:
            if now.value.permit_id == apply.permit.id and req.failed != "Permanent" and _shows_late(apply.change):
                # A reboot takes minutes to show, a reset may not have been counted: called "not applied" it would be
                # made once more.
                return ReadBack(
                    state="unknown", why="it was begun under this permit, and the settings are still those of before"
                )
            return ReadBack(state="not_applied", why="the settings are those of before")
        left = sorted(k for k, v in found.items() if v == apply.change.before[k])
        rest = [k for k in found if k not in left]
        if left and now.value.permit_id == apply.permit.id and all(apply.change.done(k, found[k]) for k in rest):
            # Its worker died between two objects. What of it is still on its way is in the receipt as well.
            with port_failures():
                await self._journal.receive(receipt)
            return ReadBack(state="partly", why=f"{', '.join(left)} as before, the rest is changed", receipt=receipt)
        return ReadBack(state="unknown", why=f"the settings are neither before nor after: {found}")


def _shows_late(change: Change) -> bool:
    """True for what a node's own agent does: its effect is seen long after the order, by another's word."""
    return any(key.partition("/")[0] in ("boot", "gpu") for key in change.after)


class TrafficActivities(Acts):
    """The proxy, or the routes that program one."""

    @activity.defn(name="apply_traffic")
    async def apply(self, req: ApplyRequest) -> Receipt:
        """See `Acts`."""
        return await self._apply(req)

    @activity.defn(name="read_back_traffic")
    async def read_back(self, req: ReadBackRequest) -> ReadBack:
        """See `Acts`."""
        return await self._read_back(req)


class ClusterActivities(Acts):
    """The control plane that places replicas."""

    @activity.defn(name="apply_cluster")
    async def apply(self, req: ApplyRequest) -> Receipt:
        """See `Acts`."""
        async with _beating():
            return await self._apply(req)

    @activity.defn(name="read_back_cluster")
    async def read_back(self, req: ReadBackRequest) -> ReadBack:
        """See `Acts`."""
        return await self._read_back(req)


class NodeActivities(Acts):
    """One node's own agent, on the node's own task queue. Read back by the control plane: the node may be down."""

    @activity.defn(name="apply_node")
    async def apply(self, req: ApplyRequest) -> Receipt:
        """See `Acts`."""
        async with _beating():
            return await self._apply(req)


@asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    """Heartbeats while it lasts: when the worker or its machine goes down under it, the server notices in seconds."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(3)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
