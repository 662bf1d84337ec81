"""The gates on levers of clusters and nodes, by a table: G2 nodes and GPUs, G3 dependencies, G5 and G6, G9's rejoin."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runbooks.change import Blast, Change
from runbooks.detection import Target
from runbooks.facts import (
    Approval,
    ControlNow,
    Facts,
    FaultNow,
    GuardView,
    Known,
    PoolState,
    Rejoin,
    StandingReceipt,
    Unknown,
)
from runbooks.gates.proof import REJOIN_FOR_S
from runbooks.gates.question import Question
from runbooks.levers import (
    ClusterStep,
    FreezeChanges,
    IncreaseCapacity,
    NodeStep,
    RebalanceNodes,
    RebootNode,
    ResetGpu,
    RestartEngine,
    RollbackChange,
)
from runbooks.plan import IndicatorQuery, PlannedStep
from runbooks.policy import ClassPolicy, LeverPolicy, Policy, Timing
from runbooks.reach import envelope_of
from runbooks.safety import judge
from runbooks.schema import Criterion, RestoreRule, Verify
from tests.runbooks import clusters as c

N1 = Target(cluster="west", node="n1")
DRAIN, GROW = RebalanceNodes(node="n1"), IncreaseCapacity(pool="big", by=3, at_once=2)
RESTART, RESET, REBOOT = (
    RestartEngine(pool="big", older_than=c.NOW),
    ResetGpu(node="n1", gpu="0"),
    RebootNode(node="n1"),
)
ROLLBACK = RollbackChange(pool="big", fault_began=c.NOW)
CORDON = {"nodes": ("n1",), "gpus": 4}
EVICT = {"restarting": {"big": 1}}


def known(value: Any, age_s: float = 0.5) -> Any:
    """A fact of half a second ago."""
    return Known(value=value, observed_at=c.NOW - timedelta(seconds=age_s))


def pool(name: str, answering: int | None = 3, load: float | None = 40.0, endpoints: int = 3) -> PoolState:
    """30 tokens/s an endpoint."""
    return PoolState(
        pool=name, endpoints=endpoints, in_rotation=endpoints, answering=answering,
        capacity_tps=30.0 * (answering or 0), load_tps=load,
    )  # fmt: skip


def policy(mode: str = "auto", **limits: Any) -> Policy:
    """Every class in one mode; the same limits for every lever."""
    levers = {name: LeverPolicy(**limits) for name in ("rebalance_nodes", "restart_engine", "increase_capacity",
              "reset_gpu", "reboot_node", "rollback_change", "freeze_changes")}  # fmt: skip
    rule = ClassPolicy.model_validate({"mode": mode})
    return Policy(name="test", default=rule, levers=levers, timing=Timing(scrape_period_s=2.5))


def planned(step: ClusterStep | NodeStep, rules: Policy) -> PlannedStep:
    """With the envelope that planning would give it."""
    return PlannedStep(
        id="1", step=step, targets=("t",), domains=("west",), on_cannot_tell="undo", restore=RestoreRule(),
        verify=Verify(criteria=(Criterion(indicator="route_generation", above=1.0),)),
        indicators=(IndicatorQuery(name="route_generation", source="probe", query="ok", unit="share", scope="route/chat"),),
        envelope=envelope_of("1", step, ("t",), rules),
    )  # fmt: skip


def ask(step: ClusterStep | NodeStep, blast: dict[str, Any], rules: Policy | None = None, **more: Any) -> Question:
    """May this change of the step be made?"""
    rules = rules or policy()
    change = Change(before={"cordon/n1": "off"}, after={"cordon/n1": "on"}, blast=Blast(**blast), last=True)
    base: dict[str, Any] = {
        "step": planned(step, rules), "change": change, "failure_class": "infra.node_down", "workflow_id": "me",
        "purpose": "act", "target": N1, "planned_at": c.NOW, "alert_age_s": 1.0, "policy": rules, "fleet": c.FLEET,
    }  # fmt: skip
    return Question(**{**base, **more})


def facts(**more: Any) -> Facts:
    """Everything known and good: the fault holds, all endpoints answer, the domain is free, the registry has room."""
    base: dict[str, Any] = {
        "now": c.NOW, "evidence_at": known(c.NOW - timedelta(seconds=1)),
        "fault": known(FaultNow(holds=True, detail="node_ready is 0")), "before": known({"cordon/n1": "off"}),
        "pools": known({"big": pool("big"), "small": pool("small", 1, 5.0, 1)}), "guard": known(GuardView(domain="west")),
        "verifier": known({"route_generation": None}), "skew_s": known(0.0), "cluster": known(c.state()),
        "dependencies": known({"registry": 5.0}), "control": known(ControlNow(kind="cluster", answered_in_s=0.1)),
    }  # fmt: skip
    return Facts(**{**base, **more})


def stands(lever: str = "rebalance_nodes", target: str = "west/node/n2", **more: Any) -> Any:
    """A Guard that knows of one standing receipt."""
    receipt = StandingReceipt(receipt_id="r", case="c", lever=lever, target_id=target, since=c.NOW, **more)
    return known(GuardView(domain="west", standing=(receipt,)))


def approval(step: ClusterStep | NodeStep, rules: Policy, **more: Any) -> Approval:
    """By ana, verified, for this step."""
    base: dict[str, Any] = {
        "digest": planned(step, rules).digest, "approvers": ("ana",), "verified": True,
        "expires_at": c.NOW + timedelta(minutes=1),
    }  # fmt: skip
    return Approval(**{**base, **more})


def rejoin(**more: Any) -> Rejoin:
    """The node made tokens under load half a minute ago."""
    base = {"node": "n1", "ok": True, "generations": 20, "failed": 0, "why": "", "observed_at": c.NOW}
    return Rejoin.model_validate({**base, **more})


BACK: dict[str, Any] = {"purpose": "restore"}
GONE_NOW = known(FaultNow(holds=False, detail="node_ready is 1"))
UNATTENDED = policy(unattended=True)
PLAIN = policy()

TABLE: list[tuple[str, str, str, Question, Facts]] = [
    ("G2", "allow", "0 standing", ask(DRAIN, CORDON), facts()),
    ("G2", "deny", "2 nodes would be out (n1, n2); the limit is 1",
     ask(DRAIN, CORDON), facts(guard=stands(nodes=("n2",)))),
    ("G2", "allow", "1 standing", ask(DRAIN, CORDON), facts(guard=stands(target="west/node/n1", nodes=("n1",), gpus=4))),
    ("G2", "allow", "1 standing", ask(DRAIN, CORDON, policy(max_nodes_out=2)), facts(guard=stands(nodes=("n2",)))),
    ("G2", "allow", "1 standing", ask(REBOOT, {"nodes": ("n1",), "gpus": 4}),
     facts(guard=stands(target="west/node/n1", nodes=("n1",), gpus=4))),
    ("G2", "deny", "4 GPUs would be taken; the limit is 3", ask(DRAIN, CORDON, policy(max_gpus=3)), facts()),
    ("G2", "deny", "9 GPUs would be taken; the limit is 8 (increase_capacity on west/service/big stands)",
     ask(GROW, {"gpus": 2}), facts(guard=stands("increase_capacity", "west/service/big", gpus=7))),
    ("G2", "deny", "2 replicas of big would be down; the limit is 1", ask(DRAIN, {"restarting": {"big": 2}}), facts()),
    ("G2", "deny", "2 replicas of big would be down; the limit is 1 (isolate_endpoint on x stands)",
     ask(RESTART, EVICT), facts(guard=stands("isolate_endpoint", "x", endpoints_down={"big": 1}))),
    ("G2", "deny", "what already stands in the domain is unknown", ask(DRAIN, CORDON), facts(guard=Unknown(why="x"))),
    ("G3", "allow", "registry has room for 5 more", ask(GROW, {"gpus": 2}), facts()),
    ("G3", "deny", "registry has room for 1 more replica(s), and 2 are wanted",
     ask(GROW, {"gpus": 2}), facts(dependencies=known({"registry": 1.0}))),
    ("G3", "deny", "the headroom of registry is unknown: it was not measured",
     ask(GROW, {"gpus": 2}), facts(dependencies=None)),
    ("G3", "deny", "the headroom of registry is unknown: it was not measured",
     ask(GROW, {"gpus": 2}), facts(dependencies=known({}))),
    ("G3", "deny", "the headroom of registry is unknown: away",
     ask(GROW, {"gpus": 2}), facts(dependencies=Unknown(why="away"))),
    ("G3", "allow", "nothing receives more load", ask(IncreaseCapacity(pool="small"), {"gpus": 1}), facts(dependencies=None)),
    ("G3", "allow", "big carries 40 of 60 tokens/s", ask(DRAIN, EVICT), facts()),
    ("G3", "deny", "the 2 endpoint(s) left can serve 60",
     ask(DRAIN, EVICT), facts(pools=known({"big": pool("big", load=70.0)}))),
    ("G3", "deny", "the load of big is unknown", ask(DRAIN, EVICT), facts(pools=known({"big": pool("big", load=None)}))),
    ("G5", "allow", "2 of 3 in big answer meanwhile (minimum 2)", ask(DRAIN, EVICT), facts()),
    ("G5", "deny", "1 replica(s) of big would answer meanwhile; 2 is the minimum",
     ask(RESTART, EVICT), facts(pools=known({"big": pool("big", 2)}))),
    ("G5", "deny", "how many endpoints of big answer is unknown: they could not be probed",
     ask(RESTART, EVICT), facts(pools=known({"big": pool("big", None)}))),
    ("G5", "deny", "the state of pool big is unknown", ask(RESTART, EVICT), facts(pools=Unknown(why="x"))),
    ("G5", "allow", "no endpoint is taken out", ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW, rejoin=rejoin())),
    ("G6", "allow", "it can be taken back", ask(DRAIN, CORDON), facts()),
    ("G6", "allow", "it can be taken back", ask(ROLLBACK, {}), facts()),
    ("G6", "ask", "reboot_node cannot be taken back: a named, verified person must approve", ask(REBOOT, CORDON), facts()),
    ("G6", "ask", "reset_gpu cannot be taken back", ask(RESET, {"gpus": 1}), facts()),
    ("G6", "ask", "restart_engine cannot be taken back", ask(RESTART, EVICT), facts()),
    ("G6", "allow", "policy lets restart_engine act without a named person", ask(RESTART, EVICT, UNATTENDED), facts()),
    ("G6", "allow", "observe mode", ask(REBOOT, CORDON, policy("observe")), facts()),
    ("G6", "ask", "a named, verified person must approve",
     ask(REBOOT, CORDON), facts(approval=approval(REBOOT, PLAIN, verified=False))),
    ("G6", "ask", "a named, verified person must approve",
     ask(REBOOT, CORDON), facts(approval=approval(REBOOT, PLAIN, approvers=()))),
    ("G6", "ask", "the approval is for another plan, or has ended",
     ask(REBOOT, CORDON), facts(approval=approval(RESET, PLAIN))),
    ("G6", "ask", "the approval is for another plan, or has ended",
     ask(REBOOT, CORDON), facts(approval=approval(REBOOT, PLAIN, expires_at=c.NOW))),
    ("G6", "allow", "approved by ana, verified", ask(REBOOT, CORDON), facts(approval=approval(REBOOT, PLAIN))),
    ("G7", "deny", "is outside of the plan's envelope", ask(RESET, {"gpus": 2}), facts()),
    ("G7", "deny", "is outside of the plan's envelope", ask(GROW, {"nodes": ("n1",)}), facts()),
    ("G7", "deny", "is outside of the plan's envelope", ask(FreezeChanges(cluster="west"), {"gpus": 1}), facts()),
    ("G7", "ask", "policy wants 1 of group sre-oncall", ask(ROLLBACK, {"changed": {"chat": 0.75}}, policy(ask_over_share=0.5)),
     facts()),
    ("G7", "allow", "runs unattended", ask(ROLLBACK, {"changed": {"chat": 0.25}}, policy(ask_over_share=0.5)), facts()),
    ("G9", "deny", "n1 has not been checked under load", ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW)),
    ("G9", "deny", "n1 has not been checked under load",
     ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW, rejoin=rejoin(node="n2"))),
    ("G9", "deny", "n1 failed under load: no token",
     ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW, rejoin=rejoin(ok=False, why="no token"))),
    ("G9", "deny", "the check of n1 under load is 61 s old; 60 s is the most",
     ask(DRAIN, {}, **BACK),
     facts(fault=GONE_NOW, rejoin=rejoin(observed_at=c.NOW - timedelta(seconds=REJOIN_FOR_S + 1)))),
    ("G9", "allow", "1 indicator(s)", ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW, rejoin=rejoin())),
    ("G9", "allow", "1 indicator(s)", ask(GROW, {}, **BACK), facts(fault=GONE_NOW)),
    ("G9", "allow", "undo returns", ask(DRAIN, {}, purpose="undo"), facts()),
    ("G1", "deny", "the oldest fact is 9.0 s old", ask(DRAIN, CORDON), facts(cluster=known(c.state(), 9))),
    ("G1", "deny", "the oldest fact is 9.0 s old",
     ask(GROW, {"gpus": 1}), facts(dependencies=known({"registry": 5.0}, 9))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "outcome", "reason", "question", "seen"),
    TABLE,
    ids=[f"{g}-{o}-{q.step.step.lever}-{r}" for g, o, r, q, _ in TABLE],
)
def test_each_gate_answers_as_the_table_says_and_gives_its_reason(
    gate: str, outcome: str, reason: str, question: Question, seen: Facts
) -> None:
    """The reason is what an SRE reads at 3 am."""
    found = next(g for g in judge(question, seen).gates if g.gate == gate)

    assert (found.outcome, reason in found.reason) == (outcome, True), found


@pytest.mark.parametrize("rejoined", [None, rejoin(ok=False, why="x")], ids=["unchecked", "failed"])
def test_an_undo_of_a_drain_does_not_wait_for_a_check_under_load(rejoined: Rejoin | None) -> None:
    """Undo returns to what stood before, at once: the drain did harm."""
    verdict = judge(ask(DRAIN, {}, purpose="undo"), facts(rejoin=rejoined, fault=Unknown(why="not needed")))

    assert verdict.outcome == "allow", verdict.because()


def test_the_small_cluster_lets_a_dead_node_be_drained() -> None:
    """All gates together: the table above changes one thing at a time from here."""
    assert judge(ask(DRAIN, CORDON), facts()).outcome == "allow"
    assert judge(ask(GROW, {"gpus": 2}), facts()).outcome == "allow"
    assert judge(ask(REBOOT, CORDON), facts()).outcome == "ask"
