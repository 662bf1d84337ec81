"""One synthetic incident as it is thought up: the fleet, what breaks in it, and what would be right to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter

from runbooks.incident_faults import Fault
from runbooks.incident_fleet import ClusterSpec, FleetSpec, PoolSpec, RouteSpec
from runbooks.incident_time import span_text
from worker.synthetic_draw import Draw

_FAULT: TypeAdapter[Fault] = TypeAdapter(Fault)


def at(seconds: float) -> str:
    """Seconds after the start as a file writes them."""
    return span_text(float(round(seconds)))


def fault(kind: str, begins: float, **fields: Any) -> Fault:
    """A fault that begins so many seconds after the start. Spans are seconds."""
    return _FAULT.validate_python({"fault": kind, "at": at(begins), **fields})


@dataclass(frozen=True)
class Story:
    """`target`: the id of what broke. `allowed`: levers that are right for it, by the mission's taxonomy. `did`: what people
    did that worked, in the end. `said`: what users and colleagues say of it. `lasts`: length of the play, s."""

    faults: tuple[Fault, ...]
    target: str
    allowed: tuple[str, ...]
    did: tuple[str, ...]
    words: str
    said: tuple[str, ...]
    symptom: str
    lasts: float

    def with_fault(self, more: Fault) -> Story:
        """The same with one fault before."""
        return replace(self, faults=(more, *self.faults))


@dataclass(frozen=True)
class Scene:
    """What a cause is drawn into. `harder`: 0, 1, 2, …: so many times no rule saw it, and it is drawn worse."""

    draw: Draw
    fleet: FleetSpec
    hotfix: bool
    harder: int
    begins: float
    both_statuses: bool = False
    route: RouteSpec = field(init=False)
    pool: PoolSpec = field(init=False)
    cluster: ClusterSpec = field(init=False)

    def __post_init__(self) -> None:
        """The first route, its first pool, and that pool's cluster."""
        pools = {p.name: p for p in self.fleet.pools}
        clusters = {c.name: c for c in self.fleet.clusters}
        object.__setattr__(self, "route", self.fleet.routes[0])
        object.__setattr__(self, "pool", pools[self.route.pools[0]])
        object.__setattr__(self, "cluster", clusters[self.pool.cluster])

    @property
    def load(self) -> float:
        """Share of what the route's pools can serve that its users take, in normal times."""
        serves = sum(p.replicas * p.tokens_per_second for p in self.fleet.pools if p.name in self.route.pools)
        return self.route.requests_per_second * self.route.tokens_per_request / serves

    @property
    def fills(self) -> float:
        """How many times as long requests must be to fill the caches: more work than the pools can do, and more cache than
        busy slots have."""
        each = self.route.prompt_tokens + self.route.tokens_per_request / 2
        return max(1.1 / self.load, self.pool.kv_tokens / (self.pool.slots * each))

    @property
    def service(self) -> str:
        """Target id of the pool."""
        return f"{self.cluster.name}/service/{self.pool.name}"

    def endpoint(self, n: int) -> str:
        """Target id of one replica."""
        return f"{self.service}/endpoint/{self.pool.addresses[n]}"

    @property
    def node(self) -> str:
        """The first node of the cluster, by its name in faults."""
        return f"{self.cluster.name}-n1"

    def few(self) -> int:
        """Some replicas of the pool, fewer than half; more when it must show."""
        most = max(1, (self.pool.replicas - 1) // 2)
        return min(most, self.draw.whole(1, max(1, most // 2)) + self.harder)

    def lasts(self, low: float, high: float) -> float:
        """Length of the play, s: time before the fault and after it began."""
        return self.begins + 60.0 * round(self.draw.between(low, high))


Cause = Callable[[Scene], Story]
