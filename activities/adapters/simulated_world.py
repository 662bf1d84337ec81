"""Nodes, replicas and workloads of a simulated cluster, which move on by themselves as time goes by.

Time comes in from outside: nothing happens between two calls that could not have happened at its own moment.
Whoever changes something from outside calls `touch` after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from activities.adapters.simulated_things import Flip, SimNode, SimPod, SimWorkload, Template
from runbooks.fleet import Fleet

__all__ = ["Flip", "SimNode", "SimPod", "SimWorkload", "SimWorld", "Template"]


@dataclass
class SimWorld:
    """Everything that stands in the cluster. `start_s` until a bound replica is ready, `end_s` until a deleted one is gone.

    `quota_gpus`: GPUs that all its replicas may have. `still`: nobody places or replaces anything, since the control plane
    does not answer. `version` rises with whatever happens.
    """

    fleet: Fleet
    domain: str
    nodes: dict[str, SimNode]
    workloads: dict[str, SimWorkload]
    now: datetime
    start_s: float = 1.0
    end_s: float = 0.2
    toleration_s: float = 3.0
    broken_images: frozenset[str] = frozenset()
    quota_gpus: int | None = None
    still: bool = False
    pods: dict[str, SimPod] = field(default_factory=dict)
    born: int = 0
    version: int = 0
    _wake: datetime | None = None
    _dirty: bool = True
    _moved: bool = False

    def touch(self) -> None:
        """Something was changed from outside: the next `advance` looks at all of it."""
        self._dirty = True
        self.version += 1

    def starts_in(self, pool: str) -> float:
        """Seconds from a place on a node until a replica of this pool is ready."""
        work = self.workloads.get(pool)
        return self.start_s if work is None or work.start_s is None else work.start_s

    def ready_at(self, pod: SimPod) -> datetime | None:
        """When it is ready if nothing comes between; None: not as things are."""
        if pod.began_at is None or pod.held or pod.template.image in self.broken_images:
            return None
        return pod.began_at + timedelta(seconds=self.starts_in(pod.pool))

    def ready(self, pod: SimPod) -> bool:
        """It has had its time to start, on a node that works."""
        at = self.ready_at(pod)
        return at is not None and at <= self.now and pod.node is not None and not self.nodes[pod.node].failed

    def advance(self, to: datetime) -> None:
        """Whatever happens until then, in its order."""
        if not self._dirty and (self._wake is None or to < self._wake):
            self.now = max(self.now, to)
            return
        self._settle()
        while self._wake is not None and self._wake <= to:
            self.now = max(self.now, self._wake)
            self._settle()
        self.now = max(self.now, to)

    def wakes(self) -> datetime | None:
        """The next moment at which something changes by itself."""
        if self._dirty:
            self._settle()
        return self._wake

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

    def quota_left(self) -> int | None:
        """GPUs that may still be asked for; None: there is no quota."""
        if self.quota_gpus is None:
            return None
        return max(0, self.quota_gpus - sum(p.gpus for p in self.pods.values() if p.deleted_at is None))

    def bear(self, pool: str, template: Template, name: str = "", node: str | None = None) -> SimPod:
        """A new replica; with a node it is bound at once, beside the scheduler. KeyError: every address is taken."""
        free = self._free(pool)
        if not free:
            raise KeyError(f"pool {pool} has no free address in the fleet")
        pod = self._born(pool, template, free[0], name)
        if node is not None:
            self._bind(pod, node, self._taken())
        self.touch()
        return pod

    def end(self, pod: SimPod) -> None:
        """It is on its way out."""
        if pod.deleted_at is None:
            pod.deleted_at = self.now
            self._moved = True

    def restart(self, pod: SimPod) -> None:
        """Its process ended, and its supervisor starts it again."""
        pod.began_at, pod.restarts = self.now, pod.restarts + 1
        self.touch()

    def _born(self, pool: str, template: Template, address: str, name: str = "") -> SimPod:
        self.born += 1
        name, gpus = name or f"{pool}-{template.hash}-{self.born}", self.workloads[pool].gpus
        pod = SimPod(name, f"uid-{self.born}", pool, template, address, gpus, self.now)
        self.pods[name] = pod
        self._moved = True
        return pod

    def _free(self, pool: str) -> list[str]:
        listed = self.fleet.pool(pool)
        taken = {p.address for p in self.pods.values() if p.pool == pool}
        return [e.address for e in listed.endpoints if e.address not in taken] if listed is not None else []

    def _settle(self) -> None:
        """Controllers, scheduler and kubelets act until nothing is left to do at this moment."""
        self.version += 1
        self._moved = True
        while self._moved:
            self._moved = False
            self._act()
        self._dirty = False
        self._wake = min((at for at in self._coming() if at > self.now), default=None)

    def _coming(self) -> Iterable[datetime]:
        end, wait = timedelta(seconds=self.end_s), timedelta(seconds=self.toleration_s)
        for pod in self.pods.values():
            if pod.deleted_at is not None:
                yield pod.deleted_at + end
            elif (at := self.ready_at(pod)) is not None:
                yield at
        yield from (n.failed_at + wait for n in self.nodes.values() if n.failed_at)
        yield from (n.up_at for n in self.nodes.values() if n.up_at)
        yield from (w.flip.next_at for w in self.workloads.values() if self._flips(w) and w.flip is not None)

    def _act(self) -> None:
        for node in self.nodes.values():
            if node.up_at is not None and node.up_at <= self.now:
                node.up_at, node.failed, node.failed_at = None, "", None
        for pod in list(self.pods.values()):
            place = self.nodes[pod.node] if pod.node is not None else None
            if pod.deleted_at is None:
                lost = place is not None and place.failed_at is not None and not self.still
                if lost and place is not None and self._past(place.failed_at, self.toleration_s):
                    self.end(pod)
            # On a dead node nobody confirms an end.
            elif place is None or (not place.failed and self._past(pod.deleted_at, self.end_s)):
                del self.pods[pod.name]
                self._moved = True
        if self.still:
            return
        pools: dict[str, list[SimPod]] = {name: [] for name in self.workloads}
        for pod in self.pods.values():
            if pod.deleted_at is None and not pod.check:
                pools[pod.pool].append(pod)
        for workload in self.workloads.values():
            self._flip(workload, pools[workload.pool])
            self._reconcile(workload, pools[workload.pool])
        self._schedule()

    def _past(self, since: datetime | None, seconds: float) -> bool:
        return since is not None and since + timedelta(seconds=seconds) <= self.now

    def _schedule(self) -> None:
        """Puts each replica that waits on the emptiest node that takes it, the oldest first, and of those the largest."""
        waiting = [p for p in self.pods.values() if p.node is None and p.deleted_at is None]
        if not waiting:
            return
        taken = self._taken()
        for pod in sorted(waiting, key=lambda p: (p.created_at, -p.gpus)):
            open_ = [
                (len(taken[n.name]), number, n.name)
                for number, n in enumerate(self.nodes.values())
                if not n.cordoned and not n.failed and n.gpus - len(taken[n.name]) >= pod.gpus
            ]
            if open_:
                self._bind(pod, min(open_)[2], taken)

    def _taken(self) -> dict[str, set[int]]:
        """Indices of the GPUs that are held, by node."""
        taken: dict[str, set[int]] = {name: set() for name in self.nodes}
        for pod in self.pods.values():
            if pod.node is not None:
                taken[pod.node].update(pod.gpus_at)
        return taken

    def _bind(self, pod: SimPod, node: str, taken: dict[str, set[int]]) -> None:
        free = (i for i in range(self.nodes[node].gpus) if i not in taken[node])
        pod.node, pod.began_at = node, self.now
        pod.gpus_at = tuple(i for i, _ in zip(free, range(pod.gpus), strict=False))
        taken[node].update(pod.gpus_at)
        self._moved = True

    def _flips(self, work: SimWorkload) -> bool:
        return work.flip is not None and work.flip.template == work.present and not work.paused and not self.still

    def _flip(self, work: SimWorkload, pods: list[SimPod]) -> None:
        """One replica after another runs the new template, at the pace of whoever rolls it out."""
        while self._flips(work) and work.flip is not None and work.flip.next_at <= self.now:
            old = [p for p in pods if p.template != work.flip.template]
            if not old:
                work.flip = None
                break
            min(old, key=lambda p: (p.created_at, p.name)).template = work.flip.template
            work.flip.next_at += timedelta(seconds=work.flip.every_s)
            self._moved = True
        if work.flip is not None and work.flip.template != work.present:
            work.flip = None  # somebody has taken it back

    def _reconcile(self, work: SimWorkload, pods: list[SimPod]) -> None:
        if not work.paused or work.rolled is None:
            work.rolled = work.present
        target = work.rolled
        rolls = not work.paused and work.flip is None
        old = [p for p in pods if p.template != target] if rolls else []
        fresh = len(pods) - len(old)
        most = work.desired + (work.surge if old else 0)
        free = self._free(work.pool) if fresh < work.desired and len(pods) < most else []
        room = self.quota_left() if free else None
        while free and fresh < work.desired and len(pods) < most and (room is None or room >= work.gpus):
            pods.append(self._born(work.pool, target, free.pop(0)))
            fresh += 1
            room = room - work.gpus if room is not None else None
        ready = {p.name for p in pods if self.ready(p)}
        serving, left, gone = len(ready), len(pods), {p.name for p in old}
        if not old and left <= work.desired:
            return
        # Those that do not serve first, then the old, then the youngest.
        for pod in sorted(pods, key=lambda p: (p.name in ready, p.name not in gone, -p.created_at.timestamp(), p.name)):
            spare = pod.name not in ready or serving > work.desired - work.unavailable
            if (pod.name in gone and spare) or (not old and left > work.desired):
                self.end(pod)
                pods.remove(pod)
                left -= 1
                serving -= pod.name in ready
