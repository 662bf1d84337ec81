"""Nodes, replicas and workloads of a simulated cluster, which move on by themselves as time goes by.

Time comes in from outside: nothing happens between two calls that could not have happened at its own moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runbooks.base import digest
from runbooks.cluster import ClusterState, NodeState, PodState, Revision, WorkloadState
from runbooks.fleet import Fleet


@dataclass
class SimNode:
    """One machine."""

    name: str
    gpus: int
    boot_id: str
    cordoned: bool = False
    failed: str = ""
    failed_at: datetime | None = None


@dataclass(frozen=True)
class Template:
    """What a revision runs."""

    image: str
    env: tuple[tuple[str, str], ...] = ()

    @property
    def hash(self) -> str:
        """As the control plane names it."""
        return digest({"image": self.image, "env": dict(self.env)})[:10]


@dataclass
class SimPod:
    """One replica; a check replica belongs to no workload."""

    name: str
    uid: str
    pool: str
    template: Template
    address: str
    gpus: int
    created_at: datetime
    node: str | None = None
    bound_at: datetime | None = None
    deleted_at: datetime | None = None
    check: bool = False


@dataclass
class SimWorkload:
    """One Deployment, with its disruption budget and autoscaler. Rolls over with one replica more and none less."""

    pool: str
    desired: int
    gpus: int
    revisions: list[tuple[Template, datetime]]
    min_available: int | None = None
    autoscaler_max: int | None = None
    behaviour: str = ""
    behaviour_before_freeze: str | None = None
    paused: bool = False
    generation: int = 1
    rolled: Template | None = None

    @property
    def present(self) -> Template:
        """The newest revision."""
        return self.revisions[-1][0]

    @property
    def frozen(self) -> bool:
        """Its autoscaler may not scale."""
        return self.behaviour == "disabled"

    def set_template(self, template: Template, now: datetime) -> None:
        """The newest revision from now on; one that was there before keeps the time of its birth."""
        born = next((at for one, at in self.revisions if one == template), now)
        self.revisions = [r for r in self.revisions if r[0] != template] + [(template, born)]


@dataclass
class SimWorld:
    """Everything that stands in the cluster. `start_s` until a bound replica is ready, `end_s` until a deleted one is gone."""

    fleet: Fleet
    domain: str
    nodes: dict[str, SimNode]
    workloads: dict[str, SimWorkload]
    now: datetime
    start_s: float = 1.0
    end_s: float = 0.2
    toleration_s: float = 3.0
    broken_images: frozenset[str] = frozenset()
    pods: dict[str, SimPod] = field(default_factory=dict)
    born: int = 0

    def ready(self, pod: SimPod) -> bool:
        """It has had its time to start, on a node that works."""
        return (
            pod.bound_at is not None
            and pod.node is not None
            and not self.nodes[pod.node].failed
            and pod.template.image not in self.broken_images
            and pod.bound_at + timedelta(seconds=self.start_s) <= self.now
        )

    def advance(self, to: datetime) -> None:
        """Whatever happens until then, in its order."""
        self._settle()
        while (at := self._next()) is not None and at <= to:
            self.now = max(self.now, at)
            self._settle()
        self.now = max(self.now, to)

    def live(self, pool: str) -> list[SimPod]:
        """Replicas of a pool that are not on their way out, oldest first."""
        found = [p for p in self.pods.values() if p.pool == pool and p.deleted_at is None and not p.check]
        return sorted(found, key=lambda p: (p.created_at, p.name))

    def used(self, node: str) -> int:
        """GPUs that pods bound to the node hold."""
        return sum(p.gpus for p in self.pods.values() if p.node == node)

    def allowed(self, pool: str) -> int | None:
        """Evictions that the pool's budget allows now; None: it has none."""
        least = self.workloads[pool].min_available
        return None if least is None else max(0, sum(self.ready(p) for p in self.live(pool)) - least)

    def bear(self, pool: str, template: Template, name: str = "", node: str | None = None) -> SimPod:
        """A new replica; with a node it is bound at once, beside the scheduler. KeyError: every address is taken."""
        self.born += 1
        taken = {p.address for p in self.pods.values()}
        listed = self.fleet.pool(pool)
        free = [e.address for e in listed.endpoints if e.address not in taken] if listed is not None else []
        if not free:
            raise KeyError(f"pool {pool} has no free address in the fleet")
        name, gpus = name or f"{pool}-{template.hash}-{self.born}", self.workloads[pool].gpus
        pod = SimPod(name, f"uid-{self.born}", pool, template, free[0], gpus, self.now)
        if node is not None:
            pod.node, pod.bound_at = node, self.now
        self.pods[name] = pod
        return pod

    def _next(self) -> datetime | None:
        """The next moment at which something changes by itself."""
        found = []
        for pod in self.pods.values():
            if pod.bound_at is not None:
                found.append(pod.bound_at + timedelta(seconds=self.start_s))
            if pod.deleted_at is not None:
                found.append(pod.deleted_at + timedelta(seconds=self.end_s))
        found += [n.failed_at + timedelta(seconds=self.toleration_s) for n in self.nodes.values() if n.failed_at]
        return min((at for at in found if at > self.now), default=None)

    def _settle(self) -> None:
        """Controllers, scheduler and kubelets act until nothing is left to do at this moment."""
        was = None
        while was != (now := self._told()):
            was = now
            self._act()

    def _told(self) -> tuple[object, ...]:
        return tuple((p.name, p.node, p.deleted_at) for p in self.pods.values())

    def _act(self) -> None:
        for pod in list(self.pods.values()):
            node = self.nodes[pod.node] if pod.node is not None else None
            if pod.deleted_at is None:
                if node is not None and node.failed_at is not None and self._past(node.failed_at, self.toleration_s):
                    pod.deleted_at = self.now
            # On a dead node nobody confirms an end.
            elif node is None or (not node.failed and self._past(pod.deleted_at, self.end_s)):
                del self.pods[pod.name]
        for workload in self.workloads.values():
            self._reconcile(workload)
        for pod in sorted(self.pods.values(), key=lambda p: p.created_at):
            if pod.node is None and pod.deleted_at is None and (place := self._place(pod.gpus)) is not None:
                pod.node, pod.bound_at = place, self.now

    def _past(self, since: datetime, seconds: float) -> bool:
        return since + timedelta(seconds=seconds) <= self.now

    def _place(self, gpus: int) -> str | None:
        """Where the scheduler puts it: the emptiest node that takes it."""
        fits = [
            n for n in self.nodes.values() if not n.cordoned and not n.failed and n.gpus - self.used(n.name) >= gpus
        ]
        return min((n.name for n in fits), key=lambda name: (self.used(name), name), default=None)

    def _reconcile(self, workload: SimWorkload) -> None:
        if not workload.paused or workload.rolled is None:
            workload.rolled = workload.present
        target, pods = workload.rolled, self.live(workload.pool)
        old = [p for p in pods if p.template != target and not workload.paused]
        fresh = [p for p in pods if p not in old]
        while len(fresh) < workload.desired and len(pods) < workload.desired + bool(old):
            try:
                fresh.append(self.bear(workload.pool, target))
            except KeyError:
                break
            pods = self.live(workload.pool)
        serving = sum(self.ready(p) for p in pods)
        # Those that do not serve first, then the old, then the youngest.
        for pod in sorted(pods, key=lambda p: (self.ready(p), p not in old, -p.created_at.timestamp(), p.name)):
            surplus = len(self.live(workload.pool)) > workload.desired
            spare = not self.ready(pod) or serving > workload.desired
            if (pod in old and (spare or (surplus and serving > workload.desired))) or (not old and surplus):
                pod.deleted_at = self.now
                serving -= self.ready(pod)

    def state(self) -> ClusterState:
        """In the words of levers and gates."""
        return ClusterState(
            nodes={n.name: self._node(n) for n in self.nodes.values()},
            pods={p.name: self._pod(p) for p in self.pods.values() if not p.check},
            workloads={w.pool: self._workload(w) for w in self.workloads.values()},
        )

    def _node(self, node: SimNode) -> NodeState:
        return NodeState(
            name=node.name,
            ready=not node.failed,
            cordoned=node.cordoned,
            gpus=node.gpus,
            gpus_used=self.used(node.name),
            boot_id=node.boot_id,
            reason=node.failed,
        )

    def _pod(self, pod: SimPod) -> PodState:
        waits = pod.node is None
        return PodState(
            name=pod.name,
            uid=pod.uid,
            pool=pod.pool,
            node=pod.node,
            ready=self.ready(pod),
            deleting=pod.deleted_at is not None,
            address=None if waits else pod.address,
            created_at=pod.created_at,
            template=pod.template.hash,
            waiting=f"Unschedulable: 0/{len(self.nodes)} nodes are available: Insufficient nvidia.com/gpu"
            if waits
            else "",
            unschedulable=waits,
        )

    def _workload(self, work: SimWorkload) -> WorkloadState:
        pods = self.live(work.pool)
        return WorkloadState(
            pool=work.pool,
            desired=work.desired,
            ready=sum(self.ready(p) for p in pods),
            updated=sum(p.template == work.present for p in pods),
            available=sum(self.ready(p) for p in pods),
            observed=True,
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
            max_unavailable=0,
            disruptions_allowed=self.allowed(work.pool),
        )
