"""Reads one pool through the ports: its proxy's and engines' metrics, a real generation of each engine, what is in rotation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from activities.facts import Clock, known
from activities.joined import Joined
from activities.looking_engines import Load, of_generations, of_loads, refuses
from activities.ports import Generation, Metrics, Prober, Snapshot, Traffic
from runbooks.change import endpoint_key, weight_key
from runbooks.detection import Target
from runbooks.facts import Known, Unknown
from runbooks.fleet import Fleet, Pool
from runbooks.library import Library
from runbooks.plan import IndicatorQuery, Sample
from runbooks.taxonomy_evidence import Measured
from runbooks.templates import RenderError

T = TypeVar("T")
Readings = dict[str, Known[Measured] | Unknown]
MOST_S = 2.8
"""Each reading ends by then, and all are made at once. Longer than a probe waits for a hung engine."""
MOST_ENDPOINTS = 64
"""Engines of a pool that are asked one by one; of a larger pool the target's own and the first ones stand for all."""
OLD = timedelta(seconds=60)
"""Metrics that are older stand still: a scrape takes seconds."""
LEAST_ASKED = 20.0
"""Requests/s of a route: of so many in a second a share is off by a tenth at most, most times (ours, I)."""
TOLD_BY = {
    "error_rate": "pool_error_rate",
    "timeout_share": "pool_timeout_share",
    "connect_fail_share": "pool_connect_fail_share",
    "client_error_share": "pool_client_error_share",
    "http_400_share": "pool_400_share",
    "http_415_share": "pool_415_share",
    "http_422_share": "pool_422_share",
    "http_429_share": "pool_429_share",
    "kv_used": "kv_used",
    "queue": "queue",
    "canary_pass": "pool_canary_pass",
    "latency_of_normal": "latency_of_normal",
    "arrival_of_normal": "arrival_of_normal",
    "restarts_10m": "restarts_10m",
    "apiserver_error_share": "apiserver_error_share",
}
"""Evidence → the indicator of the pool's dialect that tells it."""
OF_ENGINE = ("kv_used", "queue")
"""Told by an engine itself: of an endpoint its own are asked."""


@dataclass(frozen=True)
class PoolSeen:
    """`refusing`: endpoints of the target that refused a connection; None: nobody could ask them. `silent`: those in rotation
    that gave no token."""

    readings: Readings
    refusing: tuple[str, ...] | None
    silent: tuple[str, ...] = ()


