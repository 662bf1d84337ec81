"""The Metrics port on the fluid model: samples with their noise and age, and the state of pools as a watcher would have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from activities.adapters.cluster_indicators import ClusterIndicators
from activities.adapters.dialects import DIALECTS
from activities.adapters.fluid_chance import noisy
from activities.adapters.fluid_look import PoolLook
from activities.adapters.measure import PoolStates
from activities.adapters.reading import NotMeasured, Reading
from activities.adapters.simulated_clusters import SimulatedClusters
from activities.adapters.simulated_prober import SimulatedProber
from activities.adapters.simulated_prometheus import SimulatedPrometheus
from activities.adapters.simulated_scrape import SimulatedScrape
from activities.adapters.simulated_view import View
from activities.adapters.watch import Look
from activities.errors import Permanent, PortError, Retryable
from activities.ports import Snapshot
from runbooks.change import endpoint_key
from runbooks.facts import PoolState
from runbooks.fleet import Pool
from runbooks.indicators import SHARES
from runbooks.plan import IndicatorQuery, Sample

COUNTED = frozenset({"canary_pass", "pool_canary_pass", "error_budget", "nodes_not_ready_share", "restarts_10m"})
"""What is told exactly: there is nothing to it but counting."""


class SimulatedMetrics:
    """`present` brings the model to the present; `clock` tells when a question was asked."""

    def __init__(
        self,
        view: View,
        clusters: SimulatedClusters,
        prober: SimulatedProber,
        patient: SimulatedProber,
        clock: Callable[[], datetime],
        present: Callable[[], None],
    ) -> None:
        self._view, self._prober, self._patient = view, prober, patient
        self._clock, self._present = clock, present
        self._fleet = view.world.fleet
        self._scrape = SimulatedScrape(view)
        self._prometheus = SimulatedPrometheus(view, self._scrape)
        self._cluster = ClusterIndicators(self._fleet, clusters, self._look)

    async def sample(self, queries: Sequence[IndicatorQuery]) -> list[Sample]:
        """One reading per query, in order."""
        self._present()
        found = []
        for query in queries:
            read = await self._reading(query)
            found.append(Sample(indicator=query.name, value=read.value, observed_at=read.observed_at, why=read.why))
        return found

    async def _reading(self, query: IndicatorQuery) -> Reading:
        asked = self._clock()
        try:
            match query.source:
                case "probe":
                    return self._probe(query)
                case "cluster":
                    return await self._cluster.read(query.query, query.scope)
                case "scrape":
                    return self._measured(query, self._scrape.read(query.query, query.scope))
                case "prometheus":
                    return self._measured(query, self._prometheus.read(query))
        except (NotMeasured, PortError) as error:
            return Reading(None, asked, f"{query.query} {query.scope}: {error}")

    def _measured(self, query: IndicatorQuery, exact: Reading) -> Reading:
        if exact.value is None or query.name in COUNTED:
            return exact
        world, at = self._view.world, exact.observed_at
        # By the model's moment, or by an earlier one at which the reading stands still.
        t = round(min(world.t, world.seconds_of(at)), 2)
        value = noisy(exact.value, world.incident.noise, world.incident.seed, query.name, query.scope, query.query, t)
        unit = query.query in (*SHARES, "kv_used") or query.name.endswith("_share")
        return Reading(min(1.0, value) if unit else value, at, exact.why)

    def _probe(self, query: IndicatorQuery) -> Reading:
        told = self._prober.now(query.scope)
        if query.query == "ok":
            return Reading(1.0 if told.ok else 0.0, told.observed_at, told.why)
        if query.query != "seconds":
            raise NotMeasured("a probe has `ok` and `seconds`")
        return Reading(told.seconds if told.ok else None, told.observed_at, told.why)

    async def _look(self, pool: Pool, address: str) -> Look | None:
        try:
            told = self._patient.now(address)
        except Retryable:
            return None  # it could not be asked: None is what "not measured" is called from here on
        return Look(address, told, busy=False, counters=None, began=0.0, ended=told.seconds)

    async def pools(self, domain: str, declared: Snapshot) -> PoolStates:
        """State of every pool of the domain. Permanent: no such domain. Retryable: nothing of it could be measured."""
        self._present()
        pools = [p for p in self._fleet.pools if p.cluster == domain]
        if not pools:
            raise Permanent(f"there is no pool in domain {domain!r}")
        times, states, dark = [], {}, 0
        for pool in pools:
            inside = [e.address for e in pool.endpoints if _is_in(declared, pool, e.address)]
            answering, at = self._answering(pool, inside)
            look, seen_at = self._metered(pool)
            times += [t for t in (at, seen_at) if t is not None]
            dark += answering is None and look is None
            states[pool.name] = self._state(pool, inside, answering, look)
        if dark == len(pools):
            raise Retryable(f"no endpoint of {domain} could be measured")
        return PoolStates(states, min(times))

    def _answering(self, pool: Pool, inside: Sequence[str]) -> tuple[int | None, datetime | None]:
        """How many gave a token, or gave tokens to others meanwhile; None: they could not be asked."""
        try:
            told = [self._patient.now(address) for address in inside]
        except Retryable:
            return None, None
        times = [t.observed_at for t in told]
        return sum(t.ok for t in told), min(times, default=self._view.now())

    def _metered(self, pool: Pool) -> tuple[PoolLook | None, datetime | None]:
        try:
            seen = self._view.pool(pool.name)
        except NotMeasured:
            return None, None
        return seen.look, seen.at

    def _state(self, pool: Pool, inside: Sequence[str], answering: int | None, look: PoolLook | None) -> PoolState:
        load = queue = kv = failing = None
        if look is not None:
            failing = min(1.0, look.errors_s / look.ended_s) if look.ended_s > 0 else None
            mine = [r for r in look.replicas if r.address in inside]
            readable = bool(mine) and all(r.up for r in mine)
            # An engine that cannot be read: what the proxy asks of the pool tells its load.
            load = self._noisy(pool, "load", sum(r.tokens_s for r in mine) if readable else look.asked_tps)
            if readable:
                queue = sum(r.queue for r in mine)
                kv = max(r.kv_used for r in mine) if DIALECTS[pool.dialect].kv is not None else None
        return PoolState(
            pool=pool.name,
            endpoints=pool.size,
            in_rotation=len(inside),
            answering=answering,
            capacity_tps=(answering or 0) * pool.tokens_per_second,
            load_tps=load,
            queue=queue,
            kv_used=kv,
            failing=failing,
            residency=pool.residency,
            tenants=pool.tenants,
        )

    def _noisy(self, pool: Pool, what: str, value: float) -> float:
        incident = self._view.world.incident
        return noisy(value, incident.noise, incident.seed, what, pool.name, round(self._view.world.t, 1))


def _is_in(declared: Snapshot, pool: Pool, address: str) -> bool:
    return declared.settings.get(endpoint_key(pool.name, address)) == "in"
