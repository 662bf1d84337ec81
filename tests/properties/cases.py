"""Two domains of one small fleet with real Guards and real Remediations, and the audit of what they did to it."""

from __future__ import annotations

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, ResetReapplyType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker

from activities.adapters.sql import SqlJournal
from activities.adapters.webhook import LogNotify
from activities.facts import Gatherer
from activities.guard_client import GuardClient
from runbooks.claims import sign
from runbooks.detection import Detection, Target, guard_id, member, summary_of
from runbooks.facts import GuardView
from runbooks.gates.healthy import minimum
from runbooks.guard import Release
from runbooks.library import Library, load_library
from runbooks.people import Attested
from runbooks.policy import ClassPolicy, LeverPolicy, Policy, Timing
from tests import lab as labs
from tests.properties.hands import claim_of
from tests.properties.stage import Stage
from tests.properties.world import Grants, WatchedGuards, WatchedSafety, World, Write, fleet_of, now
from tests.unbounded import UNBOUNDED
from worker.wiring import Ports, activities_over

CLASSES = ("engine.hang", "engine.crash", "engine.exhaustion")
ALERTS = {"hang": "EngineHang", "lost": "PoolEnginesLost", "full": "EngineExhausted"}


def soon(library: Library) -> Library:
    """Soaks of half a second."""

    def faster(step: Any) -> Any:
        if step.verify is None:
            return step
        verify = step.verify.model_copy(update={"soak_s": 0.3, "every_s": 0.1, "deadline_s": 2.0, "min_samples": 2})
        restore = step.restore.model_copy(update={"clear_for_s": 0.3, "every_s": 0.1})
        return step.model_copy(update={"verify": verify, "restore": restore})

    books = {n: b.model_copy(update={"steps": tuple(faster(s) for s in b.steps)}) for n, b in library.runbooks.items()}
    return library.model_copy(update={"runbooks": books})


def rules(mode: str, correlate: int) -> Policy:
    """`two`: asks two people. `breaker`: two bad outcomes trip it."""
    ask: dict[str, Any] = {"mode": "auto" if mode in ("auto", "breaker") else "ask", "approval_ttl_s": 2.0}
    if mode == "two":
        ask["quorum"] = 2
    wide: dict[str, Any] = {"max_acts_per_hour": 1000, "attempts": 1000, "ineffective_s": 1.0}
    limits: dict[str, Any] = {"correlate_targets": correlate, "correlate_quiet_s": 2.0}
    if mode == "breaker":
        limits |= {"breaker_bad": 2, "breaker_acts": 6}
    return Policy(
        name="property",
        default=ClassPolicy.model_validate(ask),
        levers={
            "isolate_endpoint": LeverPolicy(max_endpoints_down=2, max_share_down=0.7, **wide),
            "reroute_traffic": LeverPolicy(largest_increment=0.5, **wide),
            "shed_load": LeverPolicy(largest_increment=1.0, **wide),
        },
        domain=UNBOUNDED.model_copy(update=limits),
        min_answering=0.5,
        timing=Timing(
            scrape_period_s=2.5,
            settle_s=0.1,
            permit_ttl_s=5.0,
            hold_s=0.2,
            hold_limit_s=2.0,
            linger_s=0,
            replan_after_s=5,
        ),
        groups={"sre-oncall": ("ana", "bo")},
    )


@dataclass
class Accepted:
    """A detection that the server took."""

    at: datetime
    detection: Detection


