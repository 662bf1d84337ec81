"""From an alert about a node, a GPU or a service that a cluster runs to the steps of its plan."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.detection import Detection, Target
from runbooks.levers import (
    IncreaseCapacity,
    Page,
    RebalanceNodes,
    RebootNode,
    ResetGpu,
    RestartEngine,
    RollbackChange,
    RolloutHotfix,
)
from runbooks.library import Library
from runbooks.plan import Plan
from runbooks.planning import plan
from runbooks.policy import Policy
from runbooks.taxonomy import classify
from runbooks.xid import xid_table
from tests.runbooks import clusters as c

BEGAN = c.ago(2)


def detection(
    alert: str, evidence: dict[str, Any] | None = None, labels: dict[str, str] | None = None, **target: str
) -> Detection:
    """Two minutes old, of the small cluster."""
    return Detection(
        alert=alert, target=Target.model_validate({"cluster": "west", **target}), evidence=evidence or {},
        labels=labels or {}, started_at=BEGAN, observed_at=c.NOW,
    )  # fmt: skip


def planned(library: Library, policy: Policy, found: Detection) -> Plan:
    """Classified and planned with the shipped catalogue."""
    of = classify([found], library.taxonomy)
    return plan(of, [found], library=library, policy=policy, fleet=c.FLEET, now=c.NOW)


STEPS: list[tuple[Detection, str, list[Any]]] = [
    (detection("KubeNodeNotReady", node="n1"), "infra.node_down", [RebalanceNodes(node="n1"), RebootNode(node="n1")]),
    (detection("GpuXid", {"xid": 79}, node="n1", gpu="3"), "infra.node_down",
     [RebalanceNodes(node="n1"), RebootNode(node="n1")]),
    (detection("GpuLost", {"lost": True}, node="n2", gpu="0"), "infra.node_down",
     [RebalanceNodes(node="n2"), RebootNode(node="n2")]),
    (detection("GpuRecoveryWanted", {"recovery_action": "node_reboot"}, node="n1", gpu="0"), "infra.node_down",
     [RebalanceNodes(node="n1"), RebootNode(node="n1")]),
    (detection("GpuXid", {"xid": 95}, node="n1", gpu="3"), "infra.gpu_fault",
     [RebalanceNodes(node="n1"), ResetGpu(node="n1", gpu="3")]),
    (detection("GpuRecoveryWanted", {"recovery_action": "drain_and_reset"}, node="n1", gpu="0"), "infra.gpu_fault",
     [RebalanceNodes(node="n1"), ResetGpu(node="n1", gpu="0")]),
    (detection("GpuRowRemapPending", node="n1", gpu="0"), "infra.gpu_fault",
     [RebalanceNodes(node="n1"), ResetGpu(node="n1", gpu="0")]),
    (detection("GpuXid", {"xid": 95}, node="n1"), "infra.gpu_fault", []),
    (detection("GpuXid", {"xid": 13}, node="n1", gpu="0"), "infra.gpu_app_fault", []),
    (detection("GpuXid", {"xid": 13}, service="big", endpoint="big-0:8000"), "infra.gpu_app_fault",
     [RestartEngine(pool="big", endpoint="big-0:8000", older_than=BEGAN)]),
    (detection("LLMTooManyRequests", service="big"), "demand.surge",
     ["reroute_traffic", IncreaseCapacity(pool="big", by=2, at_once=1), "shed_load"]),
    (detection("VLLMRequestsWaiting", {"hot_share": 0.9}, service="big"), "demand.surge",
     ["reroute_traffic", IncreaseCapacity(pool="big", by=2, at_once=1), "shed_load"]),
    (detection("VLLMRequestsWaiting", service="big"), "engine.exhaustion",
     ["shed_load", IncreaseCapacity(pool="big", by=1, at_once=1), "reroute_traffic"]),
    (detection("InferencePoolPendingPods", service="big"), "infra.capacity_loss",
     ["reroute_traffic", IncreaseCapacity(pool="small", by=2, at_once=1), "shed_load", "reroute_traffic"]),
    (detection("KubeDeploymentRolloutStuck", service="big"), "ops.bad_change",
     [RollbackChange(pool="big", fault_began=BEGAN, window_s=3600)]),
    (detection("EngineLatency", {"minutes_since_change": 10}, service="small"), "ops.bad_change",
     [RollbackChange(pool="small", fault_began=BEGAN, window_s=3600)]),
    (detection("EngineBadOutput", service="big"), "engine.bad_output",
     [RollbackChange(pool="big", fault_began=BEGAN, window_s=3600)]),
    (detection("EngineBadOutput", labels={"hotfix_image": "engine:v9"}, service="small"), "engine.bad_output",
     [RollbackChange(pool="small", fault_began=BEGAN, window_s=3600),
      RolloutHotfix(rings=(("big",), ("small",)), image="engine:v9")]),
    (detection("NodesUnreachable", {"nodes_share": 0.2, "window_minutes": 5}, service="big"), "infra.fleet_network",
     ["freeze_changes", "reroute_traffic"]),
    (detection("NodesUnreachable", {"nodes_share": 0.2, "window_minutes": 5}, node="n1"), "infra.fleet_network", []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "failure_class", "steps"), STEPS, ids=[f"{d.alert}-{d.target.id}-{n}" for n, (d, *_) in enumerate(STEPS)]
)
def test_an_alert_is_planned_as_these_steps_and_ends_with_people(
    found: Detection, failure_class: str, steps: list[Any], library: Library, policy: Policy
) -> None:
    """The class, each step with its parameters (or its name where an other test has them), and a page at the end."""
    made = planned(library, policy, found)

    assert made.failure_class == failure_class
    assert [
        s.step if not isinstance(w, str) else s.step.lever for s, w in zip(made.steps, steps, strict=False)
    ] == steps
    assert len(made.steps) == len(steps) + 1
    assert isinstance(made.steps[-1].step, Page)


@pytest.mark.parametrize(
    "found",
    [detection("NodesUnreachable", {"nodes_share": 0.2, "window_minutes": 5}), detection("KubeAPIDown")],
    ids=lambda d: d.alert,
)
def test_a_whole_cluster_is_frozen_and_people_are_told(found: Detection, library: Library, policy: Policy) -> None:
    """Its first pool proves that users are still served; nothing is moved, since no service is named."""
    made = planned(library, policy, found)

    assert [s.step.lever for s in made.steps] == ["freeze_changes", "page"]
    assert {(i.name, i.scope) for i in made.steps[0].indicators} == {
        ("paused_share", "west"),
        ("route_generation", "route/chat"),
    }
    assert made.steps[0].then == "next"


def test_a_drained_node_is_measured_over_all_its_pools_and_proven_by_the_first(
    library: Library, policy: Policy
) -> None:
    """Its scope is the node; the real generation is of the route that the node's first pool serves."""
    step = planned(library, policy, detection("KubeNodeNotReady", node="n1")).steps[0]

    assert {(i.name, i.query, i.scope) for i in step.indicators} == {
        ("route_generation", "ok", "route/chat"),
        ("node_replicas_serving", "replicas_serving", "n1"),
        ("replicas_left", "replicas_left", "n1"),
    }
    assert (step.then, step.rejoin_pool, step.healthy) == ("next", "big", None)
    assert step.domains == ("west",)


