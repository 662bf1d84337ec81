"""One increment of a lever on a cluster or a node, planned anew from what stands there now. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import assert_never

from runbooks.change import (
    GONE,
    Blast,
    CannotPlan,
    Change,
    NothingToDo,
    autoscale_key,
    boot_key,
    cordon_key,
    env_key,
    gpu_key,
    image_key,
    paused_key,
    pod_key,
    replicas_key,
    template_key,
)
from runbooks.cluster import ClusterState, PodState, WorkloadState
from runbooks.facts import Settings, Value
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

Planned = Change | NothingToDo | CannotPlan


def plan_cluster_change(
    step: ClusterStep | NodeStep, settings: Settings, state: ClusterState | None, fleet: Fleet, own: Settings
) -> Planned:
    """What the next increment would write.

    `settings` and `state` are one read of the cluster. `own` is what this case's standing changes left (`after`): its
    own freeze does not keep it from rolling back, and what it has added is counted.
    """
    if state is None:
        return CannotPlan(why="the state of the cluster is unknown")
    match step:
        case RebalanceNodes():
            return _drain(step, settings, state)
        case RestartEngine():
            return _restart(step, state)
        case IncreaseCapacity():
            return _grow(step, settings, state, fleet, own)
        case RolloutHotfix():
            return _hotfix(step, settings, state, fleet)
        case RollbackChange():
            return _rollback(step, settings, state, fleet, own)
        case FreezeChanges():
            return _freeze(step, settings, state, fleet)
        case ResetGpu():
            return _reset(step, settings, state)
        case RebootNode():
            return _reboot(step, settings, state)
    assert_never(step)


def _drain(step: RebalanceNodes, settings: Settings, state: ClusterState) -> Planned:
    node, key = state.nodes.get(step.node), cordon_key(step.node)
    if node is None or key not in settings:
        return CannotPlan(why=f"the cluster has no node {step.node}", lasting=True)
    here = state.on(step.node)
    if settings[key] != "on":
        return Change(
            before={key: settings[key]},
            after={key: "on"},
            blast=Blast(nodes=(step.node,), gpus=node.gpus),
            last=not here,
            note=f"cordon {step.node}, which has {len(here)} replica(s)",
        )
    if not here:
        return NothingToDo(why=f"{step.node} is cordoned and has no replica of the fleet")
    # Those that do not serve first: moving them costs nobody anything.
    pod = min(here, key=lambda p: (p.ready, p.created_at, p.name))
    busy = _busy(state, pod)
    if busy is not None:
        return busy
    need = state.workloads[pod.pool].gpus_per_replica
    if pod.ready and state.room_for(need, without=step.node) < 1:
        return CannotPlan(
            why=f"no other node has {need} free GPU(s): evicted, a replica of {pod.pool} could not come back"
        )
    return _evict(state, pod, last=len(here) == 1, note=f"evict {pod.name} of {pod.pool} from {step.node}")


def _evict(state: ClusterState, pod: PodState, last: bool, note: str) -> Change:
    return Change(
        before={pod_key(pod.pool, pod.name): pod.uid},
        after={pod_key(pod.pool, pod.name): GONE},
        blast=Blast(restarting={pod.pool: 1} if pod.ready else {}),
        last=last,
        note=note,
    )


def _busy(state: ClusterState, pod: PodState) -> CannotPlan | None:
    """Whatever already keeps a replica of the pool from serving comes first, the disruption budget included."""
    work = state.workloads.get(pod.pool)
    if work is None:
        return CannotPlan(why=f"the workload of {pod.pool} is not in the cluster")
    if pod.ready and work.ready < work.desired:
        return CannotPlan(why=f"{work.ready} of {work.desired} replicas of {pod.pool} are ready: the others come first")
    if pod.ready and work.disruptions_allowed == 0:
        return CannotPlan(why=f"the disruption budget of {pod.pool} allows no eviction now")
    return None


def _restart(step: RestartEngine, state: ClusterState) -> Planned:
    pods = [p for p in state.of(step.pool) if step.endpoint is None or p.address == step.endpoint]
    old = [p for p in pods if p.created_at < step.older_than]
    if step.endpoint is not None and not pods:
        return NothingToDo(why=f"no replica of {step.pool} is at {step.endpoint} any more")
    if not old:
        return NothingToDo(why=f"every replica of {step.pool} began after {step.older_than:%H:%M:%S}")
    pod = min(old, key=lambda p: (p.ready, p.created_at, p.name))
    busy = _busy(state, pod) if step.endpoint is None else None
    if busy is not None:
        return busy
    return _evict(state, pod, last=len(old) == 1, note=f"restart {pod.name}, {len(old)} to go")


def _grow(step: IncreaseCapacity, settings: Settings, state: ClusterState, fleet: Fleet, own: Settings) -> Planned:
    pool, work = fleet.pool(step.pool), state.workloads.get(step.pool)
    key = replicas_key(step.pool)
    if pool is None or pool.workload is None or work is None or not isinstance(settings.get(key), int):
        return CannotPlan(why=f"the cluster has no workload of {step.pool}", lasting=True)
    now = int(settings[key])
    goal = min(pool.workload.replicas + step.by, len(pool.endpoints))
    if now >= goal:
        return NothingToDo(why=f"{step.pool} has {now} replicas, and {goal} is the most that this step gives it")
    if work.frozen is False and work.autoscaler:
        most = work.autoscaler_max
        return CannotPlan(
            why=f"autoscaler {work.autoscaler} scales {step.pool} (at most {most}): what we add it would take away",
            lasting=True,
        )
    waiting = [p for p in state.pods.values() if p.unschedulable]
    if waiting:
        return CannotPlan(
            why=f"{len(waiting)} replica(s) wait for room already ({waiting[0].waiting}): more would only wait behind them",
            lasting=True,
        )
    # As many as fit, one at least: half of what is wanted is better than none.
    more = max(1, min(step.at_once, goal - now, state.room_for(work.gpus_per_replica)))
    if work.quota_gpus_left is not None and work.gpus_per_replica:
        more = max(1, min(more, work.quota_gpus_left // work.gpus_per_replica))
    gpus = more * work.gpus_per_replica
    if work.quota_gpus_left is not None and gpus > work.quota_gpus_left:
        return CannotPlan(
            why=f"{gpus} GPU(s) are needed and the quota of {step.pool} has {work.quota_gpus_left} left", lasting=True
        )
    if (room := state.room_for(work.gpus_per_replica)) < more:
        return CannotPlan(
            why=f"Insufficient nvidia.com/gpu: {more} replica(s) of {work.gpus_per_replica} GPU(s), room for {room}",
            lasting=True,
        )
    return Change(
        before={key: now},
        after={key: now + more},
        blast=Blast(gpus=gpus),
        last=now + more >= goal,
        note=f"{step.pool} from {now} to {now + more} replicas",
    )


def _hotfix(step: RolloutHotfix, settings: Settings, state: ClusterState, fleet: Fleet) -> Planned:
    for number, ring in enumerate(step.rings):
        before: Settings = {}
        after: Settings = {}
        for pool in ring:
            wanted = _version(step, pool)
            missing = sorted(k for k in wanted if k not in settings)
            if missing:
                return CannotPlan(
                    why=f"{', '.join(missing)}: not in the pool's template, so nothing to go back to", lasting=True
                )
            stalled = _settled(state.workloads[pool]) if pool in state.workloads else f"{pool} has no workload"
            if stalled:
                return CannotPlan(why=stalled)
            for key, value in wanted.items():
                if settings[key] != value:
                    before[key], after[key] = settings[key], value
        if after:
            return Change(
                before=before,
                after=after,
                # What is on the new version after this ring, the rings before included: each alone would pass any limit.
                blast=Blast(changed=_shares(fleet, _up_to(step, number)), restarting=_down(state, ring)),
                last=number == len(step.rings) - 1,
                note=f"ring {number + 1} of {len(step.rings)}: {', '.join(ring)}",
            )
    return NothingToDo(why="every ring has this version already")


def _up_to(step: RolloutHotfix, number: int) -> list[str]:
    """The pools of the rings up to this one."""
    return [pool for ring in step.rings[: number + 1] for pool in ring]


def _version(step: RolloutHotfix, pool: str) -> Settings:
    wanted: dict[str, Value] = {env_key(pool, name): value for name, value in step.env.items()}
    return wanted | ({image_key(pool): step.image} if step.image else {})


def _settled(work: WorkloadState) -> str:
    """Why a new version must wait, or nothing: two rollouts of one workload at once prove nothing about either."""
    if work.paused:
        return f"rollouts of {work.pool} are paused"
    if not work.observed or work.updated < work.desired:
        return f"a rollout of {work.pool} is under way: {work.updated} of {work.desired} replicas are of the newest revision"
    return ""


def _down(state: ClusterState, pools: Sequence[str]) -> dict[str, int]:
    """Replicas that the controller may take down at once while it rolls: its own strategy, not our wish."""
    return {p: most for p in pools if (most := state.workloads[p].max_unavailable)}


def _shares(fleet: Fleet, pools: Sequence[str]) -> dict[str, float]:
    """Share of each route's capacity that gets another version."""
    shares: dict[str, float] = {}
    for route in fleet.routes:
        sizes = {p.name: p.size * p.tokens_per_second for p in fleet.pools if p.name in route.pools}
        part = sum(size for name, size in sizes.items() if name in pools)
        if part:
            shares[route.name] = part / sum(sizes.values())
    return shares


