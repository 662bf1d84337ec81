"""The fluid model of a whole fleet: time goes on in steps, cut wherever something happens. docs/simulated-fleet.md."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from activities.adapters.fluid_account import PoolRow
from activities.adapters.fluid_control import Leaned
from activities.adapters.fluid_pool import Ask
from activities.adapters.fluid_present import SHORT_S, Present
from activities.adapters.fluid_route import RouteFlow
from runbooks.incident import Incident
from runbooks.incident_fleet import PoolSpec

BUSY_S, LONG_S = 5.0, 30.0
"""The longest step while something moves, and while all is at rest."""


class FluidWorld(Present):
    """The state at `t` seconds after the start, and how it goes on. `minimum`: fewest replicas of a pool that must answer,
    as a share of its replicas."""

    def __init__(self, incident: Incident, minimum: float = 0.5) -> None:
        super().__init__(incident)
        self.routes = {r.name: RouteFlow(r) for r in incident.fleet.routes}
        self._minimum = {p.name: max(1, math.ceil(p.replicas * minimum - 1e-9)) for p in incident.fleet.pools}
        self._shares: dict[str, float] = {}
        self._sync(warm=True)

    def advance(self, to: float) -> None:
        """Goes on until `to` seconds after the start."""
        while to - self.t > 0.0005:
            self._happen()
            self._sync()
            self._flow(self._step_s(to))
        self._happen()
        self._sync()

    def _step_s(self, to: float) -> float:
        until = [to, self.t + self.pace]
        until += [c.at for c in self.causes if not c.on and not c.over]
        for cause in self.active:
            until += [at for at in (cause.ends, cause.next_at) if at is not None]
        until += [self.seconds_of(at) for w in self.worlds.values() if (at := w.wakes()) is not None]
        return max(0.001, min(at for at in until if at > self.t) - self.t)

    def _flow(self, dt: float) -> None:
        rest = True
        served = dict.fromkeys(self.served, 0.0)
        for route in self.routes.values():
            rest &= self._route(route, served, dt)
        for pool, flow in self.pools.items():
            if flow.answering < self._minimum[pool]:
                self.account.below(pool, dt)
        self.served = served
        self.t += dt
        for pool, flow in self.pools.items():
            if flow.spec.autoscaler_max is not None:
                self.scale(pool, flow, self.apis[flow.spec.cluster].over)
        self.pace = min(LONG_S if rest else BUSY_S, max(SHORT_S, self.pace * 1.6))
        if self.account.due(self.t):
            self._row()

    def _route(self, route: RouteFlow, served: dict[str, float], dt: float) -> bool:
        """One route and its pools. True when all of it is at rest."""
        name, levels = route.spec.name, self.levels
        attempts = route.arrive(self._asked_more(name, dt), levels.upstream.get(name, 0.0), self.edge.admit[name], dt)
        long = levels.longer.get(name, 1.0)
        rest = not any(d.spec.route == name and d.ramps(self.t) for d in self.demands)
        good, wrong, failed = 0.0, 0.0, dict[str, float]()
        shares = self.shares(name)
        if not shares:
            failed["weightless"] = attempts
        for pool in route.spec.pools:
            flow, share = self.pools[pool], shares.get(pool, 0.0)
            flow.newcomers(self._shares.get(pool, share), share)
            self._shares[pool] = share
            rest &= flow.step(self._ask(route, flow.spec, attempts * share, long), dt)
            gave = flow.gave
            good += gave.good
            wrong += gave.wrong
            served[flow.spec.cluster] += gave.good + gave.wrong
            for cause, rate in gave.failed.items():
                failed[cause] = failed.get(cause, 0.0) + rate
        rest &= route.end(good, wrong, failed, dt)
        self.account.add(name, route.users, dt)
        return rest

    def _asked_more(self, route: str, dt: float) -> float:
        factor = 1.0
        for demand in self.demands:
            if demand.spec.route == route:
                factor *= demand.factor(self.t + dt / 2)
        return factor

    def shares(self, route: str) -> dict[str, float]:
        """Share of the route's traffic by pool. Empty: it has no weight at all."""
        weights = self.edge.weights[route]
        whole = sum(weights.values())
        if not whole:
            return {}
        sticks = {p: self.levels.sticks[p] for p in weights if p in self.levels.sticks}
        loose = max(0.0, 1 - sum(sticks.values()))
        return {p: sticks.get(p, 0.0) + loose * w / whole for p, w in weights.items()}

    def _ask(self, route: RouteFlow, pool: PoolSpec, rate: float, long: float) -> Ask:
        spec, levels = route.spec, self.levels
        lost: dict[str, float] = {}
        if (share := levels.api_serves.get(pool.cluster, 0.0)) and self.apis[pool.cluster].over:
            lost["api"] = share
        for name in pool.depends_on:
            if self.serves_through(name) and (share := self.leaned[name].failing):
                lost["dependency"] = 1 - (1 - lost.get("dependency", 0.0)) * (1 - share)
        if share := levels.limited.get(pool.name, 0.0):
            lost["limited"] = share
        return Ask(
            rate,
            spec.tokens_per_request * long,
            spec.prompt_tokens * long,
            spec.deadline,
            levels.dead.get(pool.name, 0.0),
            levels.malformed.get(pool.name, 0.0),
            lost,
        )

    def _row(self) -> None:
        rows = {}
        for name, flow in self.pools.items():
            able = [g for g in flow.groups if g.of.answers]
            rows[name] = PoolRow(
                load_tps=flow.ask.rate * flow.ask.tokens,
                capacity_tps=sum(g.count * flow.spec.tokens_per_second * g.of.speed for g in able),
                queue=flow.queue,
                kv_used=max((g.kv_used for g in able), default=0.0),
                in_rotation=sum(g.count for g in flow.groups),
                serving=sum(g.count for g in able),
                starting=self.starting_in(name),
            )
        api = {c: _part(a) for c, a in self.apis.items()}
        self.account.row(self.moment(self.t), self.t, rows, api, {d: _part(x) for d, x in self.leaned.items()})

    @property
    def under_way(self) -> float:
        """Requests of users that are neither served nor failed nor refused by now."""
        return sum(p.waiting for p in self.pools.values()) + sum(r.again for r in self.routes.values())

    def seconds_of(self, at: datetime) -> float:
        """Seconds after the start."""
        return (at - self.incident.starts) / timedelta(seconds=1)


def _part(thing: Leaned) -> float:
    """Load over capacity, 99 at the most; 0 when it is gone, since nothing is measured then."""
    if thing.gone:
        return 0.0
    return min(99.0, thing.load / thing.capacity) if thing.capacity > 0 else 99.0
