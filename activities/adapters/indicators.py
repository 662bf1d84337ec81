"""The names that an indicator with source `scrape` may use, and how each is measured.

Scope: a pool, an endpoint address, or `route/NAME` (all pools of the route). A pool stands for its endpoints in rotation
where the declared settings can be read, else for all of them.

| name | unit | how |
|---|---|---|
| `error_rate` | share, 0 to 1 | Envoy: 5xx and requests given up without an end, of all that ended; pool or route |
| `timeout_share` | share, 0 to 1 | Envoy: requests that passed its deadline, and those whose client gave up; pool or route |
| `connect_fail_share` | share, 0 to 1 | Envoy: connections that no engine took, of all that ended: an upper bound, since one request may try twice |
| `client_error_share`, `http_400_share`, `http_415_share`, `http_422_share`, `http_429_share` | share, 0 to 1 | Envoy: 4xx, or that status; pool or route |
| `requests_per_second` | 1/s | Envoy: requests asked of the pools; pool or route |
| `tokens_per_second` | tokens/s | engines: rise of the generated-token counter, summed. Engines that cannot be read count nothing, so it is a lower bound then and `why` names them |
| `queue` | requests | engines: waiting for a slot, summed; every engine must be read |
| `running` | requests | engines: in a slot, summed; every engine must be read |
| `kv_used` | share, 0 to 1 | engines: the fullest KV cache; every engine must be read; llama.cpp has none |
| `ttft_p99_s`, `latency_p99_s` | s | engines: upper bound of the bucket with the 99th percentile; vLLM only. A hung request is in no bucket |

llama.cpp counts the tokens of a request when it ends, so its `tokens_per_second` moves in steps.
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from activities.adapters.dialects import DIALECTS, Dialect
from activities.adapters.exposition import buckets, highest, quantile
from activities.adapters.reading import NotMeasured, Reading, checked
from activities.adapters.scrape import Page, Pair, ScrapeSource
from activities.ports import Snapshot
from runbooks.change import endpoint_key
from runbooks.fleet import Fleet, Pool

T = TypeVar("T")
Declared = Callable[[str], Awaitable[Snapshot]]
Member = tuple[Pool, str]
COUNTERS = {
    "client_error_share": "upstream_rq_4xx",
    "connect_fail_share": "upstream_cx_connect_fail",
    "http_400_share": "upstream_rq_400",
    "http_415_share": "upstream_rq_415",
    "http_422_share": "upstream_rq_422",
    "http_429_share": "upstream_rq_429",
}
"""Shares that one counter of Envoy tells."""


class ScrapeIndicators:
    """`envoy_admin`: base URL of Envoy's admin API, or None. `declared`: `Traffic.read`, when wired."""

    def __init__(
        self, fleet: Fleet, source: ScrapeSource, envoy_admin: str | None, declared: Declared | None = None
    ) -> None:
        self._fleet = fleet
        self._source = source
        self._admin = envoy_admin
        self._declared = declared

    async def read(self, name: str, scope: str) -> Reading:
        """One indicator. Raises NotMeasured with the reason; a PortError of `declared` passes through."""
        match name:
            case "requests_per_second" | "error_rate" | "timeout_share":
                return await self._from_envoy(name, self._pools(name, scope))
            case _ if name in COUNTERS:
                return await self._from_envoy(name, self._pools(name, scope))
            case "tokens_per_second":
                return await self._tokens(await self._members(scope))
            case "queue" | "running" | "kv_used":
                return await self._gauge(name, await self._members(scope))
            case "ttft_p99_s" | "latency_p99_s":
                return await self._p99(name, await self._members(scope))
            case _:
                raise NotMeasured(f"scrape has no indicator {name!r}")

    def _pools(self, name: str, scope: str) -> list[Pool]:
        kind, _, route_name = scope.partition("/")
        route = self._fleet.route(route_name) if kind == "route" and route_name else None
        names = route.pools if route else (scope,)
        found = [pool for pool in map(self._fleet.pool, names) if pool is not None]
        if not found:
            raise NotMeasured(f"{name}: {scope!r} is neither a pool nor a route of the inventory")
        return found

    async def _members(self, scope: str) -> list[Member]:
        for pool in self._fleet.pools:
            if any(e.address == scope for e in pool.endpoints):
                return [(pool, scope)]
        members: list[Member] = []
        for pool in self._pools("engines", scope):
            members += [(pool, address) for address in await self._in_rotation(pool)]
        if not members:
            raise NotMeasured(f"no endpoint of {scope} is in rotation")
        return members

    async def _in_rotation(self, pool: Pool) -> list[str]:
        addresses = [e.address for e in pool.endpoints]
        if self._declared is None:
            return addresses
        settings = (await self._declared(pool.cluster)).settings
        return [a for a in addresses if settings.get(endpoint_key(pool.name, a)) == "in"]

    async def _from_envoy(self, name: str, pools: list[Pool]) -> Reading:
        if self._admin is None:
            raise NotMeasured(f"{name} comes from Envoy's admin API, and none is set")
        pair = await self._source.envoy_pair(self._admin)
        if name == "requests_per_second":
            return checked(sum(requests(pair, p.name) for p in pools) / pair.seconds, pair.base.observed_at)
        ended = sum(_ended(pair, p.name) for p in pools)
        if ended <= 0:
            raise NotMeasured(f"no request ended on {_names(pools)} within {pair.seconds:.1f} s")
        part = sum(_part(name, pair, p.name) for p in pools)
        return checked(min(1.0, part / ended), pair.base.observed_at)

    async def _tokens(self, members: list[Member]) -> Reading:
        rates: list[tuple[Pair, float]] = []
        silent: list[str] = []
        results = await asyncio.gather(*(attempt(self._source.engine_pair, a) for _, a in members))
        for (pool, address), pair in zip(members, results, strict=True):
            try:
                if isinstance(pair, NotMeasured):
                    raise pair
                rates.append((pair, pair.gain(DIALECTS[pool.dialect].tokens) / pair.seconds))
            except NotMeasured as error:
                silent.append(f"{address}: {error}")
        if not rates:
            raise NotMeasured("; ".join(silent))
        why = f"lower bound, without {'; '.join(silent)}" if silent else ""
        return checked(sum(rate for _, rate in rates), min(p.base.observed_at for p, _ in rates), why)

    async def _gauge(self, name: str, members: list[Member]) -> Reading:
        for pool, _ in members:
            if name == "kv_used" and DIALECTS[pool.dialect].kv is None:
                raise NotMeasured(f"{pool.dialect} has no KV-cache gauge")
        pages = await _all(members, self._source.engine)
        values = [_gauge_of(name, DIALECTS[pool.dialect], page) for (pool, _), page in zip(members, pages, strict=True)]
        value = max(values) if name == "kv_used" else sum(values)
        return checked(value, min(page.observed_at for page in pages))

    async def _p99(self, name: str, members: list[Member]) -> Reading:
        before: dict[float, float] = {}
        after: dict[float, float] = {}
        pairs = await _all(members, self._source.engine_pair)
        for (pool, _), pair in zip(members, pairs, strict=True):
            dialect = DIALECTS[pool.dialect]
            histogram = dialect.ttft if name == "ttft_p99_s" else dialect.latency
            if histogram is None:
                raise NotMeasured(f"{pool.dialect} has no histogram for {name}")
            for counts, page in ((before, pair.base), (after, pair.last)):
                for bound, count in buckets(page.metrics, histogram).items():
                    counts[bound] = counts.get(bound, 0.0) + count
        value = quantile(before, after, 0.99)
        if value is None:
            raise NotMeasured(f"{name}: no request was counted between two readings")
        return checked(value, min(pair.base.observed_at for pair in pairs))


