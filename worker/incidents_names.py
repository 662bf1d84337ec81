"""The fleet of a site in the words of an incident file, where every replica and node is numbered: what is sick comes first."""

from __future__ import annotations

import math

from runbooks.detection import Target
from runbooks.fleet import Fleet, Pool
from runbooks.incident_fleet import PORT, ClusterSpec, DependencySpec, FleetSpec, PoolSpec, RouteSpec

UTILISED = 0.5
"""Share of a route's capacity that we take its users to ask for: no record says it."""
TOKENS = 200.0


class Renamed:
    """The part of a fleet that a case could touch: its cluster, and the pools that stand in for those of it."""

    def __init__(self, fleet: Fleet, about: Target) -> None:
        self._whole, self._about = fleet, about
        own = {p.name for p in fleet.pools if p.cluster == about.cluster}
        near = {name for r in fleet.routes if own & {*r.pools} for name in r.pools}
        self._pools = [p for p in fleet.pools if p.name in own | near]
        self._clusters = list(dict.fromkeys(p.cluster for p in self._pools))

    def fleet(self) -> FleetSpec:
        """All of it. What no inventory says is a plain guess."""
        return FleetSpec(
            clusters=tuple(self._cluster(name) for name in self._clusters),
            pools=tuple(self._pool(p) for p in self._pools),
            routes=tuple(self._routes()),
            dependencies=tuple(
                DependencySpec(name=d, capacity=100.0, load=40.0, per_replica=0.5, per_start=2.0) for d in self._needs()
            ),
        )

    def target(self, target: Target) -> str:
        """Its id by the new names. ValueError: it is not of this part of the fleet."""
        new = target.model_dump()
        if target.cluster not in self._clusters:
            raise ValueError(f"{target.id} is not in this part of the fleet")
        if target.endpoint is not None:
            new["endpoint"] = f"{target.service}-{self._addresses(target.service).index(target.endpoint)}:{PORT}"
            new["node"] = None
        elif target.node is not None:
            new["node"] = self.node(target.cluster, target.node)
        if target.gpu is not None and not target.gpu.isdigit():
            new["gpu"] = "0"  # named by its uuid: which one it is makes no difference
        return Target.model_validate(new).id

    def node(self, cluster: str, name: str) -> str:
        """`east-n1` for the first. ValueError: there is no such node."""
        return f"{cluster}-n{self._nodes(cluster).index(name) + 1}"

    def _addresses(self, pool: str | None) -> list[str]:
        found = next((p for p in self._pools if p.name == pool), None)
        if found is None:
            raise ValueError(f"pool {pool} is not in this part of the fleet")
        names = [e.address for e in found.endpoints]
        return self._first(names, self._about.endpoint if self._about.service == pool else None)

    def _nodes(self, cluster: str) -> list[str]:
        names = [n.name for n in self._whole.nodes if n.cluster == cluster]
        return self._first(names, self._about.node if self._about.cluster == cluster else None)

    @staticmethod
    def _first(names: list[str], sick: str | None) -> list[str]:
        """A fault takes the first ones: the sick one becomes the first."""
        return [sick, *(n for n in names if n != sick)] if sick in names and sick is not None else names

    def _cluster(self, name: str) -> ClusterSpec:
        nodes = len(self._nodes(name))
        gpus = self._gpus(name)
        places = sum(math.ceil(p.size / (gpus // self._each(p))) for p in self._pools if p.cluster == name)
        runs_on = {c.kind: c.runs_on for c in self._whole.controls if c.cluster == name}
        return ClusterSpec(
            name=name,
            nodes=max(nodes, places, 1),
            gpus_per_node=gpus,
            traffic_runs_on=tuple(filter(None, map(self._known, runs_on.get("traffic", ())))),
            cluster_runs_on=tuple(filter(None, map(self._known, runs_on.get("cluster", ())))),
        )

    def _known(self, target_id: str) -> str:
        """A target by its new name; what the file has not is left out."""
        try:
            return self.target(Target.of(target_id))
        except ValueError:
            return ""

    def _gpus(self, cluster: str) -> int:
        most = max((n.gpus for n in self._whole.nodes if n.cluster == cluster), default=0)
        return min(most, 16) or 8

    def _each(self, pool: Pool) -> int:
        """GPUs of a replica: as many as there are for each. Inventories do not say it."""
        whole = sum(n.gpus for n in self._whole.nodes if n.cluster == pool.cluster)
        replicas = sum(p.size for p in self._pools if p.cluster == pool.cluster)
        each = max(1, whole // replicas if replicas else 1)
        return min(1 << (each.bit_length() - 1), self._gpus(pool.cluster))

    def _pool(self, pool: Pool) -> PoolSpec:
        return PoolSpec(
            name=pool.name,
            cluster=pool.cluster,
            replicas=pool.size,
            gpus_per_replica=self._each(pool),
            tokens_per_second=pool.tokens_per_second,
            most_replicas=len(pool.endpoints),
            model=pool.model,
            dialect=pool.dialect,
            residency=pool.residency,
            tenants=pool.tenants,
            depends_on=pool.workload.depends_on if pool.workload is not None else (),
        )

    def _needs(self) -> list[str]:
        return sorted({d for p in self._pools if p.workload is not None for d in p.workload.depends_on})

    def _routes(self) -> list[RouteSpec]:
        """Each pool on the first of its routes; a pool without one gets its own."""
        left, routes = {p.name: p for p in self._pools}, list[RouteSpec]()
        for route in self._whole.routes:
            mine = [left.pop(name) for name in route.pools if name in left]
            if mine:
                tiers = {tier: 1 / len(route.tiers) for tier in route.tiers}
                made = RouteSpec(
                    name=route.name,
                    pools=tuple(p.name for p in mine),
                    requests_per_second=_asked(mine),
                    tokens_per_request=TOKENS,
                    target_utilisation=route.target_utilisation,
                )
                routes.append(made.model_copy(update={"tiers": tiers}) if tiers else made)
        alone = (
            RouteSpec(name=p.name, pools=(p.name,), requests_per_second=_asked([p]), tokens_per_request=TOKENS)
            for p in left.values()
        )
        return [*routes, *alone]


def _asked(pools: list[Pool]) -> float:
    return round(UTILISED * sum(p.size * p.tokens_per_second for p in pools) / TOKENS, 2)
