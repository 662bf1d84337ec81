"""Implements Metrics over Prometheus, direct scrapes and real generations.

`sample` dispatches on `IndicatorQuery.source`:
- `prometheus`: `query` is PromQL (see prometheus.py for what counts as stale).
- `scrape`: `query` is a name of the table in indicators.py, `scope` a pool, an endpoint or `route/NAME`.
- `probe`: `query` is `ok` (1.0 when a real generation gave a token, else 0.0) or `seconds` (its length; None when it
  gave none), `scope` an endpoint or `route/NAME`. The reason of a failed generation is in `why`.
- `cluster`: `query` is a name of the table in cluster_indicators.py, `scope` a pool or a node.

`pools` returns a PoolStates: a dict that also has `observed_at`, the oldest moment it rests on. Where the load of a
pool cannot be summed from its engines (one is silent), it is what the proxy asks of the pool, requests per second,
times the tokens per request of the route's pools that can be read; where none of them can, times those of the pool's
own engines that can be read, if the others give no tokens at all. Where that is not to be had either, it is None.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import httpx

from activities.adapters.cluster_indicators import ClusterIndicators
from activities.adapters.indicators import Declared, ScrapeIndicators, answered, attempt, failing_share, requests
from activities.adapters.pool_state import pool_state, served_tps, speaking_tps
from activities.adapters.probe import HttpProber
from activities.adapters.prometheus import PrometheusSource
from activities.adapters.reading import Clock, NotMeasured, Reading, utc_now
from activities.adapters.scrape import Pair, ScrapeSource
from activities.adapters.watch import Look, PoolWatcher, look
from activities.errors import Permanent, PortError, Retryable
from activities.ports import Cluster, Generation, Snapshot
from runbooks.change import endpoint_key
from runbooks.facts import PoolState
from runbooks.fleet import Fleet, Pool
from runbooks.plan import IndicatorQuery, Sample


class PoolStates(dict[str, PoolState]):
    """Pool states by name, with the oldest moment that any of them rests on."""

    def __init__(self, states: dict[str, PoolState], observed_at: datetime) -> None:
        super().__init__(states)
        self.observed_at = observed_at


class Measurements:
    """Implements Metrics. With a `watcher`, `pools` answers at once; without a fresh look it measures now."""

    def __init__(
        self,
        fleet: Fleet,
        prober: HttpProber,
        prometheus: PrometheusSource | None,
        envoy_admin: str | None,
        client: httpx.AsyncClient,
        *,
        source: ScrapeSource | None = None,
        watcher: PoolWatcher | None = None,
        declared: Declared | None = None,
        cluster: Cluster | None = None,
        probe_timeout_s: float = 1.5,
        now: Clock = utc_now,
    ) -> None:
        self._fleet = fleet
        self._prober = prober
        self._prometheus = prometheus
        self._admin = envoy_admin
        self._source = source or ScrapeSource(client, now=now)
        self._watcher = watcher
        self._scrape = ScrapeIndicators(fleet, self._source, envoy_admin, declared)
        self._cluster = ClusterIndicators(fleet, cluster, self._look) if cluster is not None else None
        self._timeout_s = probe_timeout_s
        self._now = now

    async def sample(self, queries: Sequence[IndicatorQuery]) -> list[Sample]:
        """One reading per query, in order. Two questions to the same probe scope share one generation."""
        probes = {
            q.scope: asyncio.ensure_future(self._prober.generate(q.scope)) for q in queries if q.source == "probe"
        }
        readings = await asyncio.gather(*(self._reading(query, probes) for query in queries))
        return [
            Sample(indicator=query.name, value=reading.value, observed_at=reading.observed_at, why=reading.why)
            for query, reading in zip(queries, readings, strict=True)
        ]

    async def _reading(self, query: IndicatorQuery, probes: Mapping[str, asyncio.Future[Generation]]) -> Reading:
        asked = self._now()
        try:
            match query.source:
                case "probe":
                    return _of_probe(query.query, await probes[query.scope])
                case "scrape":
                    return await self._scrape.read(query.query, query.scope)
                case "cluster":
                    if self._cluster is None:
                        raise NotMeasured("no cluster is set")
                    return await self._cluster.read(query.query, query.scope)
                case "prometheus":
                    if self._prometheus is None:
                        raise NotMeasured("no Prometheus is set")
                    return await self._prometheus.query(query.query)
        except (NotMeasured, PortError) as error:
            return Reading(None, asked, f"{query.query} {query.scope}: {error}")

    async def pools(self, domain: str, declared: Snapshot) -> PoolStates:
        """State of every pool of the domain. Permanent: no such domain. Retryable: no endpoint could be measured."""
        pools = [pool for pool in self._fleet.pools if pool.cluster == domain]
        if not pools:
            raise Permanent(f"there is no pool in domain {domain!r}")
        asked = self._now()
        rotation = {p.name: [e.address for e in p.endpoints if _is_in(declared, p, e.address)] for p in pools}
        found, proxy = await asyncio.gather(
            asyncio.gather(*(self._looks(p, rotation[p.name]) for p in pools)), self._proxy()
        )
        looks: dict[str, Sequence[Look | None]] = dict(zip(rotation, found, strict=True))
        seen = [found for part in looks.values() for found in part if found is not None]
        if not seen and any(rotation.values()):
            raise Retryable(f"no endpoint of {domain} could be measured")
        times = [asked, *(found.observed_at for found in seen)]
        served = {p.name: served_tps(p, looks[p.name]) for p in pools}
        if proxy is not None:
            times.append(proxy.base.observed_at)
        asked_tps = {p.name: self._asked(p, served, looks[p.name], proxy) if proxy is not None else None for p in pools}
        failing = {p.name: failing_share(proxy, p.name) if proxy is not None else None for p in pools}
        states = {p.name: pool_state(p, looks[p.name], asked_tps[p.name], failing[p.name]) for p in pools}
        return PoolStates(states, min(times))

    async def _proxy(self) -> Pair | None:
        """What users get, by the proxy's counters. None: there is none, or it does not say."""
        found = None if self._admin is None else await attempt(self._source.envoy_pair, self._admin)
        return found if isinstance(found, Pair) else None

    async def _looks(self, pool: Pool, addresses: list[str]) -> list[Look | None]:
        return list(await asyncio.gather(*(self._look(pool, address) for address in addresses)))

    async def _look(self, pool: Pool, address: str) -> Look | None:
        if self._watcher is not None and (newest := self._watcher.newest(address)) is not None:
            return newest
        try:
            return await look(self._prober, self._source, pool, address, self._timeout_s)
        except PortError:
            return None  # we could not ask; None is what "not measured" is called from here on

    def _asked(
        self, pool: Pool, served: dict[str, float | None], looks: Sequence[Look | None], proxy: Pair
    ) -> float | None:
        """Tokens/s asked of a pool: its requests per second times tokens per request of the route's readable pools."""
        route = self._fleet.route_of(pool.name)
        try:
            own = requests(proxy, pool.name) / proxy.seconds
            readable = {name: tps for name in (route.pools if route else ()) if (tps := served.get(name)) is not None}
            others = sum(requests(proxy, name) for name in readable) / proxy.seconds
            tokens = sum(readable.values())
            if not (others > 0 and tokens > 0):  # often a pool is the only one of its route
                others, tokens = answered(proxy, pool.name) / proxy.seconds, speaking_tps(pool, looks) or 0.0
        except NotMeasured:
            return None
        if own == 0:
            return 0.0
        return own * tokens / others if others > 0 and tokens > 0 else None


def _is_in(declared: Snapshot, pool: Pool, address: str) -> bool:
    return declared.settings.get(endpoint_key(pool.name, address)) == "in"


def _of_probe(query: str, generation: Generation) -> Reading:
    if query == "ok":
        return Reading(1.0 if generation.ok else 0.0, generation.observed_at, generation.why)
    if query != "seconds":
        raise NotMeasured("a probe has `ok` and `seconds`")
    return Reading(generation.seconds if generation.ok else None, generation.observed_at, generation.why)
