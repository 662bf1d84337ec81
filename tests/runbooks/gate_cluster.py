"""A small cluster, all of it well, to ask gates about levers of clusters and nodes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

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
)
from runbooks.gates.question import Question
from runbooks.levers import (
    ClusterStep,
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
