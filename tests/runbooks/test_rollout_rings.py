"""A rollout by rings: a later ring does not wait for the fault that its first ring mended, and the way back is judged by
what it left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest

from runbooks.change import Blast, Change
from runbooks.detection import Target
from runbooks.effects import patient, worse_in_the_end
from runbooks.facts import ControlNow, Facts, FaultNow, GuardView, Known, StandingReceipt, Unknown
from runbooks.gates.question import Question
from runbooks.levers import IncreaseCapacity, RolloutHotfix, Step
from runbooks.plan import IndicatorQuery, PlannedStep, Sample
from runbooks.policy import ClassPolicy, Policy
from runbooks.reach import envelope_of
from runbooks.safety import judge
from runbooks.schema import Criterion, RestoreRule, Verify
from tests.runbooks import clusters as c

CASE = "remediate:west/service/big"
ROLLOUT = RolloutHotfix(rings=(("big",), ("small",)), image="engine:v2")
VERIFY = Verify(
    criteria=(
        Criterion(indicator="rolled_out", above=1.0),
        Criterion(indicator="pool_error_rate", below=0.02, worse_above=0.2),
    )
)


def known(value: Any) -> Any:
    """A fact of now."""
    return Known(value=value, observed_at=c.NOW)


def stands(case: str = f"{CASE}#1", lever: str = "rollout_hotfix") -> StandingReceipt:
    """An earlier change in force."""
    return StandingReceipt(receipt_id="r", case=case, lever=lever, target_id="west/service/big", since=c.ago(1))


def outcomes(
    *standing: StandingReceipt, step: Step = ROLLOUT, purpose: Literal["act", "undo", "restore"] = "act"
) -> dict[str, str]:
    """Of G1 and G16 where the alert began an hour ago and the fault is measured to be gone."""
    policy = Policy(name="p", default=ClassPolicy(mode="auto"))
    query = IndicatorQuery(name="rolled_out", source="cluster", query="rolled_out", unit="share", scope="small")
    planned = PlannedStep(
        id="1-x", step=step, targets=("west/service/big",), domains=("west",), verify=VERIFY, indicators=(query,),
        on_cannot_tell="undo", restore=RestoreRule(), envelope=envelope_of("1-x", step, ("west/service/big",), policy),
    )  # fmt: skip
    change = Change(before={"image/small": "a"}, after={"image/small": "b"}, blast=Blast(), last=True)
    question = Question(
        step=planned, change=change, failure_class="engine.bad_output", target=Target(cluster="west", service="big"),
        workflow_id=CASE, purpose=purpose, planned_at=c.NOW, policy=policy, fleet=c.FLEET,
    )  # fmt: skip
    facts = Facts(
        now=c.NOW, evidence_at=known(c.NOW - timedelta(hours=1)), fault=known(FaultNow(holds=False, detail="it is well")),
        before=known({"image/small": "a"}), pools=Unknown(why="not asked"), verifier=known({"rolled_out": 1.0}),
        guard=known(GuardView(domain="west", standing=standing)), skew_s=known(0.0),
        control=known(ControlNow(kind="cluster", answered_in_s=0.1)),
    )  # fmt: skip
    return {g.gate: g.outcome for g in judge(question, facts).gates if g.gate in ("G1", "G16")}


def test_a_later_ring_goes_although_the_first_has_mended_the_fault() -> None:
    """Its own standing ring is the evidence."""
    assert outcomes(stands()) == {"G1": "allow", "G16": "allow"}


@pytest.mark.parametrize(
    "standing",
    [(), (stands(case="remediate:west/service/small#1"),), (stands(lever="shed_load"),)],
    ids=["nothing stands", "another case's rollout", "another lever of this case"],
)
def test_a_first_ring_needs_the_fault_and_fresh_evidence(standing: tuple[StandingReceipt, ...]) -> None:
    """Old evidence of a fault that nobody can see begins no rollout."""
    assert outcomes(*standing) == {"G1": "deny", "G16": "hold"}


def test_other_levers_do_no_more_than_the_fault_needs() -> None:
    """A second replica for a surge that one has met is not wanted."""
    step = IncreaseCapacity(pool="big", by=2)
    assert outcomes(stands(lever="increase_capacity"), step=step) == {"G1": "deny", "G16": "hold"}


def samples(*values: float | None) -> list[Sample]:
    """Readings of the error rate, one a second."""
    return [
        Sample(indicator="pool_error_rate", value=v, observed_at=c.NOW + timedelta(seconds=n))
        for n, v in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "parts", "worse"),
    [
        ((0.9, 0.8, 0.1, 0.0), 1, False),
        ((0.0, 0.0, 0.5, 0.6), 1, True),
        ((0.9, 0.9, 0.0, 0.5), 1, False),
        ((0.5, 0.0, 0.5, 0.0), 1, False),
        ((0.5, 0.0, 0.5, 0.0), 2, True),
        ((0.5, None, 0.6, None), 1, True),
        ((0.9,), 1, False),
        ((), 1, False),
    ],
    ids=["failed on the way", "fails in the end", "one late peak", "two pools, taken for one", "one of two pools fails",
         "gaps are no comfort", "one reading", "none"],
)  # fmt: skip
def test_a_way_back_is_worse_by_what_is_measured_at_its_end(
    values: tuple[float | None, ...], parts: int, worse: bool
) -> None:
    """What fails while the bad version is still there says nothing about the one that comes back."""
    assert bool(worse_in_the_end(VERIFY, samples(*values), parts)) is worse


def test_a_patient_verify_keeps_everything_but_the_bounds_for_worse() -> None:
    """Better needs the same as before."""
    mild = patient(VERIFY)
    assert [(x.indicator, x.above, x.below) for x in mild.criteria] == [
        (x.indicator, x.above, x.below) for x in VERIFY.criteria
    ]
    assert all(x.worse_above is None and x.worse_below is None for x in mild.criteria)
