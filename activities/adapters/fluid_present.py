"""Brings a simulated fleet to its present moment: faults begin and end, clusters move on, replicas are what they are now."""

from __future__ import annotations

from activities.adapters.fluid_control import Leaned, api_now, dependency_now
from activities.adapters.fluid_faults import Asks, causes_of
from activities.adapters.fluid_hands import Hands
from activities.adapters.fluid_levels import Levels
from activities.adapters.fluid_pool import PoolFlow
from activities.adapters.fluid_replicas import Replica
from runbooks.incident import Incident

SHORT_S = 2.0
"""The step after something has happened."""


class Present(Hands):
    """`marks` rises whenever a replica may be another than it was. `pace`: the next step, seconds, if nothing comes between."""

    def __init__(self, incident: Incident) -> None:
        super().__init__(incident, causes_of(incident))
        spec = incident.fleet
        self.levels = Levels()
        self.pools = {p.name: PoolFlow(p) for p in spec.pools}
        self.apis: dict[str, Leaned] = {}
        self.leaned: dict[str, Leaned] = {}
        self.marks = 0
        self.pace = SHORT_S
        self.served = {c.name: 0.0 for c in spec.clusters}
        """Requests/s that each cluster served in the last step."""
        self.demands: list[Asks] = []
        self.closed_at: dict[str, float] = {}
        """When the connections of a pool were last closed, seconds after the start."""
        self._seen: dict[str, int] = {}
        self._stale: set[str] = set(self.pools)
        self._leaning = {d.name: [p.name for p in spec.pools if d.name in p.depends_on] for d in spec.dependencies}

    def settle(self) -> None:
        """Something was written: what follows from it at this moment."""
        self.pace = SHORT_S
        self._sync()

    def closed(self, pool: str) -> None:
        """What hung on the connections of a pool has failed, and what was dead of them is not there any more."""
        self.relevel()
        self.closed_at[pool] = self.t
        self.pools[pool].drop_stuck()

    def _happen(self) -> None:
        """Faults that begin, end, or act by now."""
        changed = False
        for cause in self.causes:
            if not cause.on and cause.at <= self.t + 1e-6 and not cause.over:
                cause.on, changed = True, True
                cause.begin(self)
            if cause.on and cause.ends is not None and cause.ends <= self.t + 1e-6:
                cause.on, cause.over, changed = False, True, True
                cause.end(self)
            if cause.on and cause.next_at is not None and cause.next_at <= self.t + 1e-6:
                changed = True
                cause.act(self)
        if changed:
            self.relevel()
            self.noticed()

    def relevel(self) -> None:
        """The faults are others than they were."""
        self._stale |= self.pools.keys()
        self.levels = Levels()
        for cause in self.active:
            cause.level(self.levels)
        self.demands = [c for c in self.active if isinstance(c, Asks)]

    def _sync(self, warm: bool = False) -> None:
        """Brings clusters, members and replicas to this moment."""
        now = self.moment(self.t)
        for _ in range(20):
            moved = False
            for name, world in self.worlds.items():
                world.advance(now)
                if self._seen.get(name) != world.version:
                    moved = True
                    self._index(name)
                    for cause in self.active:
                        cause.follow(self)
                    world.advance(now)
                    self._index(name)
                    self._seen[name] = world.version
                    self._stale |= world.workloads.keys()
            self._lean()
            moved |= self._block()
            if not moved:
                break
        stale, self._stale = self._stale | self.edge.touched, set()
        self.edge.touched.clear()
        if stale:
            self.marks += 1
            self.pace = SHORT_S
            for pool in sorted(stale):
                self._compose(pool, warm)

    def _compose(self, pool: str, warm: bool) -> None:
        world, rotation = self.worlds[self.cluster_of(pool)], self.edge.rotation[pool]
        replicas, there = [], set()
        for pod in self.pods_of(pool):
            if pod.node is None:
                continue
            up = world.ready(pod)
            there.add(pod.address)
            versions = frozenset([pod.template.image, *(v for _, v in pod.template.env)])
            replicas.append(
                Replica(
                    pod.address, pod.uid, pod.name, pod.node, versions, pod.restarts, up,
                    rotates=rotation[pod.address],
                )
            )  # fmt: skip
        replicas += [Replica(a, up=False) for a, inside in rotation.items() if inside and a not in there]
        for cause in self.active:
            cause.mark(pool, replicas)
        self.pools[pool].compose(replicas, warm)

    def _lean(self) -> None:
        """Loads of APIs and dependencies."""
        spec = self.incident.fleet
        for cluster in spec.clusters:
            ready, starting = self.counts(cluster.name)
            served = self.served[cluster.name]
            self.apis[cluster.name] = api_now(cluster.api, self.levels, cluster.name, ready, starting, served)
        for dependency in spec.dependencies:
            users = self._leaning[dependency.name]
            ready = sum(self.ready_in(p) for p in users)
            starting = sum(self.starting_in(p) for p in users)
            self.leaned[dependency.name] = dependency_now(dependency, self.levels, ready, starting)

    def _block(self) -> bool:
        """No replica comes up while its cluster's API or a dependency that it needs is over its capacity."""
        moved = False
        for cluster, api in self.apis.items():
            moved |= self.still(cluster, api.over)
        for name, thing in self.leaned.items():
            for pool in self._leaning[name]:
                moved |= self.stall(pool, name, thing.over)
        return moved
