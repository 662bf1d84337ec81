"""Is the fleet of an incident file well in normal times? One that is not makes every incident look like a lack of capacity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runbooks.incident_finding import Finding, warning
from runbooks.incident_fleet import FleetSpec, PoolSpec, RouteSpec


def shares(route: RouteSpec, pools: Mapping[str, PoolSpec]) -> dict[str, float]:
    """Share of the route's traffic by pool in normal times: by its weights, or by what the pools can serve."""
    by = {p: float(route.weights.get(p, 0)) for p in route.pools} if route.weights else {}
    by = by or {p: pools[p].replicas * pools[p].tokens_per_second for p in route.pools}
    whole = sum(by.values())
    return {p: w / whole if whole else 0.0 for p, w in by.items()}


def loads(fleet: FleetSpec) -> Iterator[Finding]:
    """What is over its limit before anything has happened."""
    pools = {p.name: p for p in fleet.pools}
    at = {p.name: i for i, p in enumerate(fleet.pools)}
    for number, route in enumerate(fleet.routes):
        by = shares(route, pools)
        if not any(by.values()):
            yield warning("every weight is 0, so the route serves nobody", "fleet", "routes", number, "weights")
        yield from _route(number, route, by, pools, at)
    yield from _shared(fleet, {p: share * r.requests_per_second for r in fleet.routes for p, share in _by(r, pools)})


def _by(route: RouteSpec, pools: Mapping[str, PoolSpec]) -> Iterator[tuple[str, float]]:
    yield from shares(route, pools).items()


def _route(
    number: int, route: RouteSpec, by: dict[str, float], pools: Mapping[str, PoolSpec], at: Mapping[str, int]
) -> Iterator[Finding]:
    for name, share in by.items():
        pool, most = pools[name], route.target_utilisation
        each = share * route.requests_per_second / pool.replicas
        asked, can = each * route.tokens_per_request * pool.replicas, pool.replicas * pool.tokens_per_second
        if asked > most * can:
            yield warning(
                f"in normal times {name} is asked for {asked:.0f} tokens/s ({share:.0%} of {route.requests_per_second:g} "
                f"requests/s of {route.tokens_per_request:g} tokens) and {pool.replicas} replica(s) of "
                f"{pool.tokens_per_second:g} serve {can:.0f}, of which {most:.0%} are {most * can:.0f}; give it more "
                f"replicas or the route fewer requests",
                "fleet",
                "routes",
                number,
                "requests_per_second",
            )
        # A request holds its tokens while it is generated; at best all slots share the replica's rate (Little's law).
        held = each * (route.tokens_per_request / (pool.tokens_per_second / pool.slots))
        tokens = held * (route.prompt_tokens + route.tokens_per_request)
        if tokens > pool.kv_tokens:
            yield warning(
                f"in normal times about {held:.0f} requests run at once on a replica and hold {tokens:.0f} tokens of KV "
                f"cache, and it has {pool.kv_tokens:.0f}; make it larger, or `slots` fewer",
                "fleet",
                "pools",
                at[name],
                "kv_tokens",
            )


def _shared(fleet: FleetSpec, requests: Mapping[str, float]) -> Iterator[Finding]:
    """The APIs of the clusters, the dependencies, the quotas."""
    for number, cluster in enumerate(fleet.clusters):
        mine = [p for p in fleet.pools if p.cluster == cluster.name]
        api, replicas = cluster.api, sum(p.replicas for p in mine)
        load = api.load + replicas * api.per_replica + api.per_request * sum(requests.get(p.name, 0.0) for p in mine)
        if load > api.capacity:
            yield warning(
                f"in normal times the API of {cluster.name} has a load of {load:g} on a capacity of {api.capacity:g}",
                "fleet",
                "clusters",
                number,
                "api",
            )
        gpus = sum(p.replicas * p.gpus_per_replica for p in mine)
        if cluster.quota_gpus is not None and gpus > cluster.quota_gpus:
            yield warning(
                f"the pools of {cluster.name} hold {gpus} GPUs in normal times, more than its quota",
                "fleet",
                "clusters",
                number,
                "quota_gpus",
            )
    for number, dependency in enumerate(fleet.dependencies):
        users = sum(p.replicas for p in fleet.pools if dependency.name in p.depends_on)
        load = dependency.load + users * dependency.per_replica
        if load > dependency.capacity:
            yield warning(
                f"in normal times {dependency.name} has a load of {load:g} on a capacity of {dependency.capacity:g}",
                "fleet",
                "dependencies",
                number,
                "load",
            )
