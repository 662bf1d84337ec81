"""Each gate by a table: allow, ask, hold, deny, unknown, with its reason. And none of them lets an Unknown pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbooks.base import Model
from runbooks.change import Blast, CannotPlan, Change, NothingToDo
from runbooks.detection import Target
from runbooks.facts import Approval, ControlNow, Facts, FaultNow, GuardView, Known, PoolState, StandingReceipt, Unknown
from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from runbooks.gates.question import Question
from runbooks.levers import IsolateEndpoint
from runbooks.plan import Envelope, IndicatorQuery, PlannedStep
from runbooks.policy import ClassPolicy, LeverPolicy, Policy, Timing
from runbooks.safety import GATES, judge
from runbooks.schema import Criterion, RestoreRule, Verify

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SICK = "a-1:8000"
KEY = f"endpoint/pool-a/{SICK}"


def known(value: Any, age_s: float = 0.5) -> Any:
    """A fact of half a second ago."""
    return Known(value=value, observed_at=NOW - timedelta(seconds=age_s))


def pool(name: str, answering: int | None = 3, load: float | None = 40.0, endpoints: int = 4) -> PoolState:
    """Four endpoints of 30 tokens/s; the sick one does not answer."""
    capacity = 30.0 * (answering or 0)
    return PoolState(
        pool=name, endpoints=endpoints, in_rotation=endpoints, answering=answering, capacity_tps=capacity, load_tps=load
    )


def facts(**more: Any) -> Facts:
    """Everything known and good: the fault holds, three of four answer, the domain is free."""
    base: dict[str, Any] = {
        "now": NOW,
        "evidence_at": known(NOW - timedelta(seconds=1)),
        "fault": known(FaultNow(holds=True, detail="no token")),
        "before": known({KEY: "in"}),
        "pools": known({"pool-a": pool("pool-a"), "pool-b": pool("pool-b", 4)}),
        "guard": known(GuardView(domain="lab")),
        "verifier": known({"route_generation": 1.0}),
        "skew_s": known(0.0),
        "control": known(ControlNow(kind="traffic", answered_in_s=0.1)),
    }
    return Facts(**{**base, **more})


ENVELOPE = Envelope(
    step_id="1", lever="isolate_endpoint", targets=("t",), direction="out", largest_share=0.5, largest_endpoints=1
)
STEP = PlannedStep(
    id="1",
    step=IsolateEndpoint(pool="pool-a", endpoint=SICK),
    targets=("t",),
    domains=("lab",),
    verify=Verify(criteria=(Criterion(indicator="route_generation", above=1.0),)),
    indicators=(IndicatorQuery(name="route_generation", source="probe", query="chat", unit="ok"),),
    on_cannot_tell="undo",
    restore=RestoreRule(),
    envelope=ENVELOPE,
)
FLEET = Fleet(
    routes=(Route(name="chat", pools=("pool-a", "pool-b"), tiers=("batch",)),),
    pools=tuple(
        Pool(
            name=p, cluster="lab", dialect="vllm", tokens_per_second=30.0,
            endpoints=tuple(Endpoint(address=f"{p[-1]}-{n}:8000") for n in range(1, 5)),
        )
        for p in ("pool-a", "pool-b")
    ),
    controls=outside("lab"),
)  # fmt: skip


def policy(rule: ClassPolicy | None = None, **more: Any) -> Policy:
    """engine.hang auto; quick times."""
    base: dict[str, Any] = {
        "name": "test",
        "classes": {"engine.hang": rule or ClassPolicy(mode="auto")},
        "levers": {"isolate_endpoint": LeverPolicy()},
        "timing": Timing(scrape_period_s=2.5),
    }
    return Policy(**{**base, **more})


def change(**blast: Any) -> Change:
    """The endpoint goes out; or another blast."""
    return Change(
        before={KEY: "in"}, after={KEY: "out"}, blast=Blast(**(blast or {"endpoints_down": {"pool-a": 1}})), last=True
    )


def question(**more: Any) -> Question:
    """May the sick endpoint be isolated?"""
    base: dict[str, Any] = {
        "step": STEP, "change": change(), "failure_class": "engine.hang", "workflow_id": "me", "purpose": "act",
        "target": Target(cluster="lab", service="pool-a", endpoint=SICK), "alert_age_s": 1.0, "planned_at": NOW - timedelta(seconds=1),
        "policy": policy(), "fleet": FLEET,
    }  # fmt: skip
    return Question(**{**base, **more})


def said(gate: str, q: Question, f: Facts) -> tuple[str, str]:
    """One gate's outcome and reason."""
    found = next(g for g in judge(q, f).gates if g.gate == gate)
    return found.outcome, found.reason