def test_each_ring_of_a_hotfix_is_measured_at_its_own_pool(library: Library, policy: Policy) -> None:
    """By the pool's own requests, errors and replicas: a canary is not judged by what the rest of the route does."""
    found = detection("EngineBadOutput", labels={"hotfix_image": "engine:v9"}, service="small")

    step = planned(library, policy, found).steps[1]

    scopes = {name: {i.name: i.scope for i in queries} for name, queries in step.by_pool.items()}
    assert set(scopes) == {"big", "small"}
    for name, of in scopes.items():
        assert (of["rolled_out"], of["pool_requests_per_second"], of["pool_error_rate"]) == (name, name, name)


def test_a_hotfix_that_nobody_offers_is_left_out_and_the_plan_says_so(library: Library, policy: Policy) -> None:
    """Without the label there is no image to bring."""
    made = planned(library, policy, detection("EngineBadOutput", service="big"))

    assert "left out: step 2, image" in made.why
    assert "hotfix_image" in made.why


def test_the_rules_class_every_xid_as_nvidias_table_is_read(library: Library) -> None:
    """taxonomy.yaml lists codes and xid.yaml their actions: they must not drift apart."""
    table = xid_table()
    ruled = {
        code: classify([detection("GpuXid", {"xid": code}, node="n1", gpu="0")], library.taxonomy).failure_class
        for code in table
    }

    assert ruled == {code: xid.failure_class for code, xid in table.items()}