def _rollback(step: RollbackChange, settings: Settings, state: ClusterState, fleet: Fleet, own: Settings) -> Planned:
    work, key = state.workloads.get(step.pool), template_key(step.pool)
    if work is None or key not in settings or not work.revisions:
        return CannotPlan(why=f"the cluster has no workload of {step.pool}", lasting=True)
    began = step.fault_began
    # By age, not by number: a revision that was gone back to gets the highest number, and would hide those before it.
    made = sorted(work.revisions, key=lambda r: r.created_at)
    marked = [r for r in made if began - timedelta(seconds=step.window_s) <= r.created_at <= began]
    # The oldest revision that is kept changed nothing that could be gone back to.
    suspects = [r for r in marked if r is not made[0]]
    if not marked:
        return CannotPlan(
            why=f"no change of {step.pool} is marked in the {step.window_s / 60:.0f} min before the fault: nothing to roll back",
            lasting=True,
        )
    if not suspects:
        return CannotPlan(why=f"{step.pool} has no revision before the marked change", lasting=True)
    wanted = made[made.index(suspects[0]) - 1]
    if made[-1].created_at > began and settings[key] == made[-1].template:
        return CannotPlan(why=f"{step.pool} was changed again since the fault began: somebody is at it", lasting=True)
    if settings[key] == wanted.template:
        return NothingToDo(why=f"{step.pool} runs revision {wanted.number} ({wanted.image}), from before the change")
    before: Settings = {key: settings[key]}
    after: Settings = {key: wanted.template}
    if settings.get(paused_key(step.pool)) == "on":
        if own.get(paused_key(step.pool)) != "on":
            return CannotPlan(why=f"somebody else has paused rollouts of {step.pool}", lasting=True)
        before[paused_key(step.pool)], after[paused_key(step.pool)] = "on", "off"
    return Change(
        before=before,
        after=after,
        blast=Blast(changed=_shares(fleet, [step.pool]), restarting=_down(state, [step.pool])),
        last=True,
        note=f"{step.pool} back to revision {wanted.number} ({wanted.image})",
    )