class PoolReader:
    """`prober` answers from a watcher's newest look where there is one, and calls a busy engine busy."""

    def __init__(
        self, traffic: Traffic, metrics: Metrics, prober: Prober, fleet: Fleet, library: Library, clock: Clock
    ) -> None:
        self._traffic, self._metrics, self._prober = traffic, metrics, prober
        self._fleet, self._library, self._clock = fleet, library, clock
        self._joined = Joined()

    async def read(self, target: Target, pool: Pool) -> PoolSeen:
        """All at once, within MOST_S."""
        addresses = _asked(target, pool)
        shares = self._fleet.route_of(pool.name)
        names = shares.pools if shares is not None else (pool.name,)
        declared, samples, asked, loads, rates = await asyncio.gather(
            self._joined.read(pool.cluster, lambda: self._known(self._traffic.read(pool.cluster))),
            self._samples(target, pool),
            self._generations(addresses),
            self._loads(addresses),
            self._each({name: _scrape("requests_per_second", name) for name in names}),
        )
        readings: Readings = {**samples}
        readings |= _metrics_themselves(pool, samples, loads, rates, self._clock())
        if isinstance(declared, Unknown):
            why = Unknown(why=f"what is in rotation is not known: {declared.why}")
            readings |= dict.fromkeys(("endpoints_hung", "slow_endpoints", "traffic_share_of_weight"), why)
            return PoolSeen(readings, None)
        inside = [a for a in addresses if declared.value.settings.get(endpoint_key(pool.name, a)) == "in"]
        mine = [a for a in inside if target.endpoint in (None, a)]
        readings |= self._over_weight(pool, rates, declared.value)
        told = {a: loads[a] for a in inside if a in loads}
        at = min((one.observed_at for one in told.values()), default=self._clock())
        readings |= _all(of_loads({a: one.value for a, one in told.items()}, mine), at)
        known_ones = {a: one.value for a in inside if isinstance(one := asked[a], Known)}
        if len(known_ones) < len(inside):
            unasked = next(one for a in inside if isinstance(one := asked[a], Unknown))
            readings["endpoints_hung"] = Unknown(why=f"not every endpoint could be asked: {unasked.why}")
            return PoolSeen(readings, None)
        seen_at = min((g.observed_at for g in known_ones.values()), default=self._clock())
        readings |= _all(of_generations(known_ones, mine, {a: one.value for a, one in told.items()}), seen_at)
        silent = tuple(a for a, g in known_ones.items() if not g.ok)
        if len(silent) < len(known_ones) and _blind(pool, samples, loads, rates):
            readings["metrics_unread"] = Known[Measured](value=True, observed_at=seen_at)
        return PoolSeen(readings, tuple(a for a in mine if refuses(known_ones[a])), silent)

    async def _known(self, reading: Awaitable[T]) -> Known[T] | Unknown:
        return await known(reading, MOST_S, self._clock)

    async def _samples(self, target: Target, pool: Pool) -> Readings:
        """All of TOLD_BY. An indicator that a site's own catalogue lacks is Unknown like any other that cannot be had."""
        queries: dict[str, IndicatorQuery] = {}
        lacking: Readings = {}
        for name in TOLD_BY:
            try:
                queries[name] = self._query(name, target, pool)
            except RenderError as error:
                lacking[name] = Unknown(why=error.why)
        return lacking | await self._each(queries)

    def _query(self, name: str, target: Target, pool: Pool) -> IndicatorQuery:
        dialect, context = self._library.dialects.get(pool.dialect), {"pool": pool.name, "cluster": pool.cluster}
        if dialect is None:
            raise RenderError(("look",), f"there are no indicators for the dialect {pool.dialect}")
        if target.endpoint is None:
            return dialect.query(TOLD_BY[name], context, ("look",))
        if name == "canary_pass":
            return dialect.query("canary_pass", {**context, "endpoint": target.endpoint}, ("look",))
        query = dialect.query(TOLD_BY[name], context, ("look",))
        return query.model_copy(update={"scope": target.endpoint}) if name in OF_ENGINE else query

    async def _each(self, queries: Mapping[str, IndicatorQuery]) -> Readings:
        """Each by itself, so that a slow one costs no other."""
        found = await asyncio.gather(*(self._joined.read(q, partial(self._sample, q)) for q in queries.values()))
        return dict(zip(queries, found, strict=True))

    async def _sample(self, query: IndicatorQuery) -> Known[Measured] | Unknown:
        return _of_sample(await self._known(self._metrics.sample([query])))

    async def _generations(self, addresses: Sequence[str]) -> dict[str, Known[Generation] | Unknown]:
        found = await asyncio.gather(
            *(self._joined.read(("generate", a), partial(self._generation, a)) for a in addresses)
        )
        return dict(zip(addresses, found, strict=True))

    async def _generation(self, address: str) -> Known[Generation] | Unknown:
        return await self._known(self._prober.generate(address))

    async def _loads(self, addresses: Sequence[str]) -> dict[str, Known[Load]]:
        """Of those engines that could be read."""
        found = await asyncio.gather(*(self._joined.read(("load", a), partial(self._load, a)) for a in addresses))
        return {address: load for address, load in zip(addresses, found, strict=True) if load is not None}

    async def _load(self, address: str) -> Known[Load] | None:
        asked = ("running", "queue", "tokens_per_second")
        told = await self._each({name: _scrape(name, address) for name in asked})
        known_ones = [one for name in asked if isinstance(one := told[name], Known)]
        if len(known_ones) < len(asked):
            return None
        running, queue, tokens = (float(one.value) for one in known_ones)
        at = min(one.observed_at for one in known_ones)
        return Known[Load](value=Load(work=running + queue, tokens_s=tokens), observed_at=at)

    def _over_weight(self, pool: Pool, rates: Readings, declared: Snapshot) -> Readings:
        """Its share of the route's requests over its share of the weights; nothing for a pool without weight, or where too few
        requests come for a share of them to mean anything."""
        route = self._fleet.route_of(pool.name)
        if route is None:
            return {}
        unread = next((one for one in rates.values() if isinstance(one, Unknown)), None)
        if unread is not None:
            return {"traffic_share_of_weight": unread}
        weights = {p: float(declared.settings.get(weight_key(route.name, p), 0)) for p in route.pools}
        asked = {p: one for p, one in rates.items() if isinstance(one, Known)}
        whole, all_asked = sum(weights.values()), sum(float(one.value) for one in asked.values())
        if not weights[pool.name] or all_asked < LEAST_ASKED:
            return {}
        share = float(asked[pool.name].value) / all_asked
        at = min(one.observed_at for one in asked.values())
        return _all({"traffic_share_of_weight": share / (weights[pool.name] / whole)}, at)


def _asked(target: Target, pool: Pool) -> list[str]:
    first = [target.endpoint] if target.endpoint is not None else []
    return list(dict.fromkeys([*first, *(e.address for e in pool.endpoints)]))[:MOST_ENDPOINTS]


def _scrape(query: str, scope: str) -> IndicatorQuery:
    return IndicatorQuery(name=query, source="scrape", query=query, unit="", scope=scope)


def _of_sample(found: Known[list[Sample]] | Unknown) -> Known[Measured] | Unknown:
    if isinstance(found, Unknown):
        return found
    sample = found.value[0]
    if sample.value is None:
        return Unknown(why=sample.why)
    return Known[Measured](value=sample.value, observed_at=sample.observed_at)


def _all(values: Mapping[str, Measured], at: datetime) -> Readings:
    return {name: Known[Measured](value=value, observed_at=at) for name, value in values.items()}


def _blind(pool: Pool, samples: Readings, loads: Mapping[str, object], rates: Readings) -> bool:
    """Neither the proxy nor any engine tells anything of it."""
    return isinstance(rates[pool.name], Unknown) and isinstance(samples["queue"], Unknown) and not loads


def _metrics_themselves(
    pool: Pool, samples: Readings, loads: Mapping[str, Known[Load]], rates: Readings, now: datetime
) -> Readings:
    """How old the newest of them is, when that is old."""
    times = [one.observed_at for one in (samples["queue"], rates[pool.name]) if isinstance(one, Known)]
    newest = max([*times, *(one.observed_at for one in loads.values())], default=now)
    return _all({"metrics_flat_s": (now - newest).total_seconds()}, now) if now - newest > OLD else {}
