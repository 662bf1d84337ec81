"""A fleet behind the ports that is small enough to know everything about: who wrote what when, under which permit, and
what then was true. The rules of writing are those of the real adapters: compare-and-set under a fence, permits that end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio import activity

from activities.errors import Ambiguous, Permanent, Refused, Retryable
from activities.guard_client import GuardClient
from activities.ports import Generation, Snapshot
from activities.safety import SafetyActivities
from runbooks.change import Change, Permit, admit_key, connections_key, endpoint_key, weight_key
from runbooks.facts import PoolState, Settings
from runbooks.fleet import Endpoint, Fleet, Pool, Route, homes_of, outside
from runbooks.guard import AcquireRequest, Answer
from runbooks.plan import CheckRequest, CheckResult, IndicatorQuery, Sample

TPS = 100.0


def now() -> datetime:
    """The true time, which no worker's clock moves."""
    return datetime.now(UTC)


def fleet_of(east: str, west: str) -> Fleet:
    """Two domains: a route within one, and a route across both."""
    sizes = {"a": (east, 4), "b": (east, 4), "c": (east, 3), "d": (west, 3)}
    return Fleet(
        routes=(
            Route(name="one", pools=("a", "b"), tiers=("batch", "paid")),
            Route(name="two", pools=("c", "d"), tiers=("batch", "paid")),
        ),
        pools=tuple(
            Pool(
                name=name,
                cluster=cluster,
                dialect="vllm",
                tokens_per_second=TPS,
                endpoints=tuple(Endpoint(address=f"{name}{n}:80") for n in range(size)),
            )
            for name, (cluster, size) in sizes.items()
        ),
        controls=outside(east, west),
    )


@dataclass(frozen=True)
class Write:
    """One act at the actuator. `answering`: endpoints in rotation that give tokens, by pool, just after it."""

    at: datetime
    permit: Permit
    change: Change
    answering: dict[str, int]
    out: dict[str, int]