@dataclass
class Site:
    """Everything of one sequence. `offset_s`: how far the clock of its worker's activities is off."""

    stage: Stage
    folder: Path
    policy: Policy
    offset_s: float = 0.0
    accepted: list[Accepted] = field(default_factory=list)
    ended: dict[str, datetime] = field(default_factory=dict)
    cancelled: dict[str, datetime] = field(default_factory=dict)
    lost_guards: list[tuple[str, datetime]] = field(default_factory=list)
    opened: set[str] = field(default_factory=set)
    claims: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = uuid.uuid4().hex[:6]
        self.east, self.west, self.queue = f"e{name}", f"w{name}", f"q{name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.world = World(fleet_of(self.east, self.west))
        self.journal = SqlJournal(f"sqlite:///{self.folder / f'{name}.db'}")
        self.pages = self.folder / f"{name}.jsonl"
        self.notify = LogNotify(self.pages)
        self.grants = Grants()
        self.library = soon(load_library(None))

    @property
    def domains(self) -> tuple[str, ...]:
        """Both."""
        return (self.east, self.west)

    def clock(self) -> datetime:
        """The worker's."""
        return now() + timedelta(seconds=self.offset_s)

    def worker(self) -> Worker:
        """All activities of Interlock over the world."""
        client, world, clock, fleet = self.stage.client, self.world, self.clock, self.world.fleet
        guard = WatchedGuards(client, self.queue)
        guard.grants = self.grants
        gatherer = Gatherer(world, world, clock, fleet=fleet)
        safety = WatchedSafety(world, gatherer, guard, self.policy, fleet, self.journal, None, clock)
        safety.grants = self.grants
        ports = Ports(
            traffic=world, metrics=world, prober=world, notify=self.notify, journal=self.journal, guard=guard, clock=clock,
        )  # fmt: skip
        shipped = activities_over(ports, client, fleet, self.policy, self.library, labs.CLAIM_KEY, self.queue)
        others = [a for a in shipped if a.__name__ != "check"]
        return Worker(client, task_queue=self.queue, activities=[*others, safety.check])

    async def begin(self) -> None:
        """Both Guards."""
        for domain in self.domains:
            await self._start_guard(domain)

    async def _start_guard(self, domain: str) -> None:
        await self.stage.client.start_workflow(
            "Guard", {"domain": domain, "look_every_s": 0.4}, id=guard_id(domain), task_queue=self.queue
        )

    # --- detectors ---------------------------------------------------------------------------------------------------

    def target(self, what: str) -> Target:
        """`a0:80`: an endpoint; `a`: its pool; `east`: the domain."""
        if what == "east":
            return Target(cluster=self.east)
        pool = self.world.fleet.pool(what[0])
        assert pool is not None
        return Target(cluster=pool.cluster, service=pool.name, endpoint=what if ":" in what else None)

    async def detect(self, what: str, kind: str, status: str = "firing", skew_s: float = 0.0) -> None:
        """As the intake delivers it."""
        target, at = self.target(what), now()
        known: dict[str, dict[str, Any]] = {
            "hang": {"generations_failed": 3, "generations_ok": 0, "siblings_ok": 2, "tokens_rising": False},
            "lost": {"endpoints": 4, "answering": 1},
            "full": {"queue": 9.0},
        }
        detection = Detection.model_validate(
            {
                "alert": ALERTS[kind], "target": target, "severity": "critical", "status": status, "evidence": known[kind],
                "started_at": at, "observed_at": at + timedelta(seconds=skew_s), "received_at": at, "detector": "test",
            }
        )  # fmt: skip
        await self.stage.client.start_workflow(
            "Remediation",
            detection,
            id=detection.workflow_id,
            static_summary=summary_of(target),
            task_queue=self.queue,
            start_signal="detect",
            start_signal_args=[detection],
        )
        self.opened.add(detection.workflow_id)
        self.accepted.append(Accepted(now(), detection))

    def case(self, what: str) -> WorkflowHandle[Any, Any]:
        """Its newest run."""
        return self.stage.client.get_workflow_handle(f"remediate:{self.target(what).id}")

    async def status(self, handle: WorkflowHandle[Any, Any]) -> dict[str, Any] | None:
        """None: there is no such case, or it has closed."""
        for attempt in (1, 2, 3):
            try:
                if (await handle.describe()).close_time is not None:
                    return None
                found: dict[str, Any] = await handle.query("status")
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    return None
                slow = error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED)
                if not slow or attempt == 3:  # a worker that has just crashed, on a busy machine
                    raise
            else:
                return found
        return None

    # --- people ------------------------------------------------------------------------------------------------------

    async def decide(self, what: str, who: str, how: str) -> None:
        """Of the waiting step; flawed as `how` says."""
        handle = self.case(what)
        status = await self.status(handle)
        if status is None or not status["waiting"]:
            return
        step, digest = status["waiting"]["step"], status["waiting"]["digest"]
        if how == "unverified":
            await handle.signal("decide", {"step": step, "plan": digest, "decision": "approve", "reason": "x"})
            return
        word = how if how in ("reject", "withdraw") else "approve"
        plan = "0" * 8 if how == "digest" else digest
        claim = claim_of(handle.id, "decide", who, step=step, digest=plan, decision=word)
        if how == "forged":
            claim = claim.model_copy(update={"who": "bo" if who != "bo" else "ana"})
        if how == "again" and self.claims:
            claim = self.claims[-1]
        self.claims.append(claim)
        took = await self._update(handle, "decide", claim)
        if how in ("digest", "forged") or who == "eve":
            assert not took, f"a decision with flaw {how} of {who} was taken"

    async def _update(self, handle: WorkflowHandle[Any, Any], name: str, claim: Any) -> bool:
        try:
            answer: Attested = await handle.execute_update(name, claim, result_type=Attested)
        except WorkflowUpdateFailedError:
            return False
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return answer.accepted

    async def say(self, what: str, action: str, who: str) -> None:
        """takeover, hand_back or abort."""
        handle = self.case(what)
        if await self.status(handle) is None:
            return
        took = await self._update(handle, action, claim_of(handle.id, action, who))
        assert not (took and who == "eve"), f"{action} of a stranger was taken"

    async def halt(self, domain: str) -> None:
        """All levers of a domain."""
        await self.stage.client.get_workflow_handle(guard_id(domain)).signal("halt", {"who": "ana", "reason": "x"})

    async def order(self, domain: str, action: str) -> None:
        """By a verified person."""
        handle = self.stage.client.get_workflow_handle(guard_id(domain))
        try:
            await handle.execute_update("order", claim_of(handle.id, action, "ana"))
        except WorkflowUpdateFailedError:
            assert self.offset_s, "a genuine order was refused"  # a worker whose clock is off calls it expired

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    async def terminate(self, what: str) -> None:
        """In the UI."""
        handle = self.case(what)
        if await self.status(handle) is not None:
            self.ended[handle.id] = now()
            await self._gone(handle.terminate("a hostile test"))

    async def cancel(self, what: str) -> None:
        """In the UI. It writes its record, and whoever looks after its lock finds it closed."""
        handle = self.case(what)
        if await self.status(handle) is not None:
            self.cancelled.setdefault(handle.id, now())
            await self._gone(handle.cancel())

    async def cancel_guard(self, domain: str) -> None:
        """In the UI: a Guard does not mind."""
        await self._gone(self.stage.client.get_workflow_handle(guard_id(domain)).cancel())

    async def _gone(self, work: Any) -> None:
        try:
            await work
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    async def lose_guard(self, domain: str) -> None:
        """Terminated; the next one starts from the journal."""
        self.lost_guards.append((domain, now()))
        await self._gone(self.stage.client.get_workflow_handle(guard_id(domain)).terminate("a hostile test"))
        await self._start_guard(domain)

    async def reset(self, workflow: str, back: int) -> None:
        """The UI's Reset, to one of its workflow tasks."""
        handle = self.stage.client.get_workflow_handle(workflow)
        try:
            found = await handle.describe()
        except RPCError:
            return
        if found.close_time is not None:
            return
        tasks = []
        async for event in self.stage.client.get_workflow_handle(workflow, run_id=found.run_id).fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                tasks.append(event.event_id)
        if tasks:
            request = ResetWorkflowExecutionRequest(
                namespace=self.stage.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=workflow, run_id=found.run_id),
                reason="a hostile test",
                workflow_task_finish_event_id=tasks[-1 - min(back, len(tasks) - 1)],
                request_id=str(uuid.uuid4()),
                reset_reapply_type=ResetReapplyType.RESET_REAPPLY_TYPE_ALL_ELIGIBLE,
            )
            await self._gone(self.stage.client.workflow_service.reset_workflow_execution(request))

    # --- the end -----------------------------------------------------------------------------------------------------

    async def over(self) -> None:
        """All faults end, all alerts resolve, nobody holds anything up: every case must close."""
        self.offset_s = 0.0
        self.world.trouble.clear()
        for address in list(self.world.sick):
            self.world.fault(address, False)
        self.world.demand = {"one": 120.0, "two": 90.0}
        for domain in self.domains:
            await self.order(domain, "resume")
            await self.order(domain, "reset_breaker")
        for workflow in sorted(self.opened):
            what = self._what(workflow)
            status = await self.status(self.case(what))
            if status is not None and status.get("taken_by"):
                await self.say(what, "hand_back", "ana")
            for kind in ALERTS:
                told = {a.detection.key for a in self.accepted if a.detection.workflow_id == workflow}
                if any(a.detection.alert == ALERTS[kind] for a in self.accepted if a.detection.key in told):
                    await self.detect(what, kind, "resolved")
        wide = f"remediate:{self.east}", f"remediate:{self.west}"
        for domain_case in wide:
            handle = self.stage.client.get_workflow_handle(domain_case)
            status = await self.status(handle)
            for raw in (status or {}).get("record", {}).get("detections", []):
                said = Detection.model_validate(raw)
                over = said.model_copy(update={"status": "resolved", "observed_at": now()})
                await self._gone(handle.signal("detect", over))  # it may close meanwhile
        waiting: list[str] = []

        async def closed() -> bool:
            waiting.clear()
            for workflow in (*sorted(self.opened), *wide):
                status = await self.status(self.stage.client.get_workflow_handle(workflow))
                if status is not None:
                    waiting.append(f"{workflow}: {status['state']}, {_tail(status)}")
            return not waiting

        try:
            await labs.until(closed, "all cases close", 90)
        except AssertionError:
            raise AssertionError("not closed within 90 s after all faults ended:\n" + "\n".join(waiting)) from None

    def _what(self, workflow: str) -> str:
        parts = workflow.removeprefix("remediate:").split("/")
        return parts[4] if len(parts) > 4 else parts[2] if len(parts) > 2 else "east"

    async def end(self) -> None:
        """Nothing runs on."""
        wide = [f"remediate:{d}" for d in self.domains]
        for workflow in (*self.opened, *wide, *(guard_id(d) for d in self.domains)):
            await self._gone(self.stage.client.get_workflow_handle(workflow).terminate("the sequence is over"))
        self.journal.dispose()

    # --- the audit: invariants 1 to 6 of the design ------------------------------------------------------------------

    async def audit(self) -> None:
        """After `over`."""
        told = [json.loads(line) for line in self.pages.read_text().splitlines()] if self.pages.exists() else []
        records = [json.loads(r) for r in await self.journal.cases(1000)]
        self.stage.counts["cases closed"] += len(records)
        self.stage.counts["writes audited"] += len(self.world.writes)
        self._nothing_lost(records)
        self._permits()
        self._healthy_at_every_instant()
        await self._one_case_at_a_time()
        await self._owned(records, told)

    def _nothing_lost(self, records: list[dict[str, Any]]) -> None:
        """1: every accepted detection is in a closed case's record."""
        for one in self.accepted:
            workflow = one.detection.workflow_id
            ended = self.ended.get(workflow)
            if one.detection.status == "resolved":
                continue  # what comes while a case closes asks for nothing any more, and no record waits for it
            if ended is not None and one.at <= ended + timedelta(seconds=0.5):
                continue  # ended by a person's hand in the UI: that case wrote no record
            # What is said while a case hands itself over is in the record of the domain's.
            wide = member(one.detection, Target(cluster=one.detection.target.domain))
            known = {workflow: one.detection.key, wide.workflow_id: wide.key}
            said = [
                (r, Detection.model_validate(d)) for r in records if r["workflow_id"] in known for d in r["detections"]
            ]
            assert any(
                d.key == known[r["workflow_id"]] and d.seen_at >= one.detection.seen_at  # its clock may run ahead
                for r, d in said
            ), f"{one.detection.alert} ({one.detection.status}) of {workflow}, accepted {one.at}, is in no record"

    def _permits(self) -> None:
        """2 and 3: each write has its own, unexpired permit of the then current epoch, from facts newer than the last change."""
        seen: set[str] = set()
        last: dict[str, Write] = {}
        for write in self.world.writes:
            permit, domain = write.permit, write.permit.domain
            assert permit.id not in seen, f"permit {permit.id} wrote twice"
            seen.add(permit.id)
            assert write.at <= permit.act_before + timedelta(seconds=0.1), f"{permit.id} had expired"
            before = last.get(domain)
            assert before is None or before.permit.epoch < permit.epoch, f"{permit.id} has no rising epoch"
            for at, other in self.grants.order:
                newer = (
                    other.domain == domain and other.epoch > permit.epoch and at < write.at - timedelta(seconds=0.05)
                )
                assert not (newer and _life(other.case) != _life(permit.case)), (
                    f"{permit.id} of {permit.case} wrote at {write.at}, after {other.id} of {other.case} was granted"
                )
            began = self.grants.began.get(permit.id)
            assert began is None or before is None or began >= before.at, (
                f"{permit.id} wrote on facts read from {began}, and {before.permit.id} wrote at {before.at}"
            )
            last[domain] = write

    def _healthy_at_every_instant(self) -> None:
        """4: minimum healthy and blast radius, all cases and all that stands together."""
        for write in self.world.writes:
            if write.permit.purpose != "act":
                continue
            for key, value in write.change.after.items():
                family, first, *_ = key.split("/")
                if family == "endpoint" and value == "out":
                    pool = self.world.fleet.pool(first)
                    assert pool is not None
                    least = minimum(self.policy, pool.size)
                    recent = [f for f in self.world.faults if write.at - timedelta(seconds=6) <= f[0] <= write.at]
                    fell = sum(sick and a.startswith(first) for _, a, sick in recent)
                    assert write.answering[first] + fell >= least, (
                        f"{write.answering[first]} of {first} answer at {write.at}"
                    )
                    most = self.policy.for_lever("isolate_endpoint").max_endpoints_down
                    assert write.out[first] <= most, f"{write.out[first]} of {first} are out at {write.at}"
            moved = sum(
                max(0, int(v) - int(write.change.before[k]))
                for k, v in write.change.after.items()
                if k.startswith("weight/")
            )
            assert moved <= 51, f"{moved} of 100 weights were moved at once"

    async def _one_case_at_a_time(self) -> None:
        """6: between a case's write and its release (or the reaper's word) nobody else writes in that domain."""
        for domain in self.domains:
            releases = [(at, r) async for at, r in self._releases(domain)]
            writes = [w for w in self.world.writes if w.permit.domain == domain]
            for one, two in itertools.pairwise(writes):
                if _life(one.permit.case) == _life(two.permit.case):
                    continue
                if any(d == domain and one.at <= at <= two.at for d, at in self.lost_guards):
                    continue  # its lock died with the Guard: see bugs_property.md
                workflow = one.permit.case.rpartition("#")[0]
                ended = min((at for at in (self.ended.get(workflow), self.cancelled.get(workflow)) if at), default=None)
                given = [at for at, r in releases if r.workflow_id == workflow and one.at <= at <= two.at]
                assert given or (ended is not None and ended <= two.at), (
                    f"{two.permit.case} wrote at {two.at} in {domain}, and {one.permit.case}, which wrote at {one.at}, "
                    "had not given it back"
                )

    async def _releases(self, domain: str) -> AsyncIterator[tuple[datetime, Release]]:
        client = self.stage.client
        runs = [w.run_id async for w in client.list_workflows(f'WorkflowId = "{guard_id(domain)}"')]
        seen: set[tuple[datetime, str]] = set()
        for run in runs:
            async for event in client.get_workflow_handle(guard_id(domain), run_id=run).fetch_history_events():
                if release := await self._release(event):
                    at = event.event_time.ToDatetime(tzinfo=now().tzinfo)
                    if (at, release.case) not in seen:
                        seen.add((at, release.case))
                        yield at, release

    async def _release(self, event: HistoryEvent) -> Release | None:
        signal = event.workflow_execution_signaled_event_attributes
        if signal.signal_name != "release":
            return None
        found = await self.stage.client.data_converter.decode(list(signal.input.payloads), [Release])
        return Release.model_validate(found[0])

    async def _owned(self, records: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
        """5: what was applied was proven and restored, or undone, or people own it and were told."""
        for record in records:
            for step in record["steps"]:
                if step["end"] == "mitigated" and step["receipts"]:
                    assert any(e["outcome"] == "better" for e in step["effects"]), (
                        f"{record['case']}: {step['step_id']} mitigated without proof"
                    )
        open_ones = [r for d in self.domains for r in await self.journal.standing(d)]
        told_of = "\n".join(f"{p['title']} {p['body']}" for p in told)
        for key, value in self.world.settings.items():
            if value == self.world.baseline[key]:
                continue
            owners = [r for r in open_ones if key in r.after]
            assert owners, f"{key} is {value!r}, and the journal knows of nothing that stands there"
            for receipt in owners:
                record = next((r for r in records if r["case"] == receipt.case), {})
                owned = record.get("owner") or receipt.id in told_of or receipt.case in told_of
                assert owned, f"{key} is {value!r} by {receipt.id} of {receipt.case}, and nobody was told"

    async def views(self) -> list[GuardView]:
        """What both Guards say."""
        handles = [self.stage.client.get_workflow_handle(guard_id(d)) for d in self.domains]
        return list(await asyncio.gather(*(h.query("view", result_type=GuardView) for h in handles)))


def _life(case: str) -> str:
    head, _, tail = case.rpartition("#")
    return f"{head}#{tail.partition('.')[0]}"


def _tail(status: dict[str, Any]) -> str:
    return " | ".join(f"{e['what']}: {e['text'][:90]}" for e in status.get("timeline", [])[-4:])


__all__ = ["ALERTS", "GuardClient", "Site", "rules", "sign"]