def _gauge_of(name: str, dialect: Dialect, page: Page) -> float:
    if name == "queue":
        return page.value(dialect.waiting)
    if name == "running":
        return page.value(dialect.running)
    value = highest(page.metrics, dialect.kv or "")
    if value is None:
        raise NotMeasured(f"there is no {dialect.kv}")
    return value


def _stat(pool: str, name: str) -> str:
    return f"cluster.{pool.replace(':', '_')}.{name}"  # Envoy writes a colon of a name as an underscore


def requests(pair: Pair, pool: str) -> float:
    """Requests asked of a pool between two Envoy readings. NotMeasured: Envoy has no such cluster."""
    # A request refused for want of a healthy endpoint is only in `completed`, one that hangs only in `total`.
    return max(pair.gain(_stat(pool, "upstream_rq_total")), pair.gain(_stat(pool, "upstream_rq_completed")))


def _given_up(pair: Pair, pool: str) -> float:
    """Requests that a client gave up: Envoy counts no status for them, it only cuts the busy upstream connection.

    It cuts those of its own time-outs as well, which it does count, as 504.
    """
    cut = pair.gain(_stat(pool, "upstream_cx_destroy_local_with_active_rq"))
    cut += pair.gain(_stat(pool, "upstream_rq_tx_reset"))
    own = pair.gain(_stat(pool, "upstream_rq_timeout")) + pair.gain(_stat(pool, "upstream_rq_per_try_timeout"))
    return max(0.0, cut - own)


