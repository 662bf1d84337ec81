"""The capacity planner, our reading of the paper's GPU capacity-aware routing: weights that drown nobody.

All loads are tokens/s. A pool whose figures are unknown receives nothing new.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from runbooks.base import Model
from runbooks.facts import PoolState
from runbooks.fleet import Route

KV_FULL = 0.8
"""A pool with more of its KV cache in use than this receives nothing (taxonomy: no reroute into KV over 80 %)."""
QUEUE_FULL = 2.0
"""A pool with more waiting requests per answering endpoint than this is behind already and receives nothing."""
LEAST_SEEN = 0.1
"""Pools with less than this share of a route's weight see too little of it to tell the load of the rest."""
_SLACK = 1e-9
"""Floating-point slack, far below one token per second."""


class Weights(Model):
    """One increment: whole weights with the same sum as before."""

    weights: dict[str, int]
    moved_share: float
    nowhere_tps: float
    """Load that should leave in the end and that no pool has room for."""
    reserved: dict[str, float]
    """What each receiving pool is promised by this increment, tokens/s."""
    why: str
    """Why pools receive nothing or not enough; empty when all is well."""


def reroute_weights(
    route: Route,
    away_from: str,
    keep: float,
    pools: Mapping[str, PoolState],
    weights: Mapping[str, int],
    largest_move: float,
    reserved_tps: Mapping[str, float],
    may_serve: Mapping[str, Sequence[str]] | None = None,
) -> Weights:
    """Moves at most `largest_move` of the route away from a pool, down to the share `keep`, into pools with room.

    `may_serve`: residency label → labels of pools that policy lets serve it as well.
    """
    total = sum(weights.values())
    goal = math.ceil(keep * total - _SLACK)
    leaving = max(0, weights[away_from] - goal)
    per_weight = load_per_weight(away_from, pools, weights)
    if not leaving:
        return _nothing(weights, 0.0, f"{away_from} has no more than it may keep")
    if per_weight is None:
        return _nothing(weights, 0.0, f"it is not known how much load a share of route {route.name} is")
    room: dict[str, float] = {}
    refused: list[str] = []
    for name in route.pools:
        if name != away_from:
            found = _room(name, away_from, route, pools, reserved_tps.get(name, 0.0), may_serve or {})
            if isinstance(found, str):
                refused.append(f"{name} {found}")
            else:
                room[name] = found
    most = {name: _most(leaving, per_weight, tps) for name, tps in room.items()}
    nowhere = max(0.0, leaving * per_weight - sum(most.values()) * per_weight)
    step = math.floor(largest_move * total + _SLACK)
    units = min(leaving, step, sum(most.values()))
    if units < 1:
        coarse = (
            f"a step of {largest_move:g} is less than one of {total} weights"
            if step < 1
            else "no pool has room for one weight"
        )
        return _nothing(weights, nowhere, "; ".join(refused) or coarse)
    given = _share_out(units, room, most)
    after = {name: weight + given.get(name, 0) for name, weight in weights.items()}
    after[away_from] -= units
    return Weights(
        weights=after,
        moved_share=units / total,
        nowhere_tps=nowhere,
        reserved={name: count * per_weight for name, count in given.items() if count},
        why="; ".join(refused) or ("not enough room" if nowhere else ""),
    )


def _most(leaving: int, per_weight: float, room: float) -> int:
    """Whole weights that fit into the room. Never one more because of rounding: gate G3 would refuse it."""
    if leaving * per_weight <= room:
        return leaving
    count = math.floor(room / per_weight)
    return count - 1 if count * per_weight > room else count


def _nothing(weights: Mapping[str, int], nowhere: float, why: str) -> Weights:
    return Weights(weights=dict(weights), moved_share=0.0, nowhere_tps=nowhere, reserved={}, why=why)


