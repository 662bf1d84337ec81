"""A simulated world in the words of levers and gates."""

from __future__ import annotations

from datetime import datetime, timedelta

from activities.adapters.simulated_things import SimNode, SimPod, SimWorkload
from activities.adapters.simulated_world import SimWorld
from runbooks.cluster import ClusterState, NodeState, PodState, Revision, WorkloadState

AGENT_EVERY = timedelta(seconds=5)


class Stated:
    """The state of a world, made anew when something has happened. `agents`: every node has one that tells of its GPUs, a
    word of which is five seconds old at most."""

    def __init__(self, world: SimWorld, agents: bool = False) -> None:
        self._world, self._agents = world, agents
        self._seen: tuple[int, datetime] | None = None
        self._state = ClusterState()

    def state(self) -> ClusterState:
        """All of it at this moment."""
        world = self._world
        old = self._agents and self._seen is not None and world.now - self._seen[1] >= AGENT_EVERY
        if self._seen is None or self._seen[0] != world.version or old:
            self._seen, self._state = (world.version, world.now), self._made()
        return self._state

    def _made(self) -> ClusterState:
        world = self._world
        used = dict.fromkeys(world.nodes, 0)
        for pod in world.pods.values():
            if pod.node is not None:
                used[pod.node] += pod.gpus
        return ClusterState(
            nodes={n.name: self._node(n, used[n.name]) for n in world.nodes.values()},
            pods={p.name: self._pod(p) for p in world.pods.values() if not p.check},
            workloads={w.pool: self._workload(w) for w in world.workloads.values()},
        )

    def _node(self, node: SimNode, used: int) -> NodeState:
        speaks = self._agents and not node.failed
        seen = tuple(str(i) for i in range(node.gpus) if i not in node.lost)
        return NodeState(
            name=node.name,
            ready=not node.failed,
            cordoned=node.cordoned,
            gpus=node.gpus,
            gpus_used=used,
            boot_id=node.boot_id,
            reason=node.failed,
            sick_gpus={str(i): why for i, why in node.sick.items()} if self._agents else {},
            counted_gpus=seen if self._agents else (),
            agent_seen_at=self._world.now if speaks else node.failed_at if self._agents else None,
        )

    def _pod(self, pod: SimPod) -> PodState:
        world, waits = self._world, pod.node is None
        ready = world.ready(pod)
        waiting = ""
        if waits:
            waiting = f"Unschedulable: 0/{len(world.nodes)} nodes are available: Insufficient nvidia.com/gpu"
        elif not ready and pod.restarts:
            waiting = f"CrashLoopBackOff: restarted {pod.restarts} times"
        return PodState(
            name=pod.name,
            uid=pod.uid,
            pool=pod.pool,
            node=pod.node,
            ready=ready,
            deleting=pod.deleted_at is not None,
            address=None if waits else pod.address,
            created_at=pod.created_at,
            template=pod.template.hash,
            waiting=waiting,
            unschedulable=waits,
        )

    def _workload(self, work: SimWorkload) -> WorkloadState:
        world = self._world
        pods = world.live(work.pool)
        ready = sum(world.ready(p) for p in pods)
        return WorkloadState(
            pool=work.pool,
            desired=work.desired,
            ready=ready,
            updated=sum(p.template == work.present for p in pods),
            available=ready,
            observed=not world.still,
            paused=work.paused,
            template=work.present.hash,
            revisions=tuple(
                Revision(template=t.hash, number=i, created_at=at, image=t.image)
                for i, (t, at) in enumerate(work.revisions, start=1)
            ),
            gpus_per_replica=work.gpus,
            image=work.present.image,
            autoscaler=work.pool if work.autoscaler_max is not None else "",
            autoscaler_max=work.autoscaler_max,
            frozen=work.frozen,
            max_unavailable=work.unavailable,
            disruptions_allowed=world.allowed(work.pool),
            quota_gpus_left=world.quota_left(),
        )
