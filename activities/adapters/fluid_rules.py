"""What no act may do, judged from what stands there afterwards: gates are not asked, they may be what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

from runbooks.fleet import Fleet, Pool
from runbooks.incident import Site


def shares_of(weights: Mapping[str, int]) -> dict[str, float]:
    """Share of a route by pool; empty when it has no weight at all."""
    whole = sum(weights.values())
    return {p: w / whole for p, w in weights.items()} if whole else {}


def misplaced(
    fleet: Fleet,
    normal: Mapping[str, Mapping[str, int]],
    now: Mapping[str, Mapping[str, int]],
    site: Site,
) -> set[str]:
    """Sentences on requests that are served where they may not be.

    In normal times each pool serves its own; whoever has less of its route since then is served by those that have more.
    """
    found: set[str] = set()
    for route in fleet.routes:
        before, after = shares_of(normal[route.name]), shares_of(now[route.name])
        for giver in [p for p in after if after[p] < before.get(p, 0.0) - 1e-9]:
            for taker in [p for p in after if after[p] > before.get(p, 0.0) + 1e-9]:
                source, sink = fleet.pool(giver), fleet.pool(taker)
                if source is not None and sink is not None and (why := _may_not(source, sink, site)):
                    found.add(why)
    return found


def _may_not(source: Pool, sink: Pool, site: Site) -> str:
    home = source.residency
    if not home and site.undeclared == "deny":
        return f"requests of {source.name}, which declares no residency, are served by {sink.name}"
    if home and sink.residency != home and sink.residency not in site.residency.get(home, ()):
        return f"requests of {source.name} (residency {home}) are served by {sink.name} ({sink.residency or 'none'})"
    others = [t for t in source.tenants if t not in sink.tenants]
    if source.tenants and (not sink.tenants or others):
        return f"requests of {source.name} (tenants {', '.join(source.tenants)}) are served by {sink.name}"
    if sink.tenants and not source.tenants:
        return f"requests of {source.name}, which is for all, are served by {sink.name} ({', '.join(sink.tenants)})"
    return ""


def weightless(now: Mapping[str, Mapping[str, int]]) -> set[str]:
    """Sentences on routes that serve nobody."""
    return {f"route {route} has no weight at all" for route, weights in now.items() if not sum(weights.values())}
