"""One domain with its real Guard, cases that ask it, an actuator with a fence, and the oracle beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest, SignalWorkflowExecutionRequest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.adapters.sql import SqlJournal
from activities.adapters.webhook import LogNotify
from activities.attest import AttestActivities
from activities.guard_client import GuardClient
from activities.reaper import ReaperActivities
from activities.turns import TurnActivities
from runbooks.base import digest
from runbooks.change import Blast, Change, Permit, Receipt
from runbooks.claims import SignedClaim, sign
from runbooks.detection import Target, guard_id
from runbooks.facts import GuardView, StandingReceipt
from runbooks.guard import AcquireRequest, Announce, Answer, Release
from runbooks.guard_memory import Memory
from runbooks.people import Ordered
from runbooks.policy import DomainPolicy
from tests import lab as labs
from tests.properties.actor import Actor
from tests.properties.oracle import HOUR, Oracle, Stands
from tests.properties.stage import Stage

QUEUE = "properties"
READING = "the Guard is reading"
AGREE_S = 20.0
"""How long a Guard may take to come to what is right, on a machine that other tests share."""
FORGOTTEN_S = 90.0
"""How long after a Reset: the permit ends, and then its case is asked twice whether it knows of the lock."""
KNOWN = frozenset({"A5"})
"""Faults of the Guard that were found here and are not mended yet: take one out with its mend.

A5: a Reset brings signals before updates, so a halt that came after a permit stands before it, and the permit is forgotten.
Those that were, and are mended:
A1: a release and a new question in one activation let the newcomer pass the queue. A4: a Reset to before the journal
was read answers every question again with "the Guard is reading", and so takes every permit back in silence.
"""
SPEND = Change(before={"k": "in"}, after={"k": "out"}, last=True)


@dataclass
class Case:
    """A case by its outside: a workflow that is alive, or not, and what it was told."""

    name: str
    workflow: str
    run: str
    target: Target
    attempt: int = 0
    last: AcquireRequest | None = None
    permit: Permit | None = None
    wrote: bool = False
    alive: bool = True
    receipts: list[str] = field(default_factory=list)

    @property
    def case(self) -> str:
        """As a Remediation names its first round."""
        return f"{self.workflow}#{self.run[-8:]}.1"

    @property
    def life(self) -> str:
        """What of it a Guard tells apart."""
        return f"{self.workflow}#{self.run[-8:]}"

    @property
    def rid(self) -> str:
        """Id of what stands of it."""
        return f"{self.case}/1"


class Shop:
    """What all domains of one stage share: journal, pages, worker."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.domains: list[str] = []
        self.journal = SqlJournal(f"sqlite:///{stage.folder / 'journal.db'}")
        self.pages = stage.folder / "pages.jsonl"
        self.notify = LogNotify(self.pages)
        self.guards = GuardClient(stage.client, QUEUE)
        stage.employ(self._worker)

    def _worker(self) -> Worker:
        client = self.stage.client
        attest = AttestActivities(client, {"sre-oncall": ("ana", "bo")}, labs.CLAIM_KEY, approvers=("sre-oncall",))
        reaper = ReaperActivities(client, self.journal, self.notify, self.domains)
        return Worker(
            client,
            task_queue=QUEUE,
            workflows=[Actor],
            activities=[
                attest.judge_orders,
                attest.check_order,
                TurnActivities().in_order,
                reaper.recover,
                reaper.remember,
                reaper.describe,
                reaper.reap,
            ],
        )


