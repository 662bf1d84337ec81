"""What the site's Prometheus would answer: the indicators of the catalogue by name, and the site's own two queries."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from activities.adapters.fluid_control import Leaned
from activities.adapters.fluid_look import PoolLook, pool_look
from activities.adapters.fluid_world import FluidWorld
from activities.adapters.reading import NotMeasured, Reading
from activities.adapters.simulated_scrape import SimulatedScrape
from activities.adapters.simulated_view import View
from runbooks.incident_site import api_of, asked_of_site
from runbooks.plan import IndicatorQuery

_LABEL = re.compile(r'(\w+)=~?"([^"]*)"')
WITHIN = timedelta(minutes=10)
CALM_S = 30.0
"""Into the play, before any fault: as it is by itself."""
ALWAYS = 0.001
"""Share of an API server's answers that are errors in normal times."""


class SimulatedPrometheus:
    """One for the whole site, with canary prompts of every replica. It does not read PromQL: of a query that it knows by
    name it takes the pool, the endpoint or the cluster."""

    def __init__(self, view: View, scrape: SimulatedScrape) -> None:
        self._view, self._scrape = view, scrape
        self._world = view.world
        self._pools = {e.address: p.name for p in view.world.fleet.pools for e in p.endpoints}
        self._budgets = {r.name: r.error_budget_left for r in view.world.incident.fleet.routes}
        self._apis = {api_of(c): c for c in view.world.apis}
        self._before: FluidWorld | None = None

    def read(self, query: IndicatorQuery) -> Reading:
        """NotMeasured: it has no such query, or no sample for it."""
        own = asked_of_site(query.query)
        if own is not None:
            return self._own(*own)
        labels = dict(_LABEL.findall(query.query))
        match query.name:
            case "ttft_p99":
                return self._scrape.slowest("ttft_p99_s", labels.get("pool", ""), lambda look: look.first_p99_s)
            case "latency_p99":
                return self._scrape.slowest("latency_p99_s", labels.get("pool", ""), lambda look: look.latency_p99_s)
            case "client_error_share":
                return self._scrape.client_errors(labels.get("envoy_cluster_name", ""))
            case "canary_pass":
                return self._canary(labels.get("endpoint", ""), self._pools.get(labels.get("endpoint", ""), ""))
            case "pool_canary_pass":
                return self._canary("", labels.get("service", ""))
            case "nodes_not_ready_share":
                return self._not_ready(query.scope or labels.get("cluster", ""))
            case "apiserver_error_share":
                return self._api_errors(query.scope or labels.get("cluster", ""))
            case "latency_of_normal":
                pool = labels.get("pool") or labels.get("envoy_cluster_name", "")
                return self._of_normal(pool, lambda look: look.latency_p99_s)
            case "arrival_of_normal":
                return self._of_normal(labels.get("envoy_cluster_name", ""), lambda look: look.asked_s)
            case "restarts_10m":
                return self._restarts(labels.get("pod", "").removesuffix("-.*"))
            case other:
                raise NotMeasured(f"the simulated Prometheus has no series for {other!r}")

    def _own(self, what: str, name: str) -> Reading:
        self._hidden(self._apis.get(name, name))
        if what == "error_budget":
            left = self._budgets.get(name)
            if left is None:
                raise NotMeasured(f"route {name} has no error budget")
            return Reading(left, self._view.now())
        thing: Leaned | None = self._world.leaned.get(name) or self._world.apis.get(self._apis.get(name, ""))
        if thing is None or thing.headroom is None:
            raise NotMeasured(f"{name} tells nothing")
        return Reading(thing.headroom, self._view.now())

    def _canary(self, endpoint: str, pool: str) -> Reading:
        if pool not in self._world.pools:
            raise NotMeasured(f"the fleet has no {endpoint or pool!r}")
        seen = self._view.pool(pool)
        passes = [r.canary for r in seen.look.replicas if endpoint in ("", r.address)]
        known = [p for p in passes if p is not None]
        if not known:
            raise NotMeasured(f"no canary prompt was answered by {endpoint or pool}")
        return Reading(1.0 if all(known) else 0.0, seen.at)

    def _of_normal(self, pool: str, of: Callable[[PoolLook], float | None]) -> Reading:
        """Over what it was an hour before: what the fleet is like by itself, for no play is that long before its faults."""
        if pool not in self._world.pools:
            raise NotMeasured(f"the fleet has no pool {pool!r}")
        seen = self._view.pool(pool)
        now, usual = of(seen.look), of(self._usual(pool))
        if now is None or not usual:
            raise NotMeasured(f"nothing of {pool} was measured now and an hour before")
        return Reading(now / usual, seen.at)

    def _usual(self, pool: str) -> PoolLook:
        if self._before is None:
            incident = self._world.incident
            self._before = FluidWorld(incident)
            first = min((incident.seconds(f.at) for f in incident.timeline.faults), default=CALM_S)
            self._before.advance(min(CALM_S, max(0.001, first / 2)))
        return pool_look(self._before, pool)

    def _restarts(self, pool: str) -> Reading:
        """At least one for each replica whose process began anew within ten minutes."""
        if pool not in self._world.pools:
            raise NotMeasured(f"the fleet has no pool {pool!r}")
        self._hidden(pool)
        self._hidden(self._world.cluster_of(pool))
        now = self._view.now()
        began = [p.began_at for p in self._world.pods_of(pool) if p.restarts and p.began_at is not None]
        return Reading(float(sum(now - at <= WITHIN for at in began)), now)

    def _clusters(self, cluster: str) -> list[str]:
        """The named one; where none is named, as by a query that one Prometheus per cluster answers, all of them."""
        found = [c for c in self._world.apis if cluster in ("", c)]
        if not found:
            raise NotMeasured(f"the fleet has no cluster {cluster!r}")
        for one in found:
            self._hidden(one)
        return found

    def _not_ready(self, cluster: str) -> Reading:
        worst = 0.0
        for name in self._clusters(cluster):
            nodes = self._world.worlds[name].nodes.values()
            worst = max(worst, sum(1 for n in nodes if n.failed) / len(nodes))
        return Reading(worst, self._view.now())

    def _api_errors(self, cluster: str) -> Reading:
        apis = [self._world.apis[c] for c in self._clusters(cluster)]
        if any(a.gone for a in apis):
            raise NotMeasured("no API server is up: there is no value")
        return Reading(max(a.failing for a in apis) or ALWAYS, self._view.now())

    def _hidden(self, name: str) -> None:
        blind = self._view.blinded("metrics", name)
        if blind is not None and not blind.spec.stale:
            raise NotMeasured(f"the metrics of {blind.spec.of} are missing")
