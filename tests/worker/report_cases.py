"""Closed cases of some weeks, as a journal holds them: planned by the real planner, judged by the real gates, told in the
workflows' words, sealed as at a close. Only when things happen, and what people say, is made up; by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from runbooks.change import Change, Receipt
from runbooks.detection import Detection, Target, TargetKind
from runbooks.facts import Approval, Facts, FaultNow, GuardView, Known, Unknown
from runbooks.levers import kind
from runbooks.library import load_library
from runbooks.people import Attested
from runbooks.plan import Classification, Effect, PlannedStep
from runbooks.planning import planned_steps
from runbooks.policy import ClassPolicy, LeverPolicy, Policy
from runbooks.policy_sample import World, detection_of, sample_fleet, targets_of_kind
from runbooks.record import CaseRecord, Judged, Outcome, StepRecord
from runbooks.safety import judge

FIRST = datetime(2026, 10, 1, 6, 0, tzinfo=UTC)
LIBRARY = load_library()
FLEET = sample_fleet()
POLICY = Policy(
    name="careful",
    default=ClassPolicy(mode="ask", approval_ttl_s=1800),
    classes={
        "engine.hang": ClassPolicy(mode="auto"),
        "demand.surge": ClassPolicy(mode="observe"),
        "unknown": ClassPolicy(mode="observe"),
    },
    levers={
        "reroute_traffic": LeverPolicy(largest_increment=0.5, ask_over_share=0.3),
        "restart_engine": LeverPolicy(unattended=True),
    },
    groups={"sre-oncall": ("ana", "ben", "eva")},
)
Told = Callable[[Facts], Facts]


def no_room(facts: Facts) -> Facts:
    """G3 and G5 deny: nobody else answers."""
    assert isinstance(facts.pools, Known)
    pools = {n: p.model_copy(update={"answering": 0}) for n, p in facts.pools.value.items()}
    return facts.model_copy(update={"pools": Known(value=pools, observed_at=facts.now)})


def busy(facts: Facts) -> Facts:
    """G2 denies: the hour is full of acts."""
    view = GuardView(domain="sample", acts_last_hour=1000)
    return facts.model_copy(update={"guard": Known(value=view, observed_at=facts.now)})


def no_fault(facts: Facts) -> Facts:
    """G16 holds: it cannot be seen."""
    gone = FaultNow(holds=False, detail="3 of 3 generations gave tokens")
    return facts.model_copy(update={"fault": Known(value=gone, observed_at=facts.now)})


def blind(facts: Facts) -> Facts:
    """G16 denies: it cannot be measured."""
    return facts.model_copy(update={"fault": Unknown(why="no sample came for 90 s")})


@dataclass
class Tale:
    """One case while it is told. `at` is its clock."""

    record: CaseRecord
    detection: Detection
    step: PlannedStep
    at: datetime
    policy: Policy = POLICY

    @classmethod
    def begin(
        cls,
        number: int,
        failure_class: str,
        kind_: TargetKind,
        began: datetime,
        heard_s: float,
        policy: Policy = POLICY,
        **more: Any,
    ) -> Tale:
        """The first alert, heard so many seconds after the fault began; classified and planned."""
        targets = targets_of_kind(FLEET, kind_)
        target, opened = targets[number % len(targets)], began + timedelta(seconds=heard_s)
        base = detection_of(target, began).model_copy(update={"started_at": began, "received_at": opened, **more})
        found = LIBRARY.pick(failure_class, kind_)
        assert found is not None
        steps, _ = planned_steps(found[1], base, library=LIBRARY, policy=policy, fleet=FLEET, now=opened)
        record = CaseRecord(
            case=f"remediate:{target.id}#{number:08x}.1", workflow_id=f"remediate:{target.id}", run_id=f"run-{number}",
            target=target, detections=[base], opened_at=opened, runbook=f"{found[0]}@1", policy=policy.ref,
            classification=Classification(failure_class=failure_class, confidence=0.9, rule="r", evidence=()),
            mode=policy.for_class(failure_class).mode,
        )  # fmt: skip
        tale = cls(record, base, steps[0], opened, policy)
        tale.say("alert firing", f"{base.alert} by {base.detector}")
        tale.say("classified", f"{failure_class} by rule r; plan: {found[1].title}")
        return tale

    def say(self, what: str, text: str, after_s: float = 0.0) -> None:
        """A row of the timeline, so much later."""
        self.at += timedelta(seconds=after_s)
        self.record.add(self.at, what, text)

    def check(self, facts: Told = lambda f: f, approved: bool = False, guard: str = "", after_s: float = 1.0) -> Change:
        """All gates, really asked; the verdict is kept."""
        self.at += timedelta(seconds=after_s)
        assert self.record.target is not None
        assert self.record.classification is not None
        now = self.record.opened_at + timedelta(seconds=1)  # a rollback's change stays before the fault
        world = World.of(FLEET, self.step, self.record.target, now)
        change = world.plan(self.policy)
        assert isinstance(change, Change)
        known = world.facts(change)
        if approved:
            ends = now + timedelta(seconds=600)
            leave = Approval(digest=self.step.digest, approvers=("ana",), verified=True, expires_at=ends)
            known = known.model_copy(update={"approval": leave})
        question = world.question(change, self.record.classification.failure_class, self.policy)
        verdict = judge(question, facts(known))
        self.record.verdicts.append(
            Judged(at=self.at, step=self.step.id, purpose="act", verdict=verdict, guard=guard if verdict.outcome == "allow" else "")
        )  # fmt: skip
        self.say(f"gates: {verdict.outcome}", f"{self.step.id} (act): {verdict.because()}")
        return change

    def ask(self) -> None:
        """The gates want people, and they are told."""
        self.check()
        self.begun()
        assert self.record.verdicts[-1].verdict.outcome == "ask", self.record.verdicts[-1].verdict.because()
        self.say("approval asked", f"{self.step.envelope.direction}: 1 of sre-oncall until 12:00:00")
        self.say("people told", f"Approval asked: {self.step.step.lever} on {self.detection.target.id} (pages.jsonl:1)")

    def decide(self, who: str, approve: bool, after_s: float, reason: str = "looks right") -> None:
        """A verified person answers."""
        self.say("approved" if approve else "rejected", f"{who}: {reason}", after_s)
        self.record.decisions.append(
            Attested(event_id=20, action="decide", who=who, verified=True, accepted=True, approve=approve, reason=reason, at=self.at)
        )  # fmt: skip

    def begun(self) -> StepRecord:
        """The step's own record."""
        same = [s for s in self.record.steps if s.step_id == self.step.id]
        if not same:
            self.record.steps.append(
                StepRecord(
                    step_id=self.step.id,
                    lever=self.step.step.lever,
                    targets=self.step.targets,
                    back=kind(self.step.step).value,
                )
            )
        return self.record.steps[-1]

    def act(self, change: Change, better: bool, verify_s: float) -> None:
        """Applied and verified; taken back when it is not better."""
        self.say(f"act: {self.step.step.lever}", change.note, 0.4)
        step, target = self.begun(), self.detection.target
        step.receipts.append(
            Receipt(
                id=f"rcpt-{self.record.run_id}-{len(step.receipts)}",
                permit_id=f"p-{self.record.run_id}-{len(step.receipts)}",
                case=self.record.case,
                case_workflow_id=self.record.workflow_id,
                step_id=self.step.id,
                lever=self.step.step.lever,
                target_id=target.id,
                domain=target.domain,
                epoch=1,
                before=change.before,
                after=change.after,
                blast=change.blast,
                acted_at=self.at,
            )
        )
        self.record.first_act_at = self.record.first_act_at or self.at
        self.at += timedelta(seconds=verify_s)
        outcome = "better" if better else "worse"
        step.effects.append(Effect.model_validate({"outcome": outcome, "why": "as measured"}))
        self.say(f"effect: {outcome}", "as measured")
        if better:
            step.end = "mitigated"
            self.record.mitigated_at = self.at
            self.say("mitigated", f"{self.step.step.lever}: {self.step.envelope.direction}")
        else:
            step.end = "undone"
            self.say(f"undo: {self.step.step.lever}", "100% of the way back to normal", 3)

    def refuse(self, end: str = "refused") -> None:
        """The step ends without an act."""
        self.begun().end = end
        if end == "refused":
            self.say("step refused", f"{self.step.id}: {self.record.verdicts[-1].verdict.because()}", 2)

    def page(self, after_s: float = 0.1) -> None:
        """It is people's now."""
        self.say("people told", f"{self.detection.target.id} is sick and was not mended (pages.jsonl:9)", after_s)

    def resolve(self, after_s: float) -> None:
        """The detector takes its alert back."""
        self.say("alert resolved", f"{self.detection.alert} by {self.detection.detector}", after_s)
        gone = self.detection.model_copy(update={"status": "resolved", "received_at": self.at})
        self.record.detections = [gone]

    def close(self, outcome: Outcome, why: str = "as told", after_s: float = 30.0) -> CaseRecord:
        """The record as it is written."""
        self.at += timedelta(seconds=after_s)
        self.record.outcome, self.record.why, self.record.closed_at = outcome, why, self.at
        if outcome == "restored":
            self.record.restored_at = self.at
        self.say("closed", f"{outcome}: {why}")
        return self.record