class Domain:
    """Everything that the rules do, and what is then checked. `look_every_s`: how soon a dead holder is found."""

    def __init__(self, shop: Shop, limits: DomainPolicy, look_every_s: float, settle_s: float = 1.0) -> None:
        self.shop, self.stage = shop, shop.stage
        self.limits, self.settle_s, self.look_every_s = limits, settle_s, look_every_s
        self.name = f"d{len(shop.domains)}-{uuid.uuid4().hex[:6]}"
        shop.domains.append(self.name)
        self.oracle = Oracle(limits, settle_s)
        self.cases: dict[str, Case] = {}
        self.nonces: list[SignedClaim] = []
        self.resets = 0
        self.deaths = 0
        self.trace: list[str] = []
        self.unwritten: list[str] = []

    @property
    def guard(self) -> WorkflowHandle[Any, Any]:
        """The newest run of the Guard."""
        return self.stage.client.get_workflow_handle(guard_id(self.name))

    async def begin(self) -> None:
        """The Guard, and one workflow for each case."""
        await self._start_guard()
        self.targets = {
            "e0": Target(cluster=self.name, service="a", endpoint="e0:1"),
            "e1": Target(cluster=self.name, service="a", endpoint="e1:1"),
            "pool": Target(cluster=self.name, service="a"),
            "node": Target(cluster=self.name, node="n0"),
            "gpu": Target(cluster=self.name, node="n0", gpu="g0"),
            "all": Target(cluster=self.name),
        }
        made = await asyncio.gather(*(self._case(n) for n in self.targets))
        self.cases = {c.name: c for c in made}

    async def _start_guard(self) -> None:
        await self.stage.client.start_workflow(
            "Guard", {"domain": self.name, "look_every_s": self.look_every_s}, id=guard_id(self.name), task_queue=QUEUE
        )
        # It learns the policy's limits by the first question: one that counts nobody.
        wide = Target(cluster=self.name)
        hello = Announce(domain=self.name, workflow_id="w", target=wide, failure_class="x", limits=self.limits)
        await self.guard.execute_update("announce", hello)

    async def _case(self, name: str) -> Case:
        workflow = f"case:{self.name}/{name}"
        handle = await self.stage.client.start_workflow("Actor", id=workflow, task_queue=QUEUE)
        return Case(name, workflow, handle.first_execution_run_id or "", self.targets[name])

    async def end(self) -> None:
        """Nothing of this domain runs on."""
        for handle in [self.guard, *(self.stage.client.get_workflow_handle(c.workflow) for c in self.cases.values())]:
            try:
                await handle.terminate("the sequence is over")
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise

    # --- asking ------------------------------------------------------------------------------------------------------

    def question(self, who: Case, now: datetime, **more: Any) -> AcquireRequest:
        """A new one."""
        who.attempt += 1
        base: dict[str, Any] = {
            "domain": self.name, "case": who.case, "workflow_id": who.workflow, "run_id": who.run, "target": who.target,
            "step_id": "1", "increment": 0, "attempt": who.attempt, "purpose": "act", "lever": "isolate_endpoint",
            "failure_class": "engine.hang", "change_digest": SPEND.digest, "blast": Blast(), "facts_oldest_at": now,
            "seen_epoch": self.oracle.seen, "priority": 5, "settle_s": self.settle_s, "permit_ttl_s": 5.0,
            "max_acts_per_hour": 1000, "attempts": 1000, "cooldown_s": 3600.0, "ineffective_s": 3600.0,
            "limits": self.limits,
        }  # fmt: skip
        return AcquireRequest.model_validate({**base, **more})

    async def asked(self, req: AcquireRequest) -> Answer:
        """The Guard's answer; one that still reads the journal is asked again, under the same key."""
        while True:
            answer: Answer = await self.guard.execute_update("acquire", req, result_type=Answer)
            if not answer.why.startswith(READING):
                return answer

    async def ask(self, who: Case, age_s: float, **more: Any) -> Answer:
        """One question, judged at once."""
        before = await self.stage.now()
        req = self.question(who, before - timedelta(seconds=age_s), **more)
        if req.purpose == "act" and not req.shadow:
            self.oracle.asks(req.workflow_id, req.target, before)
        answer = await self.asked(req)
        after = await self.stage.now()
        right = self.oracle.kinds(req, who.life, (before, after))
        assert answer.kind in right, f"{req.key}: {answer.kind} ({answer.why}) where only {sorted(right)} is right"
        self.oracle.arrivals += 1
        self.take(who, req, answer, before, self.oracle.arrivals)
        return answer

    def take(self, who: Case, req: AcquireRequest, answer: Answer, at: datetime, turn: int) -> None:
        """What the answer means for everybody."""
        self.trace.append(f"    {req.key}: {answer.kind} ({answer.why})")
        who.last = req
        self.stage.counts[f"answers {answer.kind}"] += 1
        self.oracle.answers[req.key] = answer
        if answer.permit is not None:
            permit = answer.permit
            assert permit.epoch > max(self.oracle.epoch, self.oracle.seen), f"epoch {permit.epoch} does not rise"
            assert permit.act_before == req.facts_oldest_at + timedelta(seconds=req.permit_ttl_s)
            assert (permit.domain, permit.case, permit.change_digest) == (self.name, req.case, req.change_digest)
            self.oracle.grant(req, who.life, permit.epoch, at)
            self.oracle.within_budget()
            who.permit = permit
        elif answer.kind == "queued":
            self.oracle.enqueue(req, who.life, turn)
        elif answer.kind == "shadow":
            self.oracle.shadowed(req, at)

    async def ask_again(self, who: Case) -> None:
        """A retry: the same answer, or that its permit was given back."""
        req = who.last
        if req is None or req.key not in self.oracle.answers:
            return
        first, holder = self.oracle.answers[req.key], self.oracle.holder
        again = await self.asked(req)
        mine = holder == (who.workflow, who.life) and first.permit is not None
        if first.permit is None or (mine and first.permit.epoch == self.oracle.epoch):
            # A Reset decides anew, by its own clock: what it says of times is another word for the same answer.
            said = (again.kind, again.permit), (first.kind, first.permit)
            assert (said[0] == said[1]) if self.resets else (again == first), f"{req.key}: {again} is not {first}"
        else:
            assert (again.kind, again.permit) == ("refused", None), f"{req.key}: given back, and now {again}"

    async def at_once(self, asking: list[tuple[Case, dict[str, Any]]], frees: Case | None) -> None:
        """Several cases in the same moment, while one gives back. No order is known; what may never be still is checked."""
        before = await self.stage.now()
        waited = list(self.oracle.first(self.alive()))
        held = self.oracle.holder
        freed = frees is not None and held == (frees.workflow, frees.life)
        reqs = [(who, self.question(who, before, **more)) for who, more in asking]
        stopped, fresh = self.oracle.halted or self.oracle.breaker, self._fresh(before)
        for _, req in reqs:
            if req.purpose == "act":
                self.oracle.asks(req.workflow_id, req.target, before)

        back = [self._back(frees, before, applied=False)] if frees is not None else []
        answers = (await asyncio.gather(asyncio.gather(*back), asyncio.gather(*(self.asked(r) for _, r in reqs))))[1]
        self.oracle.arrivals += 1
        permits = []
        for (who, req), answer in zip(reqs, answers, strict=True):
            if answer.permit is not None:
                permits.append((who, req))
                assert held in (None, (who.workflow, who.life)) or freed, f"{req.key} was granted beside {held}"
                assert not (stopped and req.purpose == "act"), f"{req.key} was granted while stopped: {answer}"
                assert fresh, f"{req.key} was granted on facts from before the last change"
                own = held == (who.workflow, who.life)
                early = [t for t in waited if t.workflow != who.workflow]
                assert "A1" in KNOWN or own or not early or who.workflow in {t.workflow for t in waited}, (
                    f"{req.key} was granted before {early[0].workflow}, who has waited"
                )
        assert len(permits) <= 1, f"granted at once: {[r.key for _, r in permits]}"
        if freed and frees is not None:
            self._released(frees, applied=False)
        for (who, req), answer in sorted(zip(reqs, answers, strict=True), key=lambda p: p[1].permit is None):
            self.take(who, req, answer, before, self.oracle.arrivals)

    def _fresh(self, at: datetime) -> bool:
        last = self.oracle.last_change
        return last is None or at >= last + timedelta(seconds=self.settle_s)

    async def announce(self, who: Case) -> None:
        """A case that may not act yet."""
        before = await self.stage.now()
        req = self.question(who, before)
        self.oracle.asks(who.workflow, who.target, before)
        what = Announce(
            domain=self.name,
            workflow_id=who.workflow,
            target=who.target,
            failure_class="engine.hang",
            limits=self.limits,
        )
        answer: Answer = await self.guard.execute_update("announce", what, result_type=Answer)
        right = {self.oracle._member(req, t) for t in (before, await self.stage.now())}
        assert (answer.kind == "correlated") in right, f"{who.workflow} announced itself: {answer}"

    # --- acting and giving back --------------------------------------------------------------------------------------

    async def write(self, who: Case) -> None:
        """The actuator, with its fence, and the journal."""
        permit = who.permit
        if permit is None or permit.epoch <= self.oracle.seen:
            return
        receipt = Receipt(
            id=f"r-{digest({'permit': permit.id})}-{self.name}", permit_id=permit.id, case=who.case,
            case_workflow_id=who.workflow, step_id="1", lever="isolate_endpoint", target_id=who.target.id,
            domain=self.name, epoch=permit.epoch, before=SPEND.before, after=SPEND.after, acted_at=await self.stage.now(),
        )  # fmt: skip
        assert await self.shop.journal.intend(permit, SPEND, receipt)
        await self.shop.journal.receive(receipt)
        self.oracle.seen = permit.epoch
        who.wrote = True
        who.receipts.append(receipt.id)

    async def give_back(self, who: Case, keep: bool, ineffective: bool = False, bad: bool = False) -> None:
        """As a case does after its increment: it stands, or it was taken back, or nothing was done."""
        now = await self.stage.now()
        applied = who.wrote
        if applied and not keep:
            for receipt in who.receipts:
                await self.shop.journal.settle(receipt, "undone", "itself")
            who.receipts.clear()
        holds = self.oracle.holder == (who.workflow, who.life)
        remedy = f"isolate_endpoint|{who.target.id}|engine.hang" if ineffective else ""
        await self._back(who, now, applied, keep, remedy, "it did harm" if bad else "")
        if who.receipts:
            old = self.oracle.standing.get(who.rid)
            acting = holds and not self.oracle.turn_only
            target = who.target if acting else old.target if old is not None else None
            self.oracle.standing[who.rid] = Stands(who.workflow, target)
        else:
            self.oracle.standing.pop(who.rid, None)
        if applied:
            self.oracle.changed(now)
        if remedy:
            self.oracle.ineffective[remedy] = now + timedelta(seconds=3600)
        if bad:
            self.oracle.ended_badly(now)
        who.wrote = False
        self._released(who, applied)

    async def _back(
        self, who: Case, now: datetime, applied: bool, keep: bool = True, ineffective: str = "", bad: str = ""
    ) -> None:
        stands = None
        if who.receipts:
            stands = StandingReceipt(
                receipt_id=who.rid, case=who.case, lever="isolate_endpoint", target_id=who.target.id, since=now
            )
        back = Release(
            case=who.case, workflow_id=who.workflow, applied=applied, stands=stands,
            removed=() if stands else (who.rid,), ineffective=ineffective, bad=bad, at=now,
        )  # fmt: skip
        await self.guard.signal("release", back)

    def _released(self, who: Case, applied: bool = True) -> None:
        if self.oracle.holder == (who.workflow, who.life):
            if not applied and not self.oracle.turn_only:
                self.oracle.unused()
            self.oracle.holder = self.oracle.lock_act = None
        self.oracle.queue = [t for t in self.oracle.queue if t.workflow != who.workflow or t.life != who.life]
        who.permit = None

    async def settled(self, rid: str) -> None:
        """A person has taken it back or owns it for good."""
        low = await self.stage.now()
        await self.guard.signal("settled", rid)
        owner = next((c for c in self.cases.values() if c.rid == rid), None)
        if owner is not None:
            for receipt in owner.receipts:
                await self.shop.journal.settle(receipt, "undone", "ana")
            owner.receipts.clear()
        self.oracle.standing.pop(rid, None)
        await self._moved(low)

    async def _moved(self, low: datetime) -> None:
        """The Guard itself has stamped a change: not before `low`."""

        async def stamped() -> bool:
            at = (await self.view()).last_change_at
            return at is not None and at >= low

        await labs.until(stamped, "the Guard has taken the change in", AGREE_S)
        at = (await self.view()).last_change_at
        assert at is not None
        self.oracle.last_change = at

    # --- people ------------------------------------------------------------------------------------------------------

    async def raw(self, signal: str, *payloads: tuple[bytes, bytes], identity: str = "") -> None:
        """A signal as bytes."""
        await self.stage.client.workflow_service.signal_workflow_execution(
            SignalWorkflowExecutionRequest(
                namespace=self.stage.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=guard_id(self.name)),
                signal_name=signal,
                input=Payloads(payloads=[Payload(metadata={"encoding": e}, data=d) for e, d in payloads]),
                identity=identity,
                request_id=str(uuid.uuid4()),
            )
        )

    async def halt(self, how: str) -> None:
        """Whatever it looks like, it halts."""
        forms = {
            "good": [(b"json/plain", json.dumps({"who": "ana", "reason": "x"}).encode())],
            "text": [(b"json/plain", b'"stop"')],
            "broken": [(b"json/plain", b'{"reason": ')],
            "bytes": [(b"binary/plain", b"\xff\x00")],
            "nothing": [],
        }
        await self.raw("halt", *forms[how])
        self.oracle.halted = True

    def claim(self, action: str, **more: Any) -> SignedClaim:
        """As our API makes it."""
        base: dict[str, Any] = {
            "case": guard_id(self.name), "action": action, "who": "ana", "groups": (), "reason": "seen",
            "exp": int(time.time()) + 60, "iat": time.time(), "nonce": uuid.uuid4().hex,
        }  # fmt: skip
        return sign(SignedClaim.model_validate({**base, **more}), labs.CLAIM_KEY)

    async def order(self, action: str, flaw: str) -> None:
        """By a claim. Only the flawless one changes anything."""
        flaws: dict[str, dict[str, Any]] = {
            "none": {}, "group": {"who": "eve"}, "late": {"exp": int(time.time()) - 1}, "other": {"case": "guard:other"},
        }  # fmt: skip
        claim = self.claim(action, **flaws.get(flaw, {}))
        if flaw == "forged":
            claim = claim.model_copy(update={"who": "bo"})
        if flaw == "used":
            if not self.nonces:
                return
            claim = self.nonces[-1]
        low = await self.stage.now()
        try:
            done: Ordered = await self.guard.execute_update("order", claim, result_type=Ordered)
            took = done.accepted
        except WorkflowUpdateFailedError:
            took = False
        assert took == (flaw == "none"), f"{action} with flaw {flaw}: {'taken' if took else 'refused'}"
        if flaw != "used":
            self.nonces.append(claim)
        if took:
            self.oracle.resumed = (await self.view()).resumed_at
            assert self.oracle.resumed is not None
            assert self.oracle.resumed >= low
        if took and action == "resume":
            self.oracle.halted = False
        elif took:
            self.oracle.reset_breaker(low)

    async def doorbell(self, action: str, identity: str) -> None:
        """A signal: on this server nobody's word is verified, so nothing may change."""
        await self.raw(action, (b"json/plain", b'{"reason": "please"}'), identity=identity)

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    async def dies(self, who: Case) -> None:
        """Terminated in the UI: whatever it held or left is found, and people are told before anybody else acts."""
        handle = self.stage.client.get_workflow_handle(who.workflow, run_id=who.run)
        held = self.oracle.holder == (who.workflow, who.life)
        acted = held and not self.oracle.turn_only
        owns = [r for r, s in self.oracle.standing.items() if s.owner == who.workflow] or bool(who.receipts)
        low = await self.stage.now()
        await handle.terminate("a hostile test")
        who.alive = False
        self.deaths += 1
        if not held and not owns:
            return
        if not held and not self.oracle.standing:
            return  # nobody looks at an idle domain; the journal still knows it
        if self.stage.skipping:
            await self.stage.environment.sleep(timedelta(seconds=2 * self.look_every_s))
        if acted or any(s.owner == who.workflow for s in self.oracle.standing.values()):
            await labs.until(lambda: self._told(who), f"people are told of {who.workflow}", AGREE_S)
        if acted:
            await self._moved(low)
        if held:
            self._released(who)
        if acted:
            left = bool(who.receipts)
            if left:
                self.oracle.standing.setdefault(who.rid, Stands(who.workflow, who.target))
                self.oracle.standing[who.rid].target = who.target
        for stands in self.oracle.standing.values():
            if stands.owner == who.workflow:
                stands.owner = f"people:{who.workflow}"

    async def _told(self, who: Case) -> bool:
        found = self.shop.pages.read_text().splitlines() if self.shop.pages.exists() else []
        return any(json.loads(line)["title"].startswith(who.workflow + " ended") for line in found)

    async def comes_back(self, who: Case) -> None:
        """A new alert starts the same workflow id: another case."""
        new = await self._case(who.name)
        self.cases[who.name] = new

    async def cancel_guard(self) -> None:
        """In the UI. Asked for again: refused by the server, or not, as it likes."""
        with contextlib.suppress(RPCError):
            await self.guard.cancel()

    async def lose_guard(self) -> None:
        """Terminated. The journal and the actuator still know what stands, how high, and what the Guard must not forget: its
        queue and its answers are gone, and cases ask again."""
        try:
            await labs.until(self._written_down, "what the Guard knows is in the journal")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.unwritten}") from None
        await self.guard.terminate("a hostile test")
        low = await self.stage.now()
        old = self.oracle
        self.oracle = replace(old, queue=[], answers={}, standing={})
        for case in self.cases.values():
            if case.receipts:
                self.oracle.standing[case.rid] = Stands(case.workflow, case.target)
        for rid, stands in old.standing.items():
            if stands.owner.startswith("people:"):
                self.oracle.standing.setdefault(rid, stands)
                self.oracle.standing[rid].owner = stands.owner.removeprefix("people:")
        await self._start_guard()
        if self.oracle.standing:
            await self._moved(low)

    async def _written_down(self) -> bool:
        view: GuardView = await self.guard.query("view", result_type=GuardView)
        kept = await self.shop.journal.remembered(self.name)
        memory = Memory.model_validate_json(kept[1]) if kept is not None else Memory(domain=self.name)
        since = await self.stage.now() - HOUR
        newest = max(self.oracle.askers, key=lambda w: self.oracle.askers[w][2], default=None)
        asker = memory.asking.askers.get(newest or "")
        pairs: dict[str, tuple[object, object]] = {
            "halted": (memory.halted, view.halted),
            "the breaker": (memory.book.breaker, view.breaker),
            "the holder": (memory.lock and memory.lock.workflow_id, view.holder),
            "the last change": (memory.last_change_at, view.last_change_at),
            "the resume": (memory.resumed_at, view.resumed_at),
            "acts": (len(memory.book.real(since)), view.acts_last_hour),
            "dirty": (memory.dirty, view.dirty),
            "its last grant": (memory.epoch >= self.oracle.epoch, True),
            "who asked last": (
                newest is None or (asker is not None and asker.at >= self.oracle.askers[newest][2]),
                True,
            ),
        }
        self.unwritten = [
            f"{what}: {kept_} in the journal, not {is_}" for what, (kept_, is_) in pairs.items() if kept_ != is_
        ]
        return not self.unwritten

    async def reset_guard(self, back: int) -> None:
        """The UI's Reset, to one of its workflow tasks; what came in since is applied again."""
        if self.oracle.queue and self.oracle.correlated(await self.stage.now()):
            # Reset to its first task it reads the journal again, which knows whose faults are one by now: who was queued before
            # that was known is told so this time. Its case asks again in any case, and loses nothing.
            return
        self.resets += 1
        tasks = []
        run = (await self.guard.describe()).run_id
        async for event in self.stage.client.get_workflow_handle(self.guard.id, run_id=run).fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                tasks.append(event.event_id)
            if "A4" in KNOWN and event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                tasks.clear()
        if not tasks:
            return  # it has not begun yet
        await self.stage.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=self.stage.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=self.guard.id, run_id=run),
                reason="a hostile test",
                workflow_task_finish_event_id=tasks[-1 - min(back, len(tasks) - 1)],
                request_id=str(uuid.uuid4()),
                reset_reapply_type=ResetReapplyType.RESET_REAPPLY_TYPE_ALL_ELIGIBLE,
            )
        )

        async def renewed() -> bool:
            return (await self.guard.describe()).run_id != run

        await labs.until(renewed, "the Guard goes on as another run")
        if (stamped := self.oracle.last_change) is not None:
            # What it stamps by its own clock is stamped later now: facts must be newer than before, which is the safe side.
            at = (await self.view()).last_change_at
            self.oracle.last_change = max(stamped, at or stamped)
        if self.oracle.resumed is not None:
            self.oracle.resumed = (await self.view()).resumed_at or self.oracle.resumed
        # Signals come before updates then: what was given back may be granted once more, and its case does not know of it.
        await self._tell_who_rests(lambda who: (who.workflow, who.life) != self.oracle.holder)
        await self.agree(FORGOTTEN_S)
        await self._tell_who_rests(lambda who: False)

    async def _tell_who_rests(self, rests: Callable[[Case], bool]) -> None:
        for who in self.cases.values():
            if who.alive:
                await self.stage.client.get_workflow_handle(who.workflow).signal("rests", rests(who))

    async def noise(self, count: int) -> None:
        """Signals that change nothing: enough of them make the Guard continue as new."""
        now = await self.stage.now()
        back = Release(case="nobody#0", workflow_id="nobody", applied=False, at=now)
        for start in range(0, count, 50):
            await asyncio.gather(*(self.guard.signal("release", back) for _ in range(start, min(start + 50, count))))

    # --- what must then be so ----------------------------------------------------------------------------------------

    def alive(self) -> set[tuple[str, str]]:
        """Cases that can take news."""
        return {(c.workflow, c.life) for c in self.cases.values() if c.alive}

    async def view(self) -> GuardView:
        """The Guard's own word."""
        for _ in range(3):
            with contextlib.suppress(RPCError):
                return await self._view()
            # Slow on a busy machine, or its worker has just crashed. A Guard that cannot be replayed says so each time.
        return await self._view()

    async def _view(self) -> GuardView:
        found: GuardView = await self.guard.query("view", result_type=GuardView)
        return found

    async def agree(self, limit_s: float = AGREE_S) -> None:
        """Nothing acknowledged is lost: the Guard comes to say what the oracle says, and whose turn it is holds the lock."""
        last: list[str] = []

        async def same() -> bool:
            last[:] = self._differences(await self.view(), await self.stage.now())
            return not last

        try:
            await labs.until(same, "Guard and oracle agree", limit_s)
        except AssertionError:
            raise AssertionError(f"Guard and oracle disagree for {limit_s:g} s: {'; '.join(last)}") from None
        await self._turn()

    async def _turn(self) -> None:
        if self.oracle.holder is None and self.oracle.queue:
            view = await self.view()
            first = self.oracle.first(self.alive())
            took = next((t for t in first if t.workflow == view.holder), None)
            if took is not None:
                self.oracle.holder, self.oracle.turn_only = (took.workflow, took.life), True
            self.oracle.queue = [t for t in self.oracle.queue if t is not took and (t.workflow, t.life) in self.alive()]

    def _differences(self, view: GuardView, now: datetime) -> list[str]:
        oracle, out = self.oracle, []

        def must(what: str, is_so: object, should: object) -> None:
            if is_so != should:
                out.append(f"{what} is {is_so!r}, not {should!r}")

        must("halted", bool(view.halted), oracle.halted)
        must("the breaker", bool(view.breaker), oracle.breaker)
        must("dirty", bool(view.dirty), False)
        must("what stands", sorted(s.receipt_id for s in view.standing), sorted(oracle.standing))
        # Only a Reset stamps it anew, and later: the safe side, since facts must then be newer still.
        found, least = view.last_change_at, oracle.last_change
        later = self.resets and found is not None and least is not None and found > least
        if found != least and not later:
            out.append(f"the last change is {found}, not {least}")
        hour = [a for a in oracle.acts if not a.shadow and a.at > now - timedelta(hours=1)]
        must("acts in the last hour", view.acts_last_hour, len(hour))
        must("endpoints spent", sum(view.spent.endpoints.values()), sum(a.endpoints for a in hour))
        until = {k: t for k, t in oracle.ineffective.items() if t > now}
        must("what did not help", set(view.ineffective), set(until))
        if oracle.holder is not None:
            must("the holder", view.holder, oracle.holder[0])
            # A dead case's ticket is passed over only when its turn comes.
            waits = sum((t.workflow, t.life) in self.alive() for t in oracle.queue)
            if not waits <= view.queue <= waits + self.deaths:
                out.append(f"the queue is {view.queue}, and {waits} wait that are alive")
        elif first := oracle.first(self.alive()):
            if view.holder not in {t.workflow for t in first}:
                out.append(f"the lock is with {view.holder}, and it is the turn of {[t.workflow for t in first]}")
        else:
            must("the holder", view.holder, None)
        return out
