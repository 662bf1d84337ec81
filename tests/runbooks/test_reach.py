"""What a step of a cluster reaches: pools, targets, domain, rings, and the outer bounds that people approve."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.fleet import Fleet, Route
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
    RolloutHotfix,
    Step,
    rejoins,
)
from runbooks.planning import rings_of
from runbooks.policy import LeverPolicy, Policy
from runbooks.reach import envelope_of, pools_touched, targets_of
from runbooks.templates import RenderError
from tests.runbooks import clusters as c

Acting = ClusterStep | NodeStep
POLICY = Policy(
    name="test", default=Policy(name="x").default,
    levers={name: LeverPolicy(max_gpus=4, largest_share=0.6, max_endpoints_down=2)
            for name in ("rebalance_nodes", "increase_capacity", "rollout_hotfix", "reboot_node", "restart_engine")},
)  # fmt: skip
REACHED: list[tuple[Acting, list[str], tuple[str, ...], dict[str, Any]]] = [
    (RebalanceNodes(node="n1"), ["big", "small"], ("west/node/n1",),
     {"largest_endpoints": 2, "largest_nodes": 1, "largest_gpus": 4}),
    (RebalanceNodes(node="n2"), ["big"], ("west/node/n2",), {"largest_nodes": 1}),
    (ResetGpu(node="n1", gpu="3"), ["big", "small"], ("west/node/n1/gpu/3",), {"largest_nodes": 0, "largest_gpus": 1}),
    (RebootNode(node="n1"), ["big", "small"], ("west/node/n1",), {"largest_nodes": 1, "largest_gpus": 4}),
    (RestartEngine(pool="big", older_than=c.NOW), ["big"], ("west/service/big",), {"largest_endpoints": 2}),
    (RestartEngine(pool="big", endpoint="big-0:8000", older_than=c.NOW), ["big"],
     ("west/service/big/endpoint/big-0:8000",), {"largest_endpoints": 2}),
    (IncreaseCapacity(pool="small"), ["small"], ("west/service/small",), {"largest_gpus": 4, "largest_share": 0.0}),
    (RollbackChange(pool="small", fault_began=c.NOW), ["small"], ("west/service/small",),
     {"largest_share": 1.0, "largest_gpus": 0}),
    (RolloutHotfix(rings=(("big",), ("small",)), image="i"), ["big", "small"], ("west/service/big", "west/service/small"),
     {"largest_share": 0.6, "largest_gpus": 0}),
    (FreezeChanges(cluster="west"), ["big", "small"], ("west",),
     {"largest_share": 0.0, "largest_endpoints": 0, "largest_nodes": 0, "largest_gpus": 0}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "pools", "targets", "bounds"), REACHED, ids=[f"{s.lever}-{'-'.join(t)}" for s, _, t, _ in REACHED]
)
def test_a_step_reaches_these_pools_and_targets_and_no_more(
    step: Acting, pools: list[str], targets: tuple[str, ...], bounds: dict[str, Any]
) -> None:
    """Pools by name, targets by id, and the bounds of its envelope."""
    touched = pools_touched(step, c.FLEET, ("steps", 0))
    envelope = envelope_of("1", step, targets, POLICY)

    assert [p.name for p in touched] == pools
    assert targets_of(step, touched) == targets
    assert {k: getattr(envelope, k) for k in bounds} == bounds


BARE = Fleet(
    routes=c.FLEET.routes,
    pools=tuple(p.model_copy(update={"workload": None}) for p in c.FLEET.pools),
    nodes=c.FLEET.nodes,
)
REFUSED: list[tuple[str, Step, Fleet, str, str]] = [
    ("unknown node", RebalanceNodes(node="n9"), c.FLEET, "with.node", "the fleet has no node 'n9'"),
    ("unknown node of a GPU", ResetGpu(node="n9", gpu="0"), c.FLEET, "with.node", "the fleet has no node 'n9'"),
    ("unknown node to reboot", RebootNode(node="n9"), c.FLEET, "with.node", "the fleet has no node 'n9'"),
    ("unknown pool", IncreaseCapacity(pool="huge"), c.FLEET, "with.pool", "the fleet has no pool 'huge'"),
    ("unknown pool of a ring", RolloutHotfix(rings=(("big", "huge"),), image="i"), c.FLEET, "with.rings",
     "the fleet has no pool 'huge'"),
    ("a node whose pool no cluster runs", RebalanceNodes(node="n2"), BARE, "with.node", "pool big has no `workload`"),
    ("a pool that no cluster runs", RestartEngine(pool="big", older_than=c.NOW), BARE, "with.pool",
     "pool big has no `workload` in the fleet, so no cluster runs it"),
    ("a rollback of a pool that no cluster runs", RollbackChange(pool="big", fault_began=c.NOW), BARE, "with.pool",
     "pool big has no `workload`"),
    ("a ring of a pool that no cluster runs", RolloutHotfix(rings=(("big",),), image="i"), BARE, "with.rings",
     "pool big has no `workload`"),
    ("a cluster without workloads", FreezeChanges(cluster="west"), BARE, "with.cluster",
     "no pool of cluster 'west' has a `workload`"),
    ("a cluster that is not there", FreezeChanges(cluster="mars"), c.FLEET, "with.cluster",
     "no pool of cluster 'mars' has a `workload`"),
    ("a canary without the largest pool", RolloutHotfix(rings=(("small",), ("big",)), image="i"), c.FLEET, "with.rings",
     "the first ring leaves out the largest pool, big; put it there"),
    ("a pool in two rings", RolloutHotfix(rings=(("big",), ("small", "big")), image="i"), c.FLEET, "with.rings",
     "a pool stands in two rings"),
    ("a hotfix that changes nothing", RolloutHotfix(rings=(("big",),)), c.FLEET, "with.image",
     "rollout_hotfix changes nothing: give `image` or `env`"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "fleet", "field", "says"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_the_fleet_does_not_have_is_refused_when_it_is_planned(
    step: Step, fleet: Fleet, field: str, says: str
) -> None:
    """With the parameter that is wrong, so that an SRE finds its line."""
    with pytest.raises(RenderError) as caught:
        pools_touched(step, fleet, ("steps", 0))

    assert str(caught.value).startswith(f"steps.0.{field}: {says}")


def test_a_pool_as_large_as_the_largest_may_be_the_canary() -> None:
    """Size counts in tokens per second, not in replicas."""
    fast = c.pool("fast", 1, 1, tps=90.0)
    fleet = Fleet(routes=(Route(name="chat", pools=("big", "fast")),), pools=(c.FLEET.pools[0], fast),
                  dependencies=c.FLEET.dependencies)  # fmt: skip

    touched = pools_touched(RolloutHotfix(rings=(("fast",), ("big",)), image="i"), fleet, ())

    assert [p.name for p in touched] == ["fast", "big"]


def test_rings_that_nobody_wrote_are_one_pool_each_the_largest_first() -> None:
    """All pools of the route, however they are ordered in it; a pool without a route is alone."""
    route = Route(name="chat", pools=("small", "big"))
    fleet = c.FLEET.model_copy(update={"routes": (route,)})
    alone = c.FLEET.model_copy(update={"routes": ()})

    assert rings_of(fleet, fleet.pool("small")) == (("big",), ("small",))
    assert rings_of(alone, alone.pool("small")) == (("small",),)
    assert rings_of(fleet, None) == ()


def test_only_a_drained_node_must_prove_itself_before_it_returns() -> None:
    """No other lever keeps a node out."""
    found = {step.lever: rejoins(step) for step, *_ in REACHED}

    assert {lever: node for lever, node in found.items() if node} == {"rebalance_nodes": "n2"}