def standing(**more: Any) -> Any:
    """A Guard that knows of one standing receipt."""
    receipt = StandingReceipt(receipt_id="r", case="c", lever="isolate_endpoint", target_id="t", since=NOW, **more)
    return known(GuardView(domain="lab", standing=(receipt,)))


def approval(**more: Any) -> Approval:
    """By ana, verified, for this plan."""
    base: dict[str, Any] = {
        "digest": ENVELOPE.digest, "approvers": ("ana",), "verified": True, "expires_at": NOW + timedelta(minutes=1),
    }  # fmt: skip
    return Approval(**{**base, **more})


ASKING = policy(ClassPolicy(mode="ask"))
MOVE = {"share_moved": {"chat": 0.2}, "reserved_tps": {"pool-b": 30.0}}

TABLE: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
    ("G1", "allow", "evidence 1.0 s old", {}, {}),
    ("G1", "deny", "the oldest fact is 9.0 s old", {}, {"before": known({KEY: "in"}, 9)}),
    ("G1", "deny", "the newest evidence is 30.0 s old", {}, {"evidence_at": known(NOW - timedelta(seconds=30))}),
    ("G1", "deny", "the alert was 60 min old when it came", {"alert_age_s": 3600.0}, {}),
    ("G1", "deny", "clock is +60 s off", {}, {"skew_s": known(60.0)}),
    ("G1", "deny", "the time of the evidence is unknown", {}, {"evidence_at": Unknown(why="x")}),
    ("G1", "deny", "the detector's clock is unknown", {}, {"skew_s": Unknown(why="x")}),
    ("G2", "allow", "1 endpoint(s) out", {}, {}),
    ("G2", "deny", "2 endpoints of pool-a would be out; the limit is 1",
     {}, {"guard": standing(endpoints_down={"pool-a": 1})}),
    ("G2", "deny", "3 of 4 endpoints of pool-a would be out; the limit is 50%",
     {"change": change(endpoints_down={"pool-a": 3}),
      "policy": policy(levers={"isolate_endpoint": LeverPolicy(max_endpoints_down=9)})}, {}),
    ("G2", "deny", "30% of chat at once", {"change": change(share_moved={"chat": 0.3})}, {}),
    ("G2", "deny", "110% of chat would be moved",
     {"change": change(share_moved={"chat": 0.2})}, {"guard": standing(share_moved={"chat": 0.9})}),
    ("G2", "deny", "40% more refused at once", {"change": change(refused_share=0.4)}, {}),
    ("G2", "deny", "20 acts in the last hour", {}, {"guard": known(GuardView(domain="lab", acts_last_hour=20))}),
    ("G2", "deny", "pool nowhere is not in the inventory", {"change": change(endpoints_down={"nowhere": 1})}, {}),
    ("G2", "deny", "what already stands in the domain is unknown", {}, {"guard": Unknown(why="x")}),
    ("G2", "ask", "policy asks people", {"policy": policy(ask_on_unknown=("G2",))}, {"guard": Unknown(why="x")}),
    ("G3", "allow", "pool-a carries 40 of 90 tokens/s", {}, {}),
    ("G3", "deny", "the 3 endpoint(s) left can serve 90",
     {}, {"pools": known({"pool-a": pool("pool-a", load=100.0)})}),
    ("G3", "deny", "pool-b would carry",
     {"change": change(**MOVE)}, {"pools": known({"pool-b": pool("pool-b", 4, load=90.0)})}),
    ("G3", "deny", "the load of pool-a is unknown", {}, {"pools": known({"pool-a": pool("pool-a", load=None)})}),
    ("G3", "ask", "policy asks people", {"policy": policy(ask_on_unknown=("G3",))}, {"pools": Unknown(why="x")}),
    ("G4", "allow", "the domain is free", {}, {}),
    ("G4", "allow", "held by other", {}, {"guard": known(GuardView(domain="lab", holder="other"))}),
    ("G4", "hold", "the domain is dirty", {}, {"guard": known(GuardView(domain="lab", dirty="x closed"))}),
    ("G4", "hold", "halted by ana", {}, {"guard": known(GuardView(domain="lab", halted="halted by ana"))}),
    ("G4", "deny", "the Guard could not be asked", {}, {"guard": Unknown(why="x")}),
    ("G5", "allow", "3 of 4 in pool-a go on answering", {}, {}),
    ("G5", "deny", "1 of 4 endpoints of pool-a would answer; 2 is the minimum",
     {}, {"pools": known({"pool-a": pool("pool-a", 1)})}),
    ("G5", "deny", "receiving pool pool-b is itself below its minimum",
     {"change": change(**MOVE)}, {"pools": known({"pool-b": pool("pool-b", 1)})}),
    ("G5", "deny", "how many endpoints of pool-a answer is unknown",
     {}, {"pools": known({"pool-a": pool("pool-a", None)})}),
    ("G7", "allow", "runs unattended by policy", {}, {}),
    ("G7", "deny", "outside of the plan's envelope", {"change": change(endpoints_down={"pool-a": 2})}, {}),
    ("G7", "ask", "policy wants 1 of group sre-oncall", {"policy": ASKING}, {}),
    ("G7", "ask", "the approval is for plan old", {"policy": ASKING}, {"approval": approval(digest="old")}),
    ("G7", "ask", "the approval ended", {"policy": ASKING}, {"approval": approval(expires_at=NOW)}),
    ("G7", "ask", "1 of 2 have approved",
     {"policy": policy(ClassPolicy(mode="ask", quorum=2))}, {"approval": approval(approvers=("ana", "ana"))}),
    ("G7", "ask", "an unverified decision does not count",
     {"policy": ASKING}, {"approval": approval(verified=False)}),
    ("G7", "allow", "approved by ana (unverified)",
     {"policy": policy(ClassPolicy(mode="ask", accept_unverified=True))}, {"approval": approval(verified=False)}),
    ("G7", "allow", "approved by ana", {"policy": ASKING}, {"approval": approval()}),
    ("G8", "allow", "1 setting(s) recorded", {}, {}),
    ("G8", "deny", "is 'out', the change starts from 'in'", {}, {"before": known({KEY: "out"})}),
    ("G8", "deny", "no safe form", {"change": CannotPlan(why="no safe form")}, {}),
    ("G8", "allow", "already", {"change": NothingToDo(why="already")}, {}),
    ("G8", "deny", "the before-state is unknown", {}, {"before": Unknown(why="x")}),
    ("G9", "allow", "1 indicator(s)", {}, {}),
    ("G9", "deny", "the step has no verify", {"step": STEP.model_copy(update={"verify": None})}, {}),
    ("G9", "deny", "no criterion of the verify is a real generation",
     {"step": STEP.model_copy(update={"indicators": ()})}, {}),
    ("G9", "deny", "no reading of route_generation", {}, {"verifier": known({})}),
    ("G9", "allow", "undo", {"purpose": "undo"}, {"verifier": Unknown(why="not needed to take a change back")}),
    ("G16", "allow", "no token", {}, {}),
    ("G16", "hold", "the fault cannot be seen now", {}, {"fault": known(FaultNow(holds=False, detail="3 tokens"))}),
    ("G16", "hold", "the fault is still there", {"purpose": "restore"}, {}),
    ("G16", "deny", "whether the fault still holds is unknown", {}, {"fault": Unknown(why="x")}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "outcome", "reason", "asked", "found"), TABLE, ids=[f"{g}-{o}-{r}" for g, o, r, *_ in TABLE]
)
def test_each_gate_answers_as_the_table_says_and_gives_its_reason(
    gate: str, outcome: str, reason: str, asked: dict[str, Any], found: dict[str, Any]
) -> None:
    """The reason is what an SRE reads at 3 am."""
    got = said(gate, question(**asked), facts(**found))
    assert got[0] == outcome, got
    assert reason in got[1]