ENDPOINT, SERVICE, NODE = TargetKind.ENDPOINT, TargetKind.SERVICE, TargetKind.NODE


def alone(n: int, dice: random.Random, at: datetime) -> CaseRecord:
    """A hung engine, isolated unattended."""
    tale = Tale.begin(n, "engine.hang", ENDPOINT, at, dice.lognormvariate(3.2, 0.6))
    tale.act(tale.check(guard="permit: granted"), True, dice.uniform(20, 60))
    tale.resolve(dice.uniform(300, 3000))
    return tale.close("restored")


def approved(
    n: int, dice: random.Random, at: datetime, failure_class: str, kind_: TargetKind, better: bool = True, **more: Any
) -> CaseRecord:
    """People approve; it helps, or is taken back and they get it."""
    tale = Tale.begin(n, failure_class, kind_, at, dice.lognormvariate(4.5, 0.8), **more)
    tale.ask()
    tale.decide(dice.choice(("ana", "ben", "eva")), True, dice.lognormvariate(5.6, 0.8))
    tale.act(tale.check(approved=True, guard="permit: granted"), better, dice.uniform(30, 240))
    if not better:
        tale.page()
        tale.resolve(dice.lognormvariate(7.8, 0.7))
        return tale.close("paged")
    tale.resolve(dice.uniform(300, 3000))
    return tale.close("fixed" if tale.record.steps[-1].back == "permanent" else "restored")


