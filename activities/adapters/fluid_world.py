"""The fluid model of a whole fleet: time goes on in steps, cut wherever something happens. docs/simulated-fleet.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from activities.adapters.fluid_account import PoolRow
from activities.adapters.fluid_control import Leaned, api_now, dependency_now
from activities.adapters.fluid_faults import Asks, causes_of
from activities.adapters.fluid_hands import Hands
from activities.adapters.fluid_levels import Levels
from activities.adapters.fluid_pool import Ask, PoolFlow
from activities.adapters.fluid_replicas import Replica
from activities.adapters.fluid_route import RouteFlow
from runbooks.incident import Incident

SHORT_S, LONG_S = 2.0, 30.0
"""The shortest and the longest step: short after something has happened, and longer while all is at rest."""


class FluidWorld(Hands):
    """The state at `t` seconds after the start, and how it goes on. `minimum`: fewest replicas of a pool that must answer,
    as a share of its replicas."""

    def __init__(self, incident: Incident, minimum: float = 0.5) -> None:
        super().__init__(incident, causes_of(incident))
        spec = incident.fleet
        self.levels = Levels()
        self.pools = {p.name: PoolFlow(p) for p in spec.pools}
        self.routes = {r.name: RouteFlow(r) for r in spec.routes}
        self.apis: dict[str, Leaned] = {}
        self.leaned: dict[str, Leaned] = {}
        self._minimum = {p.name: max(1, -(-int(p.replicas * minimum * 1000) // 1000)) for p in spec.pools}
        self._demands: list[Asks] = []
        self._served: dict[str, float] = {c.name: 0.0 for c in spec.clusters}
        self._seen: dict[str, int] = {}
        self._edge_seen = -1
        self.marks = 0
        self._composed = -1
        self._pace = SHORT_S
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

    def closed(self, pool: str) -> None:
        """What hung on the connections of a pool has failed."""
        self.pools[pool].drop_stuck()

    def settle(self) -> None:
        """Something was written: what follows from it at this moment."""
        self._pace = SHORT_S
        self._sync()

    # --- what happens by itself ------------------------------------------------------------------------------------

    def _happen(self) -> None:
        """Faults that begin, end, or act by now."""
        changed = False
        for cause in self._causes:
            if not cause.on and cause.at <= self.t + 1e-6 and not cause.over:
                cause.on, changed = True, True
                cause.begin(self)
            if cause.on and cause.ends is not None and cause.ends <= self.t + 1e-6:
                cause.on, cause.over, changed = False, True, True
                cause.end(self)
            if cause.on and cause.next_at is not None and cause.next_at <= self.t + 1e-6:
                changed = True
                cause.act(self)
        if changed:
            self.relevel()
            self.noticed()

    def relevel(self) -> None:
        """The faults are others than they were."""
        self.marks += 1
        self._pace = SHORT_S
        self.levels = Levels()
        for cause in self.active:
            cause.level(self.levels)
        self._demands = [c for c in self.active if isinstance(c, Asks)]

    def _sync(self, warm: bool = False) -> None:
        """Brings clusters, members and replicas to this moment."""
        now = self.moment(self.t)
        for _ in range(20):
            moved = False
            for name, world in self.worlds.items():
                world.advance(now)
                if self._seen.get(name) != world.version:
                    moved = True
                    self._index(name)
                    for cause in self.active:
                        cause.follow(self)
                    world.advance(now)
                    self._index(name)
                    self._seen[name] = world.version
                    self.marks += 1
            self._lean()
            moved |= self._block()
            if not moved:
                break
        if self.marks != self._composed or self.edge.version != self._edge_seen:
            self._composed, self._edge_seen = self.marks, self.edge.version
            self._pace = SHORT_S
            for pool in self.pools:
                self._compose(pool, warm)

    def _compose(self, pool: str, warm: bool) -> None:
        world, rotation = self.worlds[self.cluster_of(pool)], self.edge.rotation[pool]
        replicas, there = [], set()
        for pod in self.pods_of(pool):
            if pod.node is None:
                continue
            up = world.ready(pod)
            there.add(pod.address)
            versions = frozenset([pod.template.image, *(v for _, v in pod.template.env)])
            replicas.append(
                Replica(
                    pod.address, pod.uid, pod.name, pod.node, versions, pod.restarts, up,
                    rotates=rotation[pod.address],
                )
            )  # fmt: skip
        replicas += [Replica(a, up=False) for a, inside in rotation.items() if inside and a not in there]
        for cause in self.active:
            cause.mark(pool, replicas)
        self.pools[pool].compose(replicas, warm)

    def _lean(self) -> None:
        """Loads of APIs and dependencies."""
        spec = self.incident.fleet
        for cluster in spec.clusters:
            ready, starting = self.counts(cluster.name)
            served = self._served[cluster.name]
            self.apis[cluster.name] = api_now(cluster.api, self.levels, cluster.name, ready, starting, served)
        for dependency in spec.dependencies:
            users = [p.name for p in spec.pools if dependency.name in p.depends_on]
            ready = sum(self.ready_in(p) for p in users)
            starting = sum(self.starting_in(p) for p in users)
            self.leaned[dependency.name] = dependency_now(dependency, self.levels, ready, starting)

    def _block(self) -> bool:
        """No replica comes up while its cluster's API or a dependency that it needs is over its capacity."""
        moved = False
        for cluster, api in self.apis.items():
            moved |= self.still(cluster, api.over)
        for name, thing in self.leaned.items():
            for pool in self.incident.fleet.pools:
                if name in pool.depends_on:
                    moved |= self.stall(pool.name, name, thing.over)
        return moved

    # --- one step --------------------------------------------------------------------------------------------------

    def _step_s(self, to: float) -> float:
        until = [to, self.t + self._pace]
        until += [c.at for c in self._causes if not c.on and not c.over]
        for cause in self.active:
            until += [at for at in (cause.ends, cause.next_at) if at is not None]
        until += [self.seconds_of(at) for w in self.worlds.values() if (at := w.wakes()) is not None]
        return max(0.001, min(at for at in until if at > self.t) - self.t)

    def _flow(self, dt: float) -> None:
        rest = True
        served = dict.fromkeys(self._served, 0.0)
        for name, route in self.routes.items():
            factor = 1.0
            for demand in self._demands:
                if demand.spec.route == name:
                    factor *= demand.factor(self.t + dt / 2)
                    rest &= not demand.ramps(self.t)
            levels = self.levels
            attempts = route.arrive(factor, levels.upstream.get(name, 0.0), self.edge.admit[name], dt)
            long = levels.longer.get(name, 1.0)
            good, wrong, failed = 0.0, 0.0, dict[str, float]()
            shares = self.shares(name)
            if not shares:
                failed["weightless"] = attempts
            for pool, share in shares.items():
                flow = self.pools[pool]
                flow.newcomers(self._shares.get(pool, share), share)
                self._shares[pool] = share
                rest &= flow.step(self._ask(route, pool, attempts * share, long), dt)
                gave = flow.gave
                good += gave.good
                wrong += gave.wrong
                served[flow.spec.cluster] += gave.good + gave.wrong
                for cause, rate in gave.failed.items():
                    failed[cause] = failed.get(cause, 0.0) + rate
            rest &= route.end(good, wrong, failed, dt)
            self.account.add(name, route.users, dt)
        for pool, flow in self.pools.items():
            if sum(g.count for g in flow.groups if g.of.answers) < self._minimum[pool]:
                self.account.below(pool, dt)
        self._served = served
        self.t += dt
        self._autoscale()
        self._pace = min(LONG_S, self._pace * 1.6) if rest else max(SHORT_S, min(5.0, self._pace * 1.6))
        if self.account.due(self.t):
            self._row()

    def shares(self, route: str) -> dict[str, float]:
        """Share of the route's traffic by pool. Empty: it has no weight at all."""
        weights = self.edge.weights[route]
        whole = sum(weights.values())
        if not whole:
            return {}
        sticks = {p: self.levels.sticks[p] for p in weights if p in self.levels.sticks}
        loose = max(0.0, 1 - sum(sticks.values()))
        return {p: sticks.get(p, 0.0) + loose * w / whole for p, w in weights.items()}

    def _ask(self, route: RouteFlow, pool: str, rate: float, long: float) -> Ask:
        spec, levels = route.spec, self.levels
        cluster = self.pools[pool].spec.cluster
        lost: dict[str, float] = {}
        if (share := levels.api_serves.get(cluster, 0.0)) and self.apis[cluster].over:
            lost["api"] = share
        for name in self.pools[pool].spec.depends_on:
            if self.serves_through(name) and (share := self.leaned[name].failing):
                lost["dependency"] = 1 - (1 - lost.get("dependency", 0.0)) * (1 - share)
        if share := levels.limited.get(pool, 0.0):
            lost["limited"] = share
        return Ask(
            rate,
            spec.tokens_per_request * long,
            spec.prompt_tokens * long,
            spec.deadline,
            levels.dead.get(pool, 0.0),
            levels.malformed.get(pool, 0.0),
            lost,
        )

    def _autoscale(self) -> None:
        for pool, flow in self.pools.items():
            if flow.spec.autoscaler_max is not None:
                self.scale(pool, flow, self.apis[flow.spec.cluster].over)

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

    # --- what others ask -------------------------------------------------------------------------------------------

    @property
    def under_way(self) -> float:
        """Requests of users that are neither served nor failed nor refused by now."""
        return sum(p.waiting for p in self.pools.values()) + sum(r.again for r in self.routes.values())

    def each(self, causes: Iterable[str]) -> Mapping[str, float]:
        """Failures/s of the last step by pool, of these causes."""
        wanted = tuple(causes)
        return {n: sum(f.gave.failed.get(c, 0.0) for c in wanted) for n, f in self.pools.items()}

    def seconds_of(self, at: datetime) -> float:
        """Seconds after the start."""
        return (at - self.incident.starts) / timedelta(seconds=1)


def _part(thing: Leaned) -> float:
    """Load over capacity; 0 when it is gone, since nothing is measured then."""
    return thing.load / thing.capacity if thing.capacity > 0 and not thing.gone else 0.0