def _freeze(step: FreezeChanges, settings: Settings, state: ClusterState, fleet: Fleet) -> Planned:
    before: Settings = {}
    after: Settings = {}
    for pool in fleet.pools:
        if pool.cluster != step.cluster or pool.workload is None:
            continue
        if pool.name not in state.workloads:
            return CannotPlan(why=f"the cluster has no workload of {pool.name}")
        for key, frozen in ((paused_key(pool.name), "on"), (autoscale_key(pool.name), "off")):
            if key in settings and settings[key] != frozen:
                before[key], after[key] = settings[key], frozen
    if not after:
        return NothingToDo(why=f"every rollout and autoscaler of {step.cluster} is paused already")
    return Change(before=before, after=after, last=True, note=f"{len(after)} rollout(s) and autoscaler(s) paused")


def _reset(step: ResetGpu, settings: Settings, state: ClusterState) -> Planned:
    key = gpu_key(step.node, step.gpu)
    now = settings.get(key)
    if isinstance(now, bool) or not isinstance(now, int):
        return CannotPlan(
            why=f"no agent of {step.node} has published GPU {step.gpu}: nobody can reset it", lasting=True
        )
    undrained = _undrained(step.node, state)
    if undrained:
        return CannotPlan(why=undrained)
    if step.gpu in state.nodes[step.node].unknown_gpus:
        return CannotPlan(why=f"the agent of {step.node} cannot tell how GPU {step.gpu} is")
    if step.gpu not in state.nodes[step.node].sick_gpus:
        return NothingToDo(why=f"the agent of {step.node} finds nothing wrong with GPU {step.gpu}")
    return Change(
        before={key: now}, after={key: now + 1}, blast=Blast(gpus=1), last=True, note=f"reset number {now + 1}"
    )


def _reboot(step: RebootNode, settings: Settings, state: ClusterState) -> Planned:
    key = boot_key(step.node)
    now = settings.get(key)
    if not isinstance(now, str) or not now:
        return CannotPlan(why=f"the boot id of {step.node} is not known: a reboot could not be read back", lasting=True)
    undrained = _undrained(step.node, state)
    if undrained:
        return CannotPlan(why=undrained)
    gpus = state.nodes[step.node].gpus
    return Change(
        before={key: now},
        after={key: GONE},
        blast=Blast(nodes=(step.node,), gpus=gpus),
        last=True,
        note=f"reboot {step.node}",
    )


def _undrained(node: str, state: ClusterState) -> str:
    found = state.nodes.get(node)
    if found is None:
        return f"the cluster has no node {node}"
    if not found.cordoned:
        return f"{node} is not cordoned: a replica could be put on it meanwhile"
    # On a dead node nobody ends what is on its way out; on a live one it may still hold the GPU.
    left = [p.name for p in state.pods.values() if p.node == node and (found.ready or not p.deleting)]
    if left:
        return f"{node} still has {', '.join(left)}"
    # Pods of others are none of our drain, and none of ours to end.
    return f"{found.gpus_used} GPU(s) of {node} are held by pods of others" if found.ready and found.gpus_used else ""