def rejected(n: int, dice: random.Random, at: datetime, failure_class: str, kind_: TargetKind) -> CaseRecord:
    """A person says no, and mends it by hand."""
    tale = Tale.begin(n, failure_class, kind_, at, dice.lognormvariate(4.5, 0.8))
    tale.ask()
    tale.decide("ben", False, dice.lognormvariate(5.2, 0.6), "the supervisor has it")
    tale.refuse("rejected")
    tale.page()
    tale.resolve(dice.lognormvariate(7.5, 0.7))
    return tale.close("paged")


def expired(n: int, dice: random.Random, at: datetime, failure_class: str, kind_: TargetKind) -> CaseRecord:
    """Nobody answers in half an hour."""
    tale = Tale.begin(n, failure_class, kind_, at, dice.lognormvariate(4.5, 0.8))
    tale.ask()
    tale.say("people told", f"Nobody decided on {tale.step.step.lever} (pages.jsonl:3)", 1800)
    tale.refuse("expired")
    tale.page()
    tale.resolve(dice.lognormvariate(7.8, 0.5))
    return tale.close("paged")


def refused(
    n: int, dice: random.Random, at: datetime, failure_class: str, kind_: TargetKind, facts: Told, resolves: bool = True
) -> CaseRecord:
    """A gate is against it; people mend it, and the record may not know when."""
    tale = Tale.begin(n, failure_class, kind_, at, dice.lognormvariate(4.5, 0.8))
    tale.check(facts)
    assert tale.record.verdicts[-1].verdict.outcome == "deny"
    tale.refuse()
    tale.page()
    if resolves:
        tale.resolve(dice.lognormvariate(8.0, 0.7))
    return tale.close("paged")