@dataclass
class World:
    """Settings, faults, and the log of all that was written. `trouble`: what the next swaps meet."""

    fleet: Fleet
    settings: Settings = field(default_factory=dict)
    baseline: Settings = field(default_factory=dict)
    sick: set[str] = field(default_factory=set)
    demand: dict[str, float] = field(default_factory=lambda: {"one": 120.0, "two": 90.0})
    fences: dict[str, tuple[int, str]] = field(default_factory=dict)
    writers: dict[str, tuple[int, str]] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    faults: list[tuple[datetime, str, bool]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for route in self.fleet.routes:
            self.settings |= {weight_key(route.name, p): 50 for p in route.pools}
            self.settings |= {admit_key(route.name, t): 100 for t in route.tiers}
        for pool in self.fleet.pools:
            self.settings |= {endpoint_key(pool.name, e.address): "in" for e in pool.endpoints}
            self.settings[connections_key(pool.name)] = 0
        self.baseline = dict(self.settings)

    # --- what is true ------------------------------------------------------------------------------------------------

    def fault(self, address: str, sick: bool) -> None:
        """It hangs from now on, or gives tokens again."""
        (self.sick.add if sick else self.sick.discard)(address)
        self.faults.append((now(), address, sick))

    def rotation(self, pool: Pool) -> list[str]:
        """Addresses that get requests."""
        return [e.address for e in pool.endpoints if self.settings[endpoint_key(pool.name, e.address)] == "in"]

    def answering(self, pool: Pool) -> int:
        """Of those, the ones that give tokens."""
        return sum(a not in self.sick for a in self.rotation(pool))

    def share(self, pool: Pool) -> float:
        """Of its route's traffic."""
        route = self._route(pool)
        weights = {p: float(self.settings[weight_key(route.name, p)]) for p in route.pools}
        return weights[pool.name] / (sum(weights.values()) or 1.0)

    def load(self, pool: Pool) -> float:
        """Tokens/s asked of it."""
        route = self._route(pool)
        admitted = min(float(self.settings[admit_key(route.name, t)]) for t in route.tiers) / 100
        return self.demand[route.name] * (0.5 + admitted / 2) * self.share(pool)

    def errors(self, pool: Pool) -> float:
        """Share of its requests that fail."""
        inside = self.rotation(pool)
        if not inside:
            return 1.0
        healthy = self.answering(pool)
        lost = 1 - healthy / len(inside)
        room, load = healthy * TPS, self.load(pool)
        return min(1.0, lost + max(0.0, (load - room) / load if load else 0.0))

    def _route(self, pool: Pool) -> Route:
        route = self.fleet.route_of(pool.name)
        assert route is not None
        return route

    def _pools(self, scope: str) -> list[Pool]:
        route = self.fleet.route(scope.removeprefix("route/"))
        names = route.pools if route is not None else (scope,)
        return [p for n in names if (p := self.fleet.pool(n)) is not None]

    # --- Traffic -----------------------------------------------------------------------------------------------------

    def of_domain(self, domain: str) -> Settings:
        """All settings of a domain."""
        return {k: v for k, v in self.settings.items() if domain in homes_of(k, self.fleet)}

    async def read(self, domain: str) -> Snapshot:
        """What is declared."""
        found = self.of_domain(domain)
        if not found:
            raise Permanent(f"there is no domain {domain!r}")
        _, permit = self.writers.get(domain, (0, ""))
        return Snapshot(settings=found, observed_at=now(), epoch=self.fences.get(domain, (0, ""))[0], permit_id=permit)

    async def effective(self, keys: Sequence[str]) -> Settings:
        """The same: this proxy has no delay."""
        return {k: self.settings[k] for k in keys if k in self.settings}

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """As the real adapters: see `activities.ports.Actuator`."""
        trouble = self.trouble.pop(0) if self.trouble else ""
        if trouble == "away":
            raise Retryable("the proxy is away for a moment")
        if trouble == "slow":
            await asyncio.sleep(0.4)
        if permit.change_digest != change.digest:
            raise Refused("the permit is for another change")
        for key in change.after:
            if permit.domain not in homes_of(key, self.fleet):
                raise Refused(f"{key} is not in {permit.domain}")
        self._write(change, permit)
        if trouble == "silent":
            raise Ambiguous("written, and the proxy says nothing")
        if trouble == "late":
            await asyncio.sleep(0.4)
        return await self.read(permit.domain)

    def _write(self, change: Change, permit: Permit) -> None:
        domain, mine = permit.domain, (permit.epoch, permit.id)
        seen = self.fences.get(domain, (0, ""))
        if seen[0] >= permit.epoch and seen != mine:
            raise Refused(f"fenced: {domain} is at {seen}")
        found = {k: self.settings[k] for k in change.after}
        if self.writers.get(domain) == mine:
            if found != change.after:
                raise Refused("somebody changed it since; a permit never acts twice")
            return
        if now() >= permit.act_before:
            raise Refused("the permit has expired")
        if found != change.before:
            raise Refused("the plan rests on other settings")
        for route in self.fleet.routes:
            keys = [weight_key(route.name, p) for p in route.pools]
            if set(keys) & set(change.after) and not any({**self.settings, **change.after}[k] for k in keys):
                raise Refused(f"route {route.name} would have no weight")
        self.fences[domain] = self.writers[domain] = mine
        self.settings |= change.after
        answering = {p.name: self.answering(p) for p in self.fleet.pools}
        out = {p.name: len(p.endpoints) - len(self.rotation(p)) for p in self.fleet.pools}
        self.writes.append(Write(now(), permit, change, answering, out))

    # --- Metrics and Prober ------------------------------------------------------------------------------------------

    async def sample(self, queries: Sequence[IndicatorQuery]) -> list[Sample]:
        """One reading each."""
        return [self._sample(q) for q in queries]

    def _sample(self, query: IndicatorQuery) -> Sample:
        value: float | None = None
        pools = self._pools(query.scope)
        load = sum(self.load(p) for p in pools)
        if query.source == "probe":
            value = 1.0 if self._generates(query.scope) else 0.0
        elif query.source == "scrape" and query.query == "error_rate" and pools:
            value = sum(self.errors(p) * self.load(p) for p in pools) / load if load else None
        elif query.source == "scrape" and query.query == "queue" and pools:
            value = sum(max(0.0, self.load(p) - self.answering(p) * TPS) / 10 for p in pools)
        why = "" if value is not None else f"{query.source} has no {query.query} of {query.scope}"
        return Sample(indicator=query.name, value=value, observed_at=now(), why=why)

    def _generates(self, scope: str) -> bool:
        if not scope.startswith("route/"):
            return scope not in self.sick
        pools = self._pools(scope)
        return sum(self.errors(p) * self.share(p) for p in pools) < 0.3

    async def pools(self, domain: str, declared: Snapshot) -> dict[str, PoolState]:
        """Every pool of the domain."""
        return {p.name: self._state(p) for p in self.fleet.pools if p.cluster == domain}

    def _state(self, pool: Pool) -> PoolState:
        healthy = self.answering(pool)
        return PoolState(
            pool=pool.name,
            endpoints=pool.size,
            in_rotation=len(self.rotation(pool)),
            answering=healthy,
            capacity_tps=healthy * TPS,
            load_tps=self.load(pool),
            queue=max(0.0, self.load(pool) - healthy * TPS) / 10,
            kv_used=0.1,
        )

    async def generate(self, scope: str) -> Generation:
        """A token or none."""
        ok = self._generates(scope)
        return Generation(ok=ok, tokens=int(ok), seconds=0.01, why="" if ok else "no token", observed_at=now())

    def knows(self, scope: str) -> bool:
        """Everything can be asked."""
        return True


@dataclass
class Grants:
    """Every permit that an activity was given, and when the check began that led to it: its facts are no older."""

    at: dict[str, datetime] = field(default_factory=dict)
    began: dict[str, datetime] = field(default_factory=dict)
    order: list[tuple[datetime, Permit]] = field(default_factory=list)


class WatchedGuards(GuardClient):
    """The real client; notes what it was told."""

    grants: Grants

    async def acquire(self, request: AcquireRequest) -> Answer:
        """See GuardClient."""
        answer = await super().acquire(request)
        if answer.permit is not None and answer.permit.id not in self.grants.at:
            self.grants.at[answer.permit.id] = now()
            self.grants.order.append((now(), answer.permit))
        return answer


class WatchedSafety(SafetyActivities):
    """The real check; notes when it began."""

    grants: Grants

    @activity.defn(name="check")
    async def check(self, req: CheckRequest) -> CheckResult:
        """See SafetyActivities."""
        began = now()
        result: Any = await SafetyActivities.check(self, req)
        if result.permit is not None:
            self.grants.began.setdefault(result.permit.id, began)
        return CheckResult.model_validate(result)