def _part(name: str, pair: Pair, pool: str) -> float:
    """How many requests of this kind ended between the two readings."""
    if name == "error_rate":
        return _counted(pair, pool, "upstream_rq_5xx") + _given_up(pair, pool)
    if name == "timeout_share":
        own = pair.gain(_stat(pool, "upstream_rq_timeout")) + pair.gain(_stat(pool, "upstream_rq_per_try_timeout"))
        return own + _given_up(pair, pool)
    return _counted(pair, pool, COUNTERS[name])


def _counted(pair: Pair, pool: str, counter: str) -> float:
    """By how much a counter rose that is there only once it was used, as those of a status are."""
    name = _stat(pool, counter)
    first = sum(m.value for m in pair.base.metrics if m.name == name)
    last = sum(m.value for m in pair.last.metrics if m.name == name)
    if last < first:
        raise NotMeasured(f"{name} went back: Envoy restarted between two readings")
    return last - first


def _ended(pair: Pair, pool: str) -> float:
    return pair.gain(_stat(pool, "upstream_rq_completed")) + _given_up(pair, pool)


def answered(pair: Pair, pool: str) -> float:
    """Requests of a pool that ended well between two Envoy readings."""
    refused = _counted(pair, pool, "upstream_rq_5xx") + _counted(pair, pool, "upstream_rq_4xx")
    return max(0.0, pair.gain(_stat(pool, "upstream_rq_completed")) - refused)


def failing_share(pair: Pair, pool: str) -> float | None:
    """Share of a pool's requests that failed between two Envoy readings; None: none ended, or it cannot be said."""
    try:
        ended = _ended(pair, pool)
        return min(1.0, _part("error_rate", pair, pool) / ended) if ended > 0 else None
    except NotMeasured:
        return None


def _names(pools: list[Pool]) -> str:
    return ", ".join(pool.name for pool in pools)


async def attempt(read: Callable[[str], Awaitable[T]], place: str) -> T | NotMeasured:
    """What `read(place)` gives, or the NotMeasured that it raised: one silent engine must not hide the others."""
    try:
        return await read(place)
    except NotMeasured as error:
        return error


async def _all(members: list[Member], read: Callable[[str], Awaitable[T]]) -> list[T]:
    """All or NotMeasured: a sum of gauges with a part missing would look better than it is."""
    results = await asyncio.gather(*(attempt(read, address) for _, address in members))
    silent = [f"{a}: {r}" for (_, a), r in zip(members, results, strict=True) if isinstance(r, NotMeasured)]
    if silent:
        raise NotMeasured("; ".join(silent))
    return [r for r in results if not isinstance(r, NotMeasured)]
