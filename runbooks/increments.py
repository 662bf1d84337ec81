"""One increment of a step, planned anew from what stands there now. Pure: nothing here acts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, assert_never

from runbooks.capacity import load_per_weight, receivers, reroute_weights
from runbooks.change import (
    Blast,
    CannotPlan,
    Change,
    NothingToDo,
    admit_key,
    connections_key,
    endpoint_key,
    weight_key,
)
from runbooks.cluster import ClusterState
from runbooks.cluster_increments import plan_cluster_change
from runbooks.facts import PoolState, Settings
from runbooks.fleet import Fleet
from runbooks.levers import (
    ActingStep,
    FreezeChanges,
    IncreaseCapacity,
    IsolateEndpoint,
    RebalanceNodes,
    RebootNode,
    RecycleConnections,
    RerouteTraffic,
    ResetGpu,
    RestartEngine,
    RollbackChange,
    RolloutHotfix,
    ShedLoad,
)
from runbooks.policy import LeverPolicy

Planned = Change | NothingToDo | CannotPlan


class _Missing(Exception):
    """A setting that is not there, or not of its kind."""


def plan_change(
    step: ActingStep,
    purpose: Literal["act", "undo", "restore"],
    increment: int,
    settings: Settings,
    pools: Mapping[str, PoolState] | None,
    fleet: Fleet,
    lever_policy: LeverPolicy,
    reserved_tps: Mapping[str, float] | None = None,
    cluster: ClusterState | None = None,
    own: Settings | None = None,
    may_serve: Mapping[str, Sequence[str]] | None = None,
) -> Planned:
    """What the next increment would write.

    `increment` counts from 0 and is for the note only: the world says how far the step is. `settings` are all
    settings of the domain as read just now. `pools` is None when their state is Unknown. `reserved_tps` is headroom
    promised to other moves, tokens/s by pool. `cluster` and `own` are for levers on a cluster (`plan_cluster_change`).
    `may_serve` is the policy's placement: residency → others that may serve it.
    Undo and restore are planned from receipts instead (`plan_restore`).
    """
    if purpose != "act":
        return CannotPlan(why=f"{purpose} is planned from receipts, not from a step")
    try:
        match step:
            case RerouteTraffic():
                return _reroute(step, increment, settings, pools, fleet, lever_policy, reserved_tps or {}, may_serve)
            case IsolateEndpoint():
                return _isolate(step, settings)
            case RecycleConnections():
                return _recycle(step, settings)
            case ShedLoad():
                fits = _fits(step, settings, pools, fleet, reserved_tps or {}, may_serve)
                return fits or _shed(step, increment, settings, lever_policy)
            case RebalanceNodes() | RestartEngine() | IncreaseCapacity() | RolloutHotfix() | RollbackChange():
                return plan_cluster_change(step, settings, cluster, fleet, own or {})
            case FreezeChanges() | ResetGpu() | RebootNode():
                return plan_cluster_change(step, settings, cluster, fleet, own or {})
    except _Missing as missing:
        return CannotPlan(why=str(missing))
    assert_never(step)


def _number(settings: Settings, key: str) -> int:
    value = settings.get(key)
    if value is None:
        raise _Missing(f"setting {key} is missing: the actuator does not have it, so there is nothing to go back to")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Missing(f"setting {key} is {value!r}, and a whole number of 0 or more was expected")
    return value


def _reroute(
    step: RerouteTraffic,
    increment: int,
    settings: Settings,
    pools: Mapping[str, PoolState] | None,
    fleet: Fleet,
    limits: LeverPolicy,
    reserved_tps: Mapping[str, float],
    may_serve: Mapping[str, Sequence[str]] | None,
) -> Planned:
    if pools is None:
        return CannotPlan(why="the state of the pools is unknown: traffic never moves to where nobody has looked")
    route = fleet.route(step.route)
    if route is None or step.away_from not in route.pools:
        return CannotPlan(why=f"the fleet has no route {step.route} with a pool {step.away_from}")
    if len(route.pools) == 1:
        return CannotPlan(why=f"route {route.name} has no pool but {step.away_from}", lasting=True)
    weights = {name: _number(settings, weight_key(route.name, name)) for name in route.pools}
    largest = min(step.increment, limits.largest_increment)
    moved = reroute_weights(route, step.away_from, step.keep, pools, weights, largest, reserved_tps, may_serve)
    goal = math.ceil(step.keep * sum(weights.values()) - 1e-9)
    if sum(weights.values()) == 0:
        return CannotPlan(why=f"all weights of route {route.name} are 0: there is no traffic to move")
    if weights[step.away_from] <= goal:
        return NothingToDo(
            why=f"{step.away_from} has {weights[step.away_from]} of route {route.name}, and {goal} may stay"
        )
    if moved.moved_share == 0.0:
        return CannotPlan(why=f"no traffic of route {route.name} can move: {moved.why}")
    changed = {name: weight for name, weight in moved.weights.items() if weight != weights[name]}
    note = f"increment {increment + 1}: {moved.moved_share:.0%} of route {route.name} away from {step.away_from}"
    if moved.nowhere_tps > 0:
        note += f"; {moved.nowhere_tps:.0f} tokens/s have nowhere to go ({moved.why})"
    return Change(
        before={weight_key(route.name, name): weights[name] for name in changed},
        after={weight_key(route.name, name): weight for name, weight in changed.items()},
        blast=Blast(share_moved={route.name: moved.moved_share}, reserved_tps=moved.reserved),
        last=moved.weights[step.away_from] <= goal,
        note=note,
    )


def _isolate(step: IsolateEndpoint, settings: Settings) -> Planned:
    key = endpoint_key(step.pool, step.endpoint)
    match settings.get(key):
        case None:
            return CannotPlan(why=f"setting {key} is missing: the actuator does not know this endpoint")
        case "out":
            return NothingToDo(why=f"{step.endpoint} is out of rotation already")
        case "in":
            return Change(
                before={key: "in"},
                after={key: "out"},
                blast=Blast(endpoints_down={step.pool: 1}),
                last=True,
                note=f"{step.endpoint} out of rotation in {step.pool}",
            )
        case other:
            return CannotPlan(why=f"setting {key} is {other!r}, and in or out was expected")


def _recycle(step: RecycleConnections, settings: Settings) -> Planned:
    key = connections_key(step.pool)
    now, wanted = _number(settings, key), math.ceil(step.max_connection_s)
    if 0 < now <= wanted:
        return NothingToDo(why=f"connections of {step.pool} live {now} s at most already")
    return Change(
        before={key: now}, after={key: wanted}, last=True, note=f"connections of {step.pool} live {wanted} s at most"
    )


def _fits(
    step: ShedLoad,
    settings: Settings,
    pools: Mapping[str, PoolState] | None,
    fleet: Fleet,
    reserved_tps: Mapping[str, float],
    may_serve: Mapping[str, Sequence[str]] | None,
) -> NothingToDo | CannotPlan | None:
    """Whether enough is refused for all that a pool is asked for to fit elsewhere. None: not yet, or nobody wants that."""
    if step.makes_room_for is None:
        return None
    route = fleet.route(step.route)
    if pools is None:
        return CannotPlan(why="the state of the pools is unknown: nobody can say how much must be refused")
    if route is None or step.makes_room_for not in route.pools:
        return CannotPlan(why=f"the fleet has no route {step.route} with a pool {step.makes_room_for}")
    weights = {name: _number(settings, weight_key(route.name, name)) for name in route.pools}
    if weights[step.makes_room_for] == 0:
        return NothingToDo(why=f"no traffic of route {route.name} goes to {step.makes_room_for} any more")
    others = receivers(route, step.makes_room_for, pools, may_serve or {})
    if not others.lawful:
        why = f"no other pool of route {route.name} may serve what {step.makes_room_for} does: to refuse anybody makes no room"
        return CannotPlan(why=why, lasting=not others.unknown)
    if others.unknown or load_per_weight(step.makes_room_for, pools, weights) is None:
        what = ", ".join(others.unknown) or f"route {route.name}"
        return CannotPlan(why=f"the load of {what} is unknown: nobody can say how much must be refused")
    moved = reroute_weights(route, step.makes_room_for, 0.0, pools, weights, 1.0, reserved_tps, may_serve)
    if moved.nowhere_tps > 0:
        return None
    return NothingToDo(why=f"all that {step.makes_room_for} is asked for fits in the others of route {route.name}")


def _shed(step: ShedLoad, increment: int, settings: Settings, limits: LeverPolicy) -> Planned:
    key = admit_key(step.route, step.tier)
    now, goal = _number(settings, key), math.ceil(step.admit * 100 - 1e-9)
    if now <= goal:
        return NothingToDo(
            why=f"route {step.route} admits {now} % of tier {step.tier} already, and {goal} % is the aim"
        )
    most = math.floor(min(step.increment, limits.largest_increment) * 100 + 1e-9)
    if most < 1:
        return CannotPlan(why=f"an increment under 1 % of tier {step.tier} cannot be written")
    after = max(goal, now - most)
    # The share of the tier stands for the share of the route: a tier is never more than its route.
    return Change(
        before={key: now},
        after={key: after},
        blast=Blast(refused_share=(now - after) / 100),
        last=after <= goal,
        note=f"increment {increment + 1}: route {step.route} admits {after} % of tier {step.tier}",
    )