def false_alarm(n: int, dice: random.Random, at: datetime) -> CaseRecord:
    """Whenever somebody looks it is not there, and the alert goes."""
    tale = Tale.begin(n, "engine.hang", ENDPOINT, at, dice.uniform(5, 30))
    tale.check(no_fault)
    tale.begun().end = "resolved"
    tale.resolve(dice.uniform(20, 90))
    return tale.close("self_resolved", after_s=0)


def observed(
    n: int, dice: random.Random, at: datetime, failure_class: str = "demand.surge", on: TargetKind = SERVICE
) -> CaseRecord:
    """Decided and recorded, nothing touched."""
    tale = Tale.begin(n, failure_class, on, at, dice.lognormvariate(5.0, 0.6))
    change = tale.check(guard="shadow: it would have been granted")
    step = tale.begun()
    step.end, step.would, step.would_at = "observed", change.note, tale.at
    tale.say("observed", f"would allow: {tale.step.envelope.direction}; nothing was touched")
    tale.resolve(dice.lognormvariate(7.6, 0.6))
    return tale.close("observed")


def nobody_knows(n: int, dice: random.Random, at: datetime, by_people: bool = True) -> CaseRecord:
    """No rule knows the alert; a person reported it."""
    more = {"automatic": False, "detector": "people", "alert": "Reported"} if by_people else {}
    tale = Tale.begin(n, "unknown", SERVICE, at, dice.lognormvariate(6.5, 0.8), **more)
    tale.page()
    tale.resolve(dice.lognormvariate(8.6, 0.8))
    return tale.close("paged")


def taken_over(n: int, dice: random.Random, at: datetime) -> CaseRecord:
    """A person takes it, mends it, and hands it back."""
    tale = Tale.begin(n, "engine.timeout", SERVICE, at, dice.lognormvariate(4.5, 0.8))
    tale.ask()
    tale.say("takeover", "eva: I know this one", dice.uniform(60, 300))
    tale.resolve(dice.uniform(600, 2400))
    tale.say("hand_back", "eva: done", 30)
    tale.refuse("resolved")
    return tale.close("self_resolved")


def weeks(seed: int = 7) -> Iterator[CaseRecord]:
    """Sixty-odd cases, in the order in which they closed."""
    dice, n, at = random.Random(seed), 0, FIRST
    script: list[tuple[int, Callable[[int, random.Random, datetime], CaseRecord]]] = [
        (14, alone),
        (9, lambda *a: approved(*a, "engine.timeout", SERVICE)),
        (1, lambda *a: approved(*a, "engine.timeout", SERVICE, better=False)),
        (2, taken_over),
        (5, lambda *a: approved(*a, "engine.crash", SERVICE)),
        (2, lambda *a: rejected(*a, "engine.crash", SERVICE)),
        (2, lambda *a: refused(*a, "engine.crash", SERVICE, no_room)),
        (2, lambda *a: expired(*a, "engine.crash", SERVICE)),
        (4, lambda *a: approved(*a, "engine.exhaustion", SERVICE)),
        (3, lambda *a: refused(*a, "engine.exhaustion", SERVICE, busy)),
        (2, lambda *a: refused(*a, "engine.latency_spike", SERVICE, blind, resolves=False)),
        (4, lambda *a: approved(*a, "config.request_compat", SERVICE)),
        (5, lambda *a: approved(*a, "infra.node_down", NODE)),
        (2, lambda *a: refused(*a, "infra.node_down", NODE, busy)),
        (3, false_alarm),
        (4, observed),
        (4, nobody_knows),
        (1, lambda *a: nobody_knows(*a, by_people=False)),
    ]
    tales = [one for count, one in script for _ in range(count)]
    dice.shuffle(tales)
    for one in tales:
        n, at = n + 1, at + timedelta(hours=dice.uniform(2, 20))
        yield one(n, dice, at)


def target(number: int = 0) -> Target:
    """One of the replicas."""
    return targets_of_kind(FLEET, ENDPOINT)[number]