NEEDS = {
    "evidence_at": {"G1"},
    "skew_s": {"G1"},
    "fault": {"G16"},
    "before": {"G8"},
    "pools": {"G3", "G5"},
    "guard": {"G2", "G4"},
    "verifier": {"G9"},
}


@pytest.mark.parametrize("change_", [change(), change(**MOVE)], ids=["isolate", "reroute"])
@pytest.mark.parametrize("fact", list(NEEDS))
def test_no_gate_allows_an_act_on_an_unknown_fact_that_it_needs(fact: str, change_: Change) -> None:
    """Every gate that needs the fact denies and says unknown; the verdict denies, and may pass when asked again."""
    verdict = judge(question(change=change_), facts(**{fact: Unknown(why="gone")}))
    denied = {g.gate for g in verdict.gates if g.outcome == "deny"}
    assert verdict.outcome == "deny"
    assert NEEDS[fact] <= denied
    assert all(
        "unknown" in g.reason or "could not be asked" in g.reason for g in verdict.gates if g.gate in NEEDS[fact]
    )
    assert verdict.may_pass


@pytest.mark.parametrize("fact", list(NEEDS))
def test_policy_can_turn_an_unknown_into_a_question_only_for_its_short_list(fact: str) -> None:
    """Never for G1, G4, G5, G16, whatever policy says."""
    verdict = judge(
        question(policy=policy(ask_on_unknown=("G2", "G3", "G8", "G9"))), facts(**{fact: Unknown(why="gone")})
    )
    for gate in verdict.gates:
        if gate.gate in NEEDS[fact] and gate.gate in {"G1", "G4", "G5", "G16"}:
            assert gate.outcome == "deny"


