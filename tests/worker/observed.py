"""Closed cases of engine.hang that only observed: planned by the real planner, judged by the real gates, sealed as at a close."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from runbooks.detection import Target, TargetKind
from runbooks.facts import Facts, Known, Unknown
from runbooks.library import load_library
from runbooks.plan import Classification, Verdict
from runbooks.planning import planned_steps
from runbooks.policy import ClassPolicy, Policy
from runbooks.policy_sample import World, detection_of, sample_fleet, targets_of_kind
from runbooks.record import CaseRecord, Judged, StepRecord, sealed
from runbooks.safety import judge

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
POLICY = Policy(name="watching", default=ClassPolicy(mode="observe"), groups={"sre-oncall": ()})
LIBRARY = load_library()
FLEET = sample_fleet()
GRANTED = "shadow: it would have been granted"


def target(number: int) -> Target:
    """One of the eight replicas."""
    return targets_of_kind(FLEET, TargetKind.ENDPOINT)[number % 8]


def all_is_well(facts: Facts) -> Facts:
    return facts


def nobody_answers(facts: Facts) -> Facts:
    """G5 and G3 deny."""
    assert isinstance(facts.pools, Known)
    pools = {n: p.model_copy(update={"answering": 0}) for n, p in facts.pools.value.items()}
    return facts.model_copy(update={"pools": Known(value=pools, observed_at=facts.now)})


def nobody_knows(facts: Facts) -> Facts:
    """G16 denies."""
    return facts.model_copy(update={"fault": Unknown(why="no token could be asked for")})


def record(
    number: int,
    facts: Callable[[Facts], Facts] = all_is_well,
    guard: str = GRANTED,
    at: datetime = NOON,
    failure_class: str = "engine.hang",
    mode: str = "observe",
    **more: Any,
) -> CaseRecord:
    """Case `remediate:…#N`, opened at `at`, judged a second later."""
    about = target(number)
    made = CaseRecord(
        case=f"remediate:{about.id}#{number}", workflow_id=f"remediate:{about.id}", run_id=f"run-{number}", target=about,
        classification=Classification(failure_class=failure_class, confidence=1, rule="r", evidence=()),
        mode=mode, policy=POLICY.ref, opened_at=at, closed_at=at + timedelta(minutes=10), outcome="observed",
        runbook="engine_hang.yaml@1",
    )  # fmt: skip
    found = LIBRARY.pick("engine.hang", TargetKind.ENDPOINT)
    assert found is not None
    steps, _ = planned_steps(found[1], detection_of(about, at), library=LIBRARY, policy=POLICY, fleet=FLEET, now=at)
    world = World.of(FLEET, steps[0], about, at)
    change = world.plan(POLICY)
    verdict: Verdict = judge(world.question(change, "engine.hang", POLICY), facts(world.facts(change)))
    acts, when = verdict.outcome == "allow", at + timedelta(seconds=1)
    made.verdicts = [Judged(at=when, step=steps[0].id, purpose="act", verdict=verdict, guard=guard if acts else "")]
    made.steps = [
        StepRecord(
            step_id=steps[0].id, lever=steps[0].step.lever, targets=steps[0].targets, back="restorable",
            end="observed" if acts else "refused", would=getattr(change, "note", "") if acts else "",
            would_at=when if acts else None,
        )
    ]  # fmt: skip
    return made.model_copy(update=more)


def text(one: CaseRecord) -> str:
    """As `close` gets it."""
    return sealed(one).text
