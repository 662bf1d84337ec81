"""What happened to users, and what settings did that they must not."""

from __future__ import annotations

from dataclasses import dataclass, field

from activities.adapters.fluid_route import Users
from runbooks.base import Time
from runbooks.facts import Settings

ROW_S = 10.0


@dataclass(frozen=True, slots=True)
class PoolRow:
    """Of a pool: tokens/s asked of it, and those that its answering replicas in rotation can serve; requests that wait; the
    fullest cache; replicas in rotation, those of them that answer, and those that start."""

    load_tps: float
    capacity_tps: float
    queue: float
    kv_used: float
    in_rotation: int
    serving: int
    starting: int


@dataclass(frozen=True, slots=True)
class Row:
    """One point of the series; rates are means since the row before, requests/s. `t_s`: seconds after the start."""

    at: Time
    t_s: float
    routes: dict[str, Users]
    pools: dict[str, PoolRow]
    api: dict[str, float]
    """Load over capacity of each cluster's API."""
    dependencies: dict[str, float]


@dataclass(frozen=True, slots=True)
class Wrote:
    """One act. `permit`: empty when it was by hand."""

    at: Time
    permit: str
    settings: Settings


@dataclass
class Account:
    """Totals are requests of users, each counted once whatever its client sent again.

    `below_minimum_s`: pool-seconds with fewer replicas in rotation that answer than the minimum, whyever; the run in which
    nobody does anything tells what of it the fault did. `given`: violations of acts that the file itself plays.
    """

    series: list[Row] = field(default_factory=list)
    offered_requests: float = 0.0
    served_requests: float = 0.0
    failed_requests: float = 0.0
    wrong_answers: float = 0.0
    failed_by_cause: dict[str, float] = field(default_factory=dict)
    refused_requests: dict[str, float] = field(default_factory=dict)
    below_minimum_s: float = 0.0
    below_minimum_by_pool: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    writes: list[Wrote] = field(default_factory=list)
    _sums: dict[str, Users] = field(default_factory=dict)
    _since: float = 0.0

    def add(self, route: str, users: Users, dt: float) -> None:
        """A step of one route. Wrong answers were served: no error rate counts them."""
        whole = self._sums.get(route)
        if whole is None:
            whole = self._sums[route] = Users()
        self.offered_requests += users.offered * dt
        self.served_requests += (users.good + users.wrong) * dt
        self.wrong_answers += users.wrong * dt
        whole.offered += users.offered * dt
        whole.good += users.good * dt
        whole.wrong += users.wrong * dt
        for cause, rate in users.failed.items():
            self.failed_requests += rate * dt
            self.failed_by_cause[cause] = self.failed_by_cause.get(cause, 0.0) + rate * dt
            whole.failed[cause] = whole.failed.get(cause, 0.0) + rate * dt
        for tier, rate in users.refused.items():
            self.refused_requests[tier] = self.refused_requests.get(tier, 0.0) + rate * dt
            whole.refused[tier] = whole.refused.get(tier, 0.0) + rate * dt

    def below(self, pool: str, dt: float) -> None:
        """A pool has too few replicas that answer."""
        self.below_minimum_s += dt
        self.below_minimum_by_pool[pool] = self.below_minimum_by_pool.get(pool, 0.0) + dt

    def due(self, t: float) -> bool:
        """Whether it is time for a row."""
        return t - self._since >= ROW_S - 1e-6

    def row(
        self, at: Time, t: float, pools: dict[str, PoolRow], api: dict[str, float], dependencies: dict[str, float]
    ) -> None:
        """The next point."""
        span = t - self._since
        routes = {name: _mean(users, span) for name, users in self._sums.items()}
        self.series.append(Row(at, t, routes, pools, api, dependencies))
        self._sums, self._since = {}, t


def _mean(whole: Users, span: float) -> Users:
    return Users(
        whole.offered / span,
        whole.good / span,
        whole.wrong / span,
        {cause: n / span for cause, n in whole.failed.items()},
        {tier: n / span for tier, n in whole.refused.items()},
    )