def test_with_nothing_known_an_act_is_denied_and_an_undo_of_a_known_state_is_not() -> None:
    """Undo needs the before-state, the Guard and fresh facts; not the fault, the verifier or the pools."""
    nothing = {k: Unknown(why="gone") for k in NEEDS}
    assert judge(question(), facts(**nothing)).outcome == "deny"
    kept = {k: v for k, v in nothing.items() if k not in ("before", "guard")}
    assert judge(question(purpose="undo"), facts(**kept)).outcome == "allow"
    assert judge(question(purpose="undo"), facts(**nothing)).outcome == "deny"


def test_a_denial_by_a_known_fact_is_not_worth_asking_again() -> None:
    """Only when everything that denies is unknown."""
    q = question(alert_age_s=3600.0)
    assert not judge(q, facts(fault=Unknown(why="gone"))).may_pass


def test_evidence_that_is_old_because_nobody_could_look_is_asked_for_again() -> None:
    """A busy minute must not end a step half way: the next look brings new evidence, or shows that the fault is gone."""
    old = known(NOW - timedelta(seconds=30))

    assert judge(question(), facts(fault=Unknown(why="no answer within 4 s"), evidence_at=old)).may_pass
    assert not judge(question(), facts(evidence_at=old)).may_pass


def test_an_endpoint_that_gives_tokens_counts_as_lost_when_it_is_taken_out_for_another_reason() -> None:
    """Bad output is still output: the last endpoint that answers must not be isolated because its canary fails."""
    by_canary = STEP.model_copy(update={"healthy": Criterion(indicator="canary_pass", above=1.0)})
    only_it_answers = facts(pools=known({"pool-a": pool("pool-a", answering=1, load=0.0, endpoints=2)}))
    assert said("G5", question(step=by_canary), only_it_answers)[0] == "deny"
    other = Target(cluster="lab", service="pool-a")
    assert said("G5", question(target=other), only_it_answers)[0] == "deny"
    assert said("G5", question(), only_it_answers)[0] == "allow"


def test_the_worst_gate_counts_and_every_gate_answers() -> None:
    """deny > hold > ask > allow; an SRE sees all reasons."""
    held = facts(fault=known(FaultNow(holds=False, detail="ok")))
    assert judge(question(policy=ASKING), facts()).outcome == "ask"
    assert judge(question(policy=ASKING), held).outcome == "hold"
    assert judge(question(policy=ASKING, alert_age_s=9999.0), held).outcome == "deny"
    assert len(judge(question(), facts()).gates) == len(GATES)


def test_facts_are_frozen_models() -> None:
    """A judge cannot be handed a picture that changes while it judges."""
    assert isinstance(facts(), Model)
