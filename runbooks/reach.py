"""What a rendered step reaches in the fleet: pools, targets, and the outer bounds of what it may do to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from runbooks.detection import Target
from runbooks.fleet import Fleet, Pool
from runbooks.levers import (
    FreezeChanges,
    IncreaseCapacity,
    IsolateEndpoint,
    Page,
    RebalanceNodes,
    RebootNode,
    RecycleConnections,
    RerouteTraffic,
    ResetGpu,
    RestartEngine,
    RollbackChange,
    RolloutHotfix,
    ShedLoad,
    Step,
    direction,
)
from runbooks.plan import Envelope
from runbooks.policy import Policy
from runbooks.secrets import names_a_secret
from runbooks.templates import RenderError


def pools_touched(step: Step, fleet: Fleet, where: tuple[int | str, ...]) -> list[Pool]:
    """The pools that the step takes from or gives to, the sick one first. RenderError: the fleet lacks such a name."""

    def pool_named(name: str, field: str) -> Pool:
        pool = fleet.pool(name)
        if pool is None:
            raise RenderError((*where, "with", field), f"the fleet has no pool {name!r}")
        return pool

    def managed(pool: Pool, field: str) -> Pool:
        if pool.workload is None:
            raise RenderError(
                (*where, "with", field), f"pool {pool.name} has no `workload` in the fleet, so no cluster runs it"
            )
        return pool

    match step:
        case Page():
            return []
        case RebalanceNodes() | ResetGpu() | RebootNode():
            node = fleet.node(step.node)
            if node is None:
                raise RenderError((*where, "with", "node"), f"the fleet has no node {step.node!r}")
            return [managed(pool_named(name, "node"), "node") for name in node.pools]
        case RestartEngine() | IncreaseCapacity() | RollbackChange():
            return [managed(pool_named(step.pool, "pool"), "pool")]
        case RolloutHotfix():
            return _rings(
                step, [[managed(pool_named(n, "rings"), "rings") for n in ring] for ring in step.rings], where
            )
        case FreezeChanges():
            pools = [p for p in fleet.pools if p.cluster == step.cluster and p.workload is not None]
            if not pools:
                raise RenderError((*where, "with", "cluster"), f"no pool of cluster {step.cluster!r} has a `workload`")
            return pools
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


def _rings(step: RolloutHotfix, rings: list[list[Pool]], where: tuple[int | str, ...]) -> list[Pool]:
    """The pools of all rings. A canary that leaves out the largest pool proves little for it (oai-2024-02-20)."""
    pools = [p for ring in rings for p in ring]
    if not all(rings):
        raise RenderError((*where, "with", "rings"), "a ring is empty; name its pools, or leave it out")
    if len({p.name for p in pools}) != len(pools):
        raise RenderError((*where, "with", "rings"), "a pool stands in two rings; name each once")
    if not step.image and not step.env:
        raise RenderError((*where, "with", "image"), "rollout_hotfix changes nothing: give `image` or `env`")
    secret = [name for name in step.env if names_a_secret(name)]
    if secret:
        raise RenderError(
            (*where, "with", "env", secret[0]),
            f"{secret[0]} is named like a secret, and what a step sets is shown to people and kept; change a secret by its own way",
        )
    largest = max(pools, key=lambda p: p.size * p.tokens_per_second)
    if all(p.size * p.tokens_per_second < largest.size * largest.tokens_per_second for p in rings[0]):
        raise RenderError(
            (*where, "with", "rings"), f"the first ring leaves out the largest pool, {largest.name}; put it there"
        )
    return pools


def targets_of(step: Step, touched: Sequence[Pool]) -> tuple[str, ...]:
    """Ids of the targets that the step changes or loads."""
    if isinstance(step, IsolateEndpoint):
        return tuple(Target(cluster=p.cluster, service=p.name, endpoint=step.endpoint).id for p in touched)
    if isinstance(step, RebalanceNodes | RebootNode):
        return (Target(cluster=touched[0].cluster, node=step.node).id,)
    if isinstance(step, ResetGpu):
        return (Target(cluster=touched[0].cluster, node=step.node, gpu=step.gpu).id,)
    if isinstance(step, RestartEngine) and step.endpoint is not None:
        return tuple(Target(cluster=p.cluster, service=p.name, endpoint=step.endpoint).id for p in touched)
    if isinstance(step, FreezeChanges):
        return (Target(cluster=step.cluster).id,)
    return tuple(Target(cluster=p.cluster, service=p.name).id for p in touched)


def envelope_of(step_id: str, step: Step, targets: tuple[str, ...], policy: Policy) -> Envelope:
    """The most that the whole step may do, over all increments: what people approve, and never more than policy."""
    limits = policy.for_lever(step.lever)
    share, endpoints, nodes, gpus = 0.0, 0, 0, 0
    match step:
        case RerouteTraffic():
            share = min(1.0 - step.keep, limits.largest_share)
        case ShedLoad():
            share = min(1.0 - step.admit, limits.largest_share)
        case IsolateEndpoint():
            endpoints = 1
        case RebalanceNodes():
            endpoints, nodes, gpus = limits.max_endpoints_down, 1, limits.max_gpus
        case RestartEngine():
            endpoints = limits.max_endpoints_down
        case IncreaseCapacity():
            gpus = limits.max_gpus
        case RolloutHotfix() | RollbackChange():
            share, endpoints = limits.largest_share, limits.max_endpoints_down
        case ResetGpu():
            gpus = 1
        case RebootNode():
            nodes, gpus = 1, limits.max_gpus
        case RecycleConnections() | FreezeChanges() | Page():
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
        largest_nodes=nodes,
        largest_gpus=gpus,
    )
