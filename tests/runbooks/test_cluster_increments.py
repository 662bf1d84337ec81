"""One increment of each lever on a cluster: what it writes, when there is nothing to do, and why it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.change import GONE, CannotPlan, Change, NothingToDo
from runbooks.cluster import ClusterState
from runbooks.cluster_increments import plan_cluster_change
from runbooks.facts import Settings
from runbooks.fleet import Fleet
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
)
from runbooks.planning import plan_change
from runbooks.policy import LeverPolicy
from tests.runbooks import clusters as c

DRAIN = RebalanceNodes(node="n1")
RESTART = RestartEngine(pool="big", older_than=c.NOW)
GROW = IncreaseCapacity(pool="big", by=2, at_once=1)
HOTFIX = RolloutHotfix(rings=(("big",), ("small",)), image="engine:v2")
ROLLBACK = RollbackChange(pool="big", fault_began=c.NOW, window_s=3600)
FREEZE = FreezeChanges(cluster="west")
RESET = ResetGpu(node="n1", gpu="0")
REBOOT = RebootNode(node="n1")

CORDONED: Settings = {**c.SETTINGS, "cordon/n1": "on"}
SICK = c.node("n1", used=0, cordoned=True, sick_gpus={"0": "wants a reset"})
EMPTY = (c.pod("big-1", "n2"), c.pod("big-2", "n2"))
CHANGED = c.work("big", 3, template="v2", revisions=(c.revision("v1", 1, 600), c.revision("v2", 2, 20)))
AFTER_CHANGE: Settings = {**c.SETTINGS, "template/big": "v2"}


def plan(
    step: ClusterStep | NodeStep, settings: Settings = c.SETTINGS, own: Settings | None = None, **state: Any
) -> Any:
    """The next increment on the small cluster, with parts of its state changed."""
    return plan_cluster_change(step, settings, c.state(**state), c.FLEET, own or {})


CHANGES: list[tuple[str, ClusterStep | NodeStep, Settings, dict[str, Any], Settings, Settings, bool]] = [
    ("a node is cordoned first", DRAIN, c.SETTINGS, {}, {"cordon/n1": "off"}, {"cordon/n1": "on"}, False),
    ("an empty node is drained by that", DRAIN, c.SETTINGS, {"pods": EMPTY},
     {"cordon/n1": "off"}, {"cordon/n1": "on"}, True),
    ("then the oldest replica goes", DRAIN, CORDONED,
     {"pods": (c.pod("big-0", age=5), c.pod("big-9", age=9), *EMPTY), "big": c.work("big", 4)},
     {"pod/big/big-9": "uid-big-9"}, {"pod/big/big-9": GONE}, False),
    ("one that does not serve goes before those that do", DRAIN, CORDONED,
     {"pods": (c.pod("big-0"), c.pod("small-0", of="small", age=1, ready=False)), "small": c.work("small", 1, ready=0)},
     {"pod/small/small-0": "uid-small-0"}, {"pod/small/small-0": GONE}, False),
    ("the last one ends the drain", DRAIN, CORDONED, {"pods": (c.pod("big-0"), *EMPTY)},
     {"pod/big/big-0": "uid-big-0"}, {"pod/big/big-0": GONE}, True),
    ("one that is on its way out is no longer there", DRAIN, CORDONED,
     {"pods": (c.pod("big-0"), c.pod("big-8", deleting=True), *EMPTY)},
     {"pod/big/big-0": "uid-big-0"}, {"pod/big/big-0": GONE}, True),
    ("on a dead node what does not serve needs no room elsewhere", DRAIN, CORDONED,
     {"nodes": (c.node("n1", ready=False), c.node("n2", used=4)), "pods": (c.pod("big-0", ready=False), *EMPTY),
      "big": c.work("big", 3, ready=2)},
     {"pod/big/big-0": "uid-big-0"}, {"pod/big/big-0": GONE}, True),
    ("the oldest replica of a pool is restarted first", RESTART, c.SETTINGS,
     {"pods": (c.pod("big-0", age=1), c.pod("big-1", age=9))},
     {"pod/big/big-1": "uid-big-1"}, {"pod/big/big-1": GONE}, False),
    ("those that began later are restarted already", RestartEngine(pool="big", older_than=c.ago(5)), c.SETTINGS,
     {"pods": (c.pod("big-0", age=1), c.pod("big-1", age=9))},
     {"pod/big/big-1": "uid-big-1"}, {"pod/big/big-1": GONE}, True),
    ("only the replica at the address", RESTART.model_copy(update={"endpoint": "big-2:8000"}), c.SETTINGS, {},
     {"pod/big/big-2": "uid-big-2"}, {"pod/big/big-2": GONE}, True),
    ("a replica more", GROW, c.SETTINGS, {}, {"replicas/big": 3}, {"replicas/big": 4}, False),
    ("the second of two is the last", GROW, {**c.SETTINGS, "replicas/big": 4}, {},
     {"replicas/big": 4}, {"replicas/big": 5}, True),
    ("not beyond the addresses that the fleet knows", GROW.model_copy(update={"by": 9, "at_once": 9}),
     {**c.SETTINGS, "replicas/big": 5}, {}, {"replicas/big": 5}, {"replicas/big": 6}, True),
    ("the canary ring", HOTFIX, c.SETTINGS, {}, {"image/big": "engine:v1"}, {"image/big": "engine:v2"}, False),
    ("the next ring once the first has it", HOTFIX, {**c.SETTINGS, "image/big": "engine:v2"}, {},
     {"image/small": "engine:v1"}, {"image/small": "engine:v2"}, True),
    ("a flag, in one ring of two pools", RolloutHotfix(rings=(("big", "small"),), env={"FLAG": "new"}), c.SETTINGS, {},
     {"env/big/FLAG": "old", "env/small/FLAG": "old"}, {"env/big/FLAG": "new", "env/small/FLAG": "new"}, True),
    ("back to the revision before the change", ROLLBACK, AFTER_CHANGE, {"big": CHANGED},
     {"template/big": "v2"}, {"template/big": "v1"}, True),
    ("to before the first of several changes in the window", ROLLBACK, {**c.SETTINGS, "template/big": "v3"},
     {"big": c.work("big", 3, template="v3",
                    revisions=(c.revision("v1", 1, 600), c.revision("v2", 2, 20), c.revision("v3", 3, 10)))},
     {"template/big": "v3"}, {"template/big": "v1"}, True),
    ("a freeze pauses what is not paused", FREEZE, {**c.SETTINGS, "paused/small": "on"}, {},
     {"paused/big": "off", "autoscale/big": "on"}, {"paused/big": "on", "autoscale/big": "off"}, True),
    ("a sick GPU of a drained node is reset once more", ResetGpu(node="n1", gpu="1"), CORDONED,
     {"nodes": (c.node("n1", used=0, cordoned=True, sick_gpus={"1": "x"}),), "pods": EMPTY},
     {"gpu/n1/1": 4}, {"gpu/n1/1": 5}, True),
    ("a drained node is rebooted", REBOOT, CORDONED, {"nodes": (SICK,), "pods": EMPTY},
     {"boot/n1": "boot-n1"}, {"boot/n1": GONE}, True),
    ("on a dead node nobody ends what is on its way out", REBOOT, CORDONED,
     {"nodes": (c.node("n1", used=0, cordoned=True, ready=False),), "pods": (c.pod("big-0", deleting=True), *EMPTY)},
     {"boot/n1": "boot-n1"}, {"boot/n1": GONE}, True),
]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "settings", "state", "before", "after", "last"), [row[1:] for row in CHANGES], ids=[r[0] for r in CHANGES]
)
def test_an_increment_writes_exactly_this(
    step: ClusterStep | NodeStep,
    settings: Settings,
    state: dict[str, Any],
    before: Settings,
    after: Settings,
    last: bool,
) -> None:
    """The settings before and after, and whether the step is complete with it."""
    found = plan(step, settings, **state)

    assert isinstance(found, Change), found
    assert (found.before, found.after, found.last) == (before, after, last)
    assert found.note


NOTHING: list[tuple[str, ClusterStep | NodeStep, Settings, dict[str, Any], str]] = [
    ("drained", DRAIN, CORDONED, {"pods": EMPTY}, "has no replica of the fleet"),
    ("restarted", RestartEngine(pool="big", older_than=c.ago(90)), c.SETTINGS, {}, "every replica of big began after"),
    ("the replica is gone", RESTART.model_copy(update={"endpoint": "big-77:8000"}), c.SETTINGS, {},
     "no replica of big is at big-77:8000 any more"),
    ("large enough", GROW, {**c.SETTINGS, "replicas/big": 5}, {}, "5 is the most that this step gives it"),
    ("every ring has it", HOTFIX, {**c.SETTINGS, "image/big": "engine:v2", "image/small": "engine:v2"}, {},
     "every ring has this version already"),
    ("all is paused", FREEZE,
     {**c.SETTINGS, "paused/big": "on", "paused/small": "on", "autoscale/big": "off"}, {}, "is paused already"),
    ("the GPU is well", RESET, CORDONED, {"nodes": (c.node("n1", used=0, cordoned=True),), "pods": EMPTY},
     "finds nothing wrong with GPU 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "settings", "state", "says"), [row[1:] for row in NOTHING], ids=[r[0] for r in NOTHING]
)
def test_what_is_done_already_is_not_done_again(
    step: ClusterStep | NodeStep, settings: Settings, state: dict[str, Any], says: str
) -> None:
    """And the reason says what stands there."""
    found = plan(step, settings, **state)

    assert isinstance(found, NothingToDo), found
    assert says in found.why


CANNOT: list[tuple[str, ClusterStep | NodeStep, Settings, dict[str, Any], str, bool]] = [
    ("a node that the cluster lacks", RebalanceNodes(node="n9"), c.SETTINGS, {}, "the cluster has no node n9", True),
    ("no room for what serves", DRAIN, CORDONED, {"nodes": (c.node("n1"), c.node("n2", used=4))},
     "no other node has 1 free GPU(s)", False),
    ("room on a cordoned node is none", DRAIN, CORDONED, {"nodes": (c.node("n1"), c.node("n2", cordoned=True))},
     "no other node has 1 free GPU(s)", False),
    ("room on a dead node is none", DRAIN, CORDONED, {"nodes": (c.node("n1"), c.node("n2", ready=False))},
     "no other node has 1 free GPU(s)", False),
    ("GPUs on two nodes are no room for one replica", DRAIN, CORDONED,
     {"nodes": (c.node("n1"), c.node("n2", used=3), c.node("n3", used=3)), "big": c.work("big", 3, gpus_per_replica=2)},
     "no other node has 2 free GPU(s)", False),
    ("others of the pool do not serve yet", DRAIN, CORDONED, {"big": c.work("big", 3, ready=2)},
     "2 of 3 replicas of big are ready: the others come first", False),
    ("the disruption budget is used up", DRAIN, CORDONED, {"big": c.work("big", 3, disruptions_allowed=0)},
     "the disruption budget of big allows no eviction now", False),
    ("a rolling restart waits for the successor", RESTART, c.SETTINGS, {"big": c.work("big", 3, ready=2)},
     "the others come first", False),
    ("a rolling restart keeps the budget", RESTART, c.SETTINGS, {"big": c.work("big", 3, disruptions_allowed=0)},
     "the disruption budget of big", False),
    ("a pool without a workload", IncreaseCapacity(pool="nobody"), c.SETTINGS, {}, "no workload of nobody", True),
    ("replicas that are no number", GROW, {**c.SETTINGS, "replicas/big": "3"}, {}, "no workload of big", True),
    ("an autoscaler that would take it away", GROW, c.SETTINGS,
     {"big": c.work("big", 3, autoscaler="hpa", autoscaler_max=4)}, "autoscaler hpa scales big (at most 4)", True),
    ("the quota is used up", GROW, c.SETTINGS, {"big": c.work("big", 3, quota_gpus_left=0)},
     "1 GPU(s) are needed and the quota of big has 0 left", True),
    ("no GPU is free", GROW, c.SETTINGS, {"nodes": (c.node("n1", used=4), c.node("n2", used=4))},
     "Insufficient nvidia.com/gpu: 1 replica(s) of 1 GPU(s), room for 0", True),
    ("a flag that the template lacks", RolloutHotfix(rings=(("big",),), env={"NEW": "x"}), c.SETTINGS, {},
     "env/big/NEW: not in the pool's template, so nothing to go back to", True),
    ("a rollout is under way", HOTFIX, c.SETTINGS, {"big": c.work("big", 3, updated=1)},
     "a rollout of big is under way: 1 of 3", False),
    ("the controller has not seen the newest", HOTFIX, c.SETTINGS, {"big": c.work("big", 3, observed=False)},
     "a rollout of big is under way", False),
    ("rollouts are paused", HOTFIX, c.SETTINGS, {"big": c.work("big", 3, paused=True)},
     "rollouts of big are paused", False),
    ("the next ring waits for the one before", HOTFIX, {**c.SETTINGS, "image/big": "engine:v2"},
     {"big": c.work("big", 3, updated=2)}, "a rollout of big is under way: 2 of 3", False),
    ("no change is marked", ROLLBACK, c.SETTINGS, {},
     "no change of big is marked in the 60 min before the fault: nothing to roll back", True),
    ("the change came after the fault", ROLLBACK.model_copy(update={"fault_began": c.ago(30)}), AFTER_CHANGE,
     {"big": CHANGED}, "no change of big is marked", True),
    ("there is nothing before the change", ROLLBACK, c.SETTINGS,
     {"big": c.work("big", 3, revisions=(c.revision("v1", 1, 20),))}, "no revision before the marked change", True),
    ("somebody else has paused it", ROLLBACK, {**AFTER_CHANGE, "paused/big": "on"}, {"big": CHANGED},
     "somebody else has paused rollouts of big", True),
    ("a workload that the cluster lacks", ROLLBACK.model_copy(update={"pool": "nobody"}), c.SETTINGS, {},
     "no workload of nobody", True),
    ("no agent has published the GPU", ResetGpu(node="n1", gpu="7"), CORDONED, {}, "nobody can reset it", True),
    ("not cordoned", RESET, c.SETTINGS, {}, "n1 is not cordoned", False),
    ("not drained", RESET, CORDONED, {"nodes": (SICK, c.node("n2"))}, "n1 still has big-0, small-0", False),
    ("on a live node what is on its way out may hold the GPU", RESET, CORDONED,
     {"nodes": (SICK,), "pods": (c.pod("big-0", deleting=True), *EMPTY)}, "n1 still has big-0", False),
    ("the boot id is not known", REBOOT, {**CORDONED, "boot/n1": ""}, {}, "could not be read back", True),
    ("a reboot needs the drain too", REBOOT, CORDONED, {"nodes": (SICK,)}, "n1 still has big-0, small-0", False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("step", "settings", "state", "says", "lasting"), [row[1:] for row in CANNOT], ids=[r[0] for r in CANNOT]
)
def test_what_has_no_safe_form_says_why_and_whether_waiting_helps(
    step: ClusterStep | NodeStep, settings: Settings, state: dict[str, Any], says: str, lasting: bool
) -> None:
    """`lasting`: on to the next step at once; else it is asked again for a while."""
    found = plan(step, settings, **state)

    assert isinstance(found, CannotPlan), found
    assert says in found.why
    assert found.lasting is lasting


@pytest.mark.parametrize("step", [DRAIN, RESTART, GROW, HOTFIX, ROLLBACK, FREEZE, RESET, REBOOT], ids=lambda s: s.lever)
def test_an_unknown_cluster_plans_nothing(step: ClusterStep | NodeStep) -> None:
    """No lever acts on a cluster that could not be read, by either door."""
    unread: ClusterState | None = None

    assert isinstance(plan_cluster_change(step, c.SETTINGS, unread, c.FLEET, {}), CannotPlan)
    assert isinstance(plan_change(step, "act", 0, c.SETTINGS, None, c.FLEET, LeverPolicy()), CannotPlan)


def test_a_drain_counts_the_node_once_and_each_replica_while_it_is_down() -> None:
    """The cordon takes the node and its GPUs out; an eviction takes one serving replica, for a while."""
    cordon = plan(DRAIN)
    evict = plan(DRAIN, CORDONED, pods=(c.pod("big-0"), *EMPTY))
    dead = plan(DRAIN, CORDONED, pods=(c.pod("big-0", ready=False), *EMPTY))

    assert (cordon.blast.nodes, cordon.blast.gpus, cordon.blast.endpoints) == (("n1",), 4, 0)
    assert (evict.blast.nodes, evict.blast.gpus, evict.blast.restarting) == ((), 0, {"big": 1})
    assert dead.blast.restarting == {}


def test_a_new_version_counts_the_share_of_the_route_that_gets_it() -> None:
    """By capacity: three quarters in the first ring, one quarter in the second; a rollback counts alike."""
    first = plan(HOTFIX)
    second = plan(HOTFIX, {**c.SETTINGS, "image/big": "engine:v2"})
    back = plan(ROLLBACK, AFTER_CHANGE, big=CHANGED)

    assert first.blast.changed == {"chat": 0.75}
    assert second.blast.changed == {"chat": 1.0}  # with the ring before: all of it
    assert back.blast.changed == {"chat": 0.75}


def test_capacity_and_resets_count_in_gpus() -> None:
    """What a replica takes, and the one card that is away."""
    assert plan(GROW, big=c.work("big", 3, gpus_per_replica=2)).blast.gpus == 2
    assert plan(RESET, CORDONED, nodes=(SICK,), pods=EMPTY).blast.gpus == 1
    assert plan(REBOOT, CORDONED, nodes=(SICK,), pods=EMPTY).blast.nodes == ("n1",)


def test_an_autoscaler_that_is_frozen_is_not_in_the_way() -> None:
    """It may not scale in either direction, so it takes nothing away."""
    found = plan(GROW, big=c.work("big", 3, autoscaler="hpa", autoscaler_max=4, frozen=True))

    assert isinstance(found, Change)


def test_a_change_that_was_rolled_back_already_is_not_rolled_back_further() -> None:
    """Kubernetes gives the revision that was gone back to the highest number: its age says what it is."""
    back = (c.revision("v0", 1, 900), c.revision("v2", 3, 20), c.revision("v1", 4, 600))

    found = plan(ROLLBACK, c.SETTINGS, big=c.work("big", 3, revisions=back))

    assert isinstance(found, NothingToDo)
    assert "runs revision 4 (engine:v1), from before the change" in found.why


def test_a_fix_that_somebody_brought_after_the_fault_began_is_not_rolled_back() -> None:
    """Two people at one object: the one who came first has the word."""
    fixed = (c.revision("v1", 1, 600), c.revision("v2", 2, 20), c.revision("v3", 3, 1))
    step = ROLLBACK.model_copy(update={"fault_began": c.ago(5)})

    found = plan(step, {**c.SETTINGS, "template/big": "v3"}, big=c.work("big", 3, template="v3", revisions=fixed))

    assert isinstance(found, CannotPlan)
    assert "changed again since the fault began" in found.why


def test_the_cases_own_freeze_never_blocks_its_own_rollback() -> None:
    """What this case has paused it lets go, for this pool, in the same write."""
    found = plan(ROLLBACK, {**AFTER_CHANGE, "paused/big": "on"}, {"paused/big": "on"}, big=CHANGED)

    assert isinstance(found, Change)
    assert found.before == {"template/big": "v2", "paused/big": "on"}
    assert found.after == {"template/big": "v1", "paused/big": "off"}


def test_a_freeze_leaves_pools_of_other_clusters_and_without_a_workload_alone() -> None:
    """Only what a cluster runs can be paused by it."""
    bare = c.FLEET.pools[1].model_copy(update={"workload": None})
    fleet = Fleet(routes=c.FLEET.routes, pools=(c.FLEET.pools[0], bare), dependencies=c.FLEET.dependencies)

    found = plan_cluster_change(FREEZE, c.SETTINGS, c.state(), fleet, {})

    assert isinstance(found, Change)
    assert set(found.after) == {"paused/big", "autoscale/big"}


def test_a_freeze_of_half_a_cluster_is_none() -> None:
    """A workload that cannot be seen would go on rolling."""
    seen = c.state()
    half = seen.model_copy(update={"workloads": {"big": seen.workloads["big"]}})

    found = plan_cluster_change(FREEZE, c.SETTINGS, half, c.FLEET, {})

    assert isinstance(found, CannotPlan)
    assert "the cluster has no workload of small" in found.why
