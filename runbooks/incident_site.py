"""The inventory that a site would give Interlock, made of the fleet of an incident file. Pure.

Every address that a replica may get is an endpoint, every node is listed, and each cluster's Kubernetes API is a
dependency of its pools (`kube-api-CLUSTER`): more replicas lean on it as they lean on a database.
"""

from __future__ import annotations

import re
from typing import Literal

from runbooks.fleet import ControlPlane, Dependency, Endpoint, Fleet, Node, Pool, Route, Workload
from runbooks.incident import Incident
from runbooks.incident_fleet import ClusterSpec, FleetSpec, PoolSpec, RouteSpec

NAMESPACE = "inference"
_ASKS = re.compile(r'site_(headroom|error_budget)\{(?:dependency|route)="([^"]+)"\}')


def headroom_query(dependency: str) -> str:
    """The site's own query of how many more replicas a dependency can take."""
    return f'site_headroom{{dependency="{dependency}"}}'


def budget_query(route: str) -> str:
    """The site's own query of the share of a route's error budget that is left."""
    return f'site_error_budget{{route="{route}"}}'


def asked_of_site(query: str) -> tuple[str, str] | None:
    """(`headroom` or `error_budget`, name) of one of the two queries above, or None when it is neither."""
    found = _ASKS.fullmatch(query.strip())
    return (found[1], found[2]) if found is not None else None


def api_of(cluster: str) -> str:
    """The name of a cluster's Kubernetes API as a dependency."""
    return f"kube-api-{cluster}"


def weights_of(route: RouteSpec, pools: dict[str, PoolSpec]) -> dict[str, int]:
    """The route's weights in normal times: as written, else in proportion to what its pools can serve, 100 in all."""
    if route.weights:
        return {name: route.weights.get(name, 0) for name in route.pools}
    serves = {name: pools[name].replicas * pools[name].tokens_per_second for name in route.pools}
    whole = sum(serves.values())
    weights = {name: int(100 * part / whole) for name, part in serves.items()}
    for name in sorted(weights, key=lambda n: (-(100 * serves[n] / whole - weights[n]), n)):
        if sum(weights.values()) == 100:
            break
        weights[name] += 1
    return weights


def fleet_of(incident: Incident) -> Fleet:
    """What is declared to Interlock: routes, pools with their workloads, nodes, dependencies and controls."""
    spec = incident.fleet
    apis = tuple(
        Dependency(name=api_of(c.name), headroom=headroom_query(api_of(c.name)), serves=_grows_with_load(c, spec))
        for c in spec.clusters
    )
    named = tuple(Dependency(name=d.name, headroom=headroom_query(d.name), serves=d.serves) for d in spec.dependencies)
    return Fleet(
        routes=tuple(_route(r) for r in spec.routes),
        pools=tuple(_pool(p) for p in spec.pools),
        nodes=tuple(node for c in spec.clusters for node in _nodes(c, spec)),
        dependencies=(*named, *apis),
        controls=tuple(control for c in spec.clusters for control in _controls(c)),
    )


def _grows_with_load(cluster: ClusterSpec, spec: FleetSpec) -> bool:
    """More traffic is more load on the cluster's API: by each request, or since its pools scale themselves."""
    scales = any(p.autoscaler_max is not None for p in spec.pools if p.cluster == cluster.name)
    return scales or cluster.api.per_request > 0


def node_names(cluster: ClusterSpec) -> tuple[str, ...]:
    """`east-n1`, `east-n2`, …"""
    return tuple(f"{cluster.name}-n{n}" for n in range(1, cluster.nodes + 1))


def _route(route: RouteSpec) -> Route:
    return Route(
        name=route.name,
        pools=route.pools,
        tiers=tuple(route.tiers),
        target_utilisation=route.target_utilisation,
        error_budget=budget_query(route.name) if route.error_budget_left is not None else "",
    )


def _pool(pool: PoolSpec) -> Pool:
    return Pool(
        name=pool.name,
        cluster=pool.cluster,
        dialect=pool.dialect,
        endpoints=tuple(Endpoint(address=a) for a in pool.addresses),
        tokens_per_second=pool.tokens_per_second,
        model=pool.model,
        residency=pool.residency,
        tenants=pool.tenants,
        workload=Workload(
            namespace=NAMESPACE,
            deployment=pool.name,
            replicas=pool.replicas,
            depends_on=(*pool.depends_on, api_of(pool.cluster)),
        ),
    )


def _nodes(cluster: ClusterSpec, spec: FleetSpec) -> tuple[Node, ...]:
    pools = tuple(p.name for p in spec.pools if p.cluster == cluster.name)
    return tuple(
        Node(name=n, cluster=cluster.name, pools=pools, gpus=cluster.gpus_per_node) for n in node_names(cluster)
    )


def _controls(cluster: ClusterSpec) -> tuple[ControlPlane, ...]:
    """A node's own agent needs its node alone; it is declared as outside, since runs_on names whole targets."""
    kinds: tuple[tuple[Literal["traffic", "cluster", "node"], tuple[str, ...]], ...] = (
        ("traffic", cluster.traffic_runs_on),
        ("cluster", cluster.cluster_runs_on),
        ("node", ()),
    )
    return tuple(ControlPlane(cluster=cluster.name, kind=kind, runs_on=on) for kind, on in kinds)
