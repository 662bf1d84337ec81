"""What a rendered step reaches in the fleet: pools, targets, and the outer bounds of what it may do to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from runbooks.detection import Target
from runbooks.fleet import Fleet, Pool
from runbooks.levers import IsolateEndpoint, Page, RecycleConnections, RerouteTraffic, ShedLoad, Step, direction
from runbooks.plan import Envelope
from runbooks.policy import Policy
from runbooks.templates import RenderError


def pools_touched(step: Step, fleet: Fleet, where: tuple[int | str, ...]) -> list[Pool]:
    """The pools that the step takes from or gives to, the sick one first. RenderError: the fleet lacks such a name."""

    def pool_named(name: str, field: str) -> Pool:
        pool = fleet.pool(name)
        if pool is None:
            raise RenderError((*where, "with", field), f"the fleet has no pool {name!r}")
        return pool

    match step:
        case Page():
            return []
        case RecycleConnections():
            return [pool_named(step.pool, "pool")]
        case IsolateEndpoint():
            pool = pool_named(step.pool, "pool")
            if all(e.address != step.endpoint for e in pool.endpoints):
                raise RenderError((*where, "with", "endpoint"), f"pool {pool.name} has no endpoint {step.endpoint!r}")
            return [pool]
        case RerouteTraffic() | ShedLoad():
            route = fleet.route(step.route)
            if route is None:
                raise RenderError((*where, "with", "route"), f"the fleet has no route {step.route!r}")
            pools = [pool_named(name, "route") for name in route.pools]
            if isinstance(step, ShedLoad):
                if step.tier not in route.tiers:
                    raise RenderError((*where, "with", "tier"), f"route {route.name} has no tier {step.tier!r}")
                return pools
            if step.away_from not in route.pools:
                raise RenderError((*where, "with", "away_from"), f"route {route.name} has no pool {step.away_from!r}")
            if len(pools) < 2:
                raise RenderError(
                    (*where, "with", "away_from"), f"route {route.name} has no other pool to move traffic to"
                )
            return sorted(pools, key=lambda p: p.name != step.away_from)
    assert_never(step)


def targets_of(step: Step, touched: Sequence[Pool]) -> tuple[str, ...]:
    """Ids of the targets that the step changes or loads."""
    if isinstance(step, IsolateEndpoint):
        return tuple(Target(cluster=p.cluster, service=p.name, endpoint=step.endpoint).id for p in touched)
    return tuple(Target(cluster=p.cluster, service=p.name).id for p in touched)


def envelope_of(step_id: str, step: Step, targets: tuple[str, ...], policy: Policy) -> Envelope:
    """The most that the whole step may do, over all increments: what people approve, and never more than policy."""
    limits = policy.for_lever(step.lever)
    share, endpoints = 0.0, 0
    match step:
        case RerouteTraffic():
            share = min(1.0 - step.keep, limits.largest_share)
        case ShedLoad():
            share = min(1.0 - step.admit, limits.largest_share)
        case IsolateEndpoint():
            endpoints = 1
        case RecycleConnections() | Page():
            pass
        case _:
            assert_never(step)
    return Envelope(
        step_id=step_id,
        lever=step.lever,
        targets=targets,
        direction=direction(step),
        largest_share=share,
        largest_endpoints=endpoints,
    )
