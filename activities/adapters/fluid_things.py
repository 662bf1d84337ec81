"""The things of a simulated fleet, and what can be done to them: by faults, by people, and by the ports."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from activities.adapters.fluid_edge import Edge
from activities.adapters.simulated_cluster import SimSpec, SimulatedCluster
from activities.adapters.simulated_things import SimNode, SimPod, SimWorkload
from runbooks.incident import Incident
from runbooks.incident_fleet import PoolSpec
from runbooks.incident_site import fleet_of, node_names, weights_of

TOLERATION_S = 300.0
"""Until replicas of a node that is not ready are replaced: the default of Kubernetes."""
DRAIN_S = 5.0
"""Until a replica that is deleted is gone; not longer than a replica takes to come up."""
ROLLS = 0.25
"""Share of a pool's replicas that a rollout takes down at once: the default of a Deployment."""
FLAG = "FLAG"
"""The variable of every template by which a flag can be set: a hotfix without another image."""


class Things:
    """Everything that stands there at `t` seconds after the start."""

    def __init__(self, incident: Incident) -> None:
        self.incident = incident
        self.t = 0.0
        self.fleet = fleet_of(incident)
        pools = {p.name: p for p in incident.fleet.pools}
        self.normal = {r.name: weights_of(r, pools) for r in incident.fleet.routes}
        self.edge = Edge(self.fleet, self.normal)
        self.clusters = {c.name: self._cluster(c.name) for c in incident.fleet.clusters}
        self.worlds = {name: cluster.world for name, cluster in self.clusters.items()}
        self.noticed: Callable[[], None] = lambda: None
        """Called when a fault has just begun or ended."""
        self._serves = {d.name: d.serves for d in incident.fleet.dependencies}
        self._where = {p.name: p.cluster for p in incident.fleet.pools}
        self._homes = {n: c.name for c in incident.fleet.clusters for n in node_names(c)}
        self._order = {p.name: {a: i for i, a in enumerate(p.addresses)} for p in incident.fleet.pools}
        self._pods: dict[str, list[SimPod]] = {p.name: [] for p in incident.fleet.pools}
        self._counts: dict[str, tuple[int, int]] = {}
        self._whole: dict[str, tuple[int, int]] = {}

    def _cluster(self, name: str) -> SimulatedCluster:
        spec = next(c for c in self.incident.fleet.clusters if c.name == name)
        pools = [p for p in self.incident.fleet.pools if p.cluster == name]
        longest = max(p.cold_start for p in pools)
        cluster = SimulatedCluster(
            self.fleet,
            name,
            {p.name: _workload(p) for p in pools},
            clock=lambda: self.moment(self.t),
            moves=lambda: self.moment(self.t),
            end_s=min(DRAIN_S, *(p.cold_start for p in pools)),
            agents=True,
            quota_gpus=spec.quota_gpus,
            toleration_s=TOLERATION_S,
            since=self.incident.starts - timedelta(seconds=longest + 1),
        )
        cluster.world.advance(self.incident.starts)
        return cluster

    def moment(self, t: float) -> datetime:
        """The moment so many seconds after the start."""
        return self.incident.starts + timedelta(seconds=t)

    def cluster_of(self, pool: str) -> str:
        """The cluster of a pool."""
        return self._where[pool]

    def home_of(self, node: str) -> str:
        """The cluster of a node."""
        return self._homes[node]

    def workload(self, pool: str) -> SimWorkload:
        """What runs the pool."""
        return self.worlds[self._where[pool]].workloads[pool]

    def pods_of(self, pool: str) -> list[SimPod]:
        """Its replicas that are not on their way out, in the order of their addresses."""
        return self._pods[pool]

    def pods_at(self, node: str, gpu: int) -> list[SimPod]:
        """Whatever is on this GPU."""
        world = self.worlds[self._homes[node]]
        return [p for p in world.pods.values() if p.node == node and gpu in p.gpus_at and p.deleted_at is None]

    def node(self, name: str) -> SimNode:
        """One machine."""
        return self.worlds[self._homes[name]].nodes[name]

    def nodes_of(self, cluster: str) -> list[str]:
        """Their names, in order."""
        return list(self.worlds[cluster].nodes)

    def well_nodes(self, cluster: str) -> list[str]:
        """Those that are ready and in service."""
        return [n.name for n in self.worlds[cluster].nodes.values() if not n.failed and not n.cordoned]

    def serves(self, pod: SimPod) -> bool:
        """Its process is up and can be reached."""
        return self.worlds[self._where[pod.pool]].ready(pod)

    def serves_at(self, pod: SimPod) -> float:
        """Seconds after the start at which it does, as things are now."""
        at = self.worlds[self._where[pod.pool]].ready_at(pod)
        return self.t if at is None else (at - self.incident.starts).total_seconds()

    def ready_in(self, pool: str) -> int:
        """Replicas that serve."""
        return self._counts.get(pool, (0, 0))[0]

    def starting_in(self, pool: str) -> int:
        """Replicas that have a place and do not serve yet."""
        return self._counts.get(pool, (0, 0))[1]

    def counts(self, cluster: str) -> tuple[int, int]:
        """Both, of a whole cluster."""
        return self._whole.get(cluster, (0, 0))

    def serves_through(self, dependency: str) -> bool:
        """Whether requests need it too."""
        return self._serves[dependency]

    def _index(self, cluster: str) -> None:
        """After something has moved in a cluster."""
        world = self.worlds[cluster]
        mine = {p: list[SimPod]() for p, c in self._where.items() if c == cluster}
        for pod in world.pods.values():
            if pod.deleted_at is None and not pod.check:
                mine[pod.pool].append(pod)
        for pool, pods in mine.items():
            order = self._order[pool]
            pods.sort(key=lambda p: order[p.address])
            ready = [world.ready(p) for p in pods]
            self._pods[pool] = pods
            placed = sum(1 for p in pods if p.node is not None)
            self._counts[pool] = (sum(ready), placed - sum(ready))
            self.edge.joined(pool, zip(pods, ready, strict=True))
        counts = [self._counts[p] for p in mine]
        self._whole[cluster] = (sum(c[0] for c in counts), sum(c[1] for c in counts))


def _workload(pool: PoolSpec) -> SimSpec:
    return SimSpec(
        pool.version,
        {FLAG: "none"},
        pool.gpus_per_replica,
        pool.min_available,
        pool.autoscaler_max,
        start_s=pool.cold_start,
        surge=0,
        unavailable=max(1, round(ROLLS * pool.replicas)),
    )