def load_per_weight(away_from: str, pools: Mapping[str, PoolState], weights: Mapping[str, int]) -> float | None:
    """Load that comes with one unit of weight. None when nobody knows.

    A hung pool may report less than is asked of it, so the pools beside it have a say: the higher figure counts.
    """
    known = {name: load for name, state in pools.items() if name in weights and (load := state.load_tps) is not None}
    rates: list[float] = []
    if away_from in known and weights[away_from] > 0:
        rates.append(known[away_from] / weights[away_from])
    others = [name for name in known if name != away_from and weights[name] > 0]
    seen = sum(weights[name] for name in others)
    if others and (rates or seen >= LEAST_SEEN * sum(weights.values())):
        rates.append(sum(known[name] for name in others) / seen)
    return max(rates) if rates else None


def _room(
    name: str,
    away_from: str,
    route: Route,
    pools: Mapping[str, PoolState],
    reserved: float,
    may_serve: Mapping[str, Sequence[str]],
) -> float | str:
    """Tokens/s that the pool may still be given, or why it is given nothing."""
    state, source = pools.get(name), pools.get(away_from)
    if state is None:
        return "is unknown"
    if source is None:
        return f"cannot be compared: residency and tenants of {away_from} are unknown"
    if state.answering is None:
        return "could not be probed"
    if state.load_tps is None:
        return "has an unknown load"
    if state.answering == 0:
        return "has no answering endpoint"
    if state.kv_used is not None and state.kv_used > KV_FULL:
        return f"has {state.kv_used:.0%} of its KV cache in use"
    if state.queue is not None and state.queue > QUEUE_FULL * state.answering:
        return f"has {state.queue:g} requests waiting"
    if (against := _unlawful(state, source, may_serve)) is not None:
        return against
    room = route.target_utilisation * state.capacity_tps - state.load_tps - reserved
    return room if room > 0 else f"has no room under {route.target_utilisation:.0%} of its capacity"


class Receivers(NamedTuple):
    """Pools of a route that may serve what another one does, and those of which it cannot be said how much they carry."""

    lawful: tuple[str, ...]
    unknown: tuple[str, ...]


def receivers(
    route: Route, away_from: str, pools: Mapping[str, PoolState], may_serve: Mapping[str, Sequence[str]]
) -> Receivers:
    """Whether they have room is another question."""
    source = pools.get(away_from)
    others = [name for name in route.pools if name != away_from]
    if source is None:
        return Receivers((), tuple(others))
    seen = {name: state for name in others if (state := pools.get(name)) is not None}
    lawful = tuple(name for name, state in seen.items() if _unlawful(state, source, may_serve) is None)
    silent = [n for n in lawful if seen[n].load_tps is None or seen[n].answering is None]
    return Receivers(lawful, (*silent, *(n for n in others if n not in seen)))


def _unlawful(state: PoolState, source: PoolState, may_serve: Mapping[str, Sequence[str]]) -> str | None:
    """Why a pool may not serve what another one does (G12)."""
    allowed = (source.residency, *may_serve.get(source.residency, ()))
    if source.residency and state.residency not in allowed:
        return f"is in {state.residency or 'no named residency'}, and {source.pool} must stay in {source.residency}"
    return None if _serves(state.tenants, source.tenants) else f"may not serve the tenants of {source.pool}"


def _serves(mine: tuple[str, ...], theirs: tuple[str, ...]) -> bool:
    """A pool for all takes only from a pool for all; a dedicated one only from pools of its own tenants."""
    return set(theirs) <= set(mine) if theirs else not mine


def _share_out(units: int, room: Mapping[str, float], most: Mapping[str, int]) -> dict[str, int]:
    """Whole units in proportion to room, never more than a pool can take."""
    whole = sum(room.values())
    given = {name: min(most[name], math.floor(units * room[name] / whole)) for name in sorted(room)}
    while sum(given.values()) < units:
        # Most room in proportion goes first; names break ties, so that a plan is repeatable.
        name = max((n for n in given if given[n] < most[n]), key=lambda n: (room[n] / (given[n] + 1), n))
        given[name] += 1
    return given
