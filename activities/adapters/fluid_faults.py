"""Which class plays which fault, and those faults that only raise or lower a level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from activities.adapters.fluid_cause import Cause
from activities.adapters.fluid_faults_change import Rollout, SetByHand
from activities.adapters.fluid_faults_node import Gone, GpuFault, NetworkLost, NodesDown
from activities.adapters.fluid_faults_replica import Crashes, Fails, Hangs, Slows, Spoils
from activities.adapters.fluid_levels import Levels, either, plus, times
from runbooks.incident import Incident
from runbooks.incident_faults import (
    ApiLoad,
    Blind,
    ClientErrors,
    DeadConnections,
    Demand,
    DependencyDown,
    Imbalance,
    LongRequests,
    Upstream,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activities.adapters.fluid_hands import Hands
    from activities.adapters.fluid_replicas import Replica


class Asks(Cause[Demand]):
    """More or fewer requests, `ramp` seconds until all of them are there."""

    def factor(self, t: float) -> float:
        """By which users ask for more at this time."""
        part = 1.0 if self.spec.ramp <= 0 else min(1.0, max(0.0, t - self.at) / self.spec.ramp)
        return 1 + (self.spec.factor - 1) * part

    def ramps(self, t: float) -> bool:
        """Whether it is still on its way."""
        return t < self.at + self.spec.ramp


class Longer(Cause[LongRequests]):
    """Longer requests."""

    def level(self, levels: Levels) -> None:
        """See `Cause`."""
        times(levels.longer, self.spec.route, self.spec.factor)


class Dead(Cause[DeadConnections]):
    """Half-open connections, until the pool's connections are closed."""

    cured = False

    def level(self, levels: Levels) -> None:
        """See `Cause`."""
        if not self.cured:
            either(levels.dead, self.spec.pool, self.spec.share)

    def recycled(self, world: Hands, pool: str) -> None:
        """See `Cause`."""
        self.cured |= pool == self.spec.pool


class Malformed(Cause[ClientErrors]):
    """Requests that clients and engine understand differently."""

    def level(self, levels: Levels) -> None:
        """See `Cause`."""
        either(levels.limited if self.spec.status == 429 else levels.malformed, self.spec.pool, self.spec.share)


class Sticks(Cause[Imbalance]):
    """Traffic that does not follow the weights, or not the balance within a pool."""

    def level(self, levels: Levels) -> None:
        """See `Cause`."""
        if not self.spec.replica:
            either(levels.sticks, self.spec.pool, self.spec.share)

    def mark(self, pool: str, replicas: Sequence[Replica]) -> None:
        """On the first replica in rotation."""
        if self.spec.replica and pool == self.spec.pool:
            for replica in [r for r in replicas if r.rotates][:1]:
                replica.sticky = 1 - (1 - replica.sticky) * (1 - self.spec.share)


class Before(Cause[Upstream]):
    """What stands before the fleet."""

    def level(self, levels: Levels) -> None:
        """See `Cause`."""
        either(levels.upstream, self.spec.route, self.spec.share)
        if self.spec.stalls:
            levels.stalls.add(self.spec.route)


class ApiBusy(Cause[ApiLoad]):
    """Load on a Kubernetes API."""

    def level(self, levels: Levels) -> None:
        """See `Cause`."""
        plus(levels.api_load, self.spec.cluster, self.spec.load)
        times(levels.api_capacity, self.spec.cluster, self.spec.capacity_factor)
        either(levels.api_serves, self.spec.cluster, self.spec.serving_needs_it)


class Leans(Cause[DependencyDown]):
    """Load on a dependency."""

    def level(self, levels: Levels) -> None:
        """See `Cause`."""
        plus(levels.dependency_load, self.spec.name, self.spec.load)
        times(levels.dependency_capacity, self.spec.name, self.spec.capacity_factor)


class Blinds(Cause[Blind]):
    """What is measured is missing, or stands still. The measuring ports ask whether it is on."""


PLAYED: Mapping[str, Callable[[Any, float, float | None], Cause[Any]]] = {
    "hang": Hangs,
    "crash": Crashes,
    "slow": Slows,
    "errors": Fails,
    "bad_output": Spoils,
    "dead_connections": Dead,
    "demand": Asks,
    "long_requests": Longer,
    "client_errors": Malformed,
    "imbalance": Sticks,
    "node_down": NodesDown,
    "gpu": GpuFault,
    "network": NetworkLost,
    "cluster_gone": Gone,
    "api_load": ApiBusy,
    "dependency": Leans,
    "upstream": Before,
    "change": Rollout,
    "blind": Blinds,
    "by_hand": SetByHand,
}


def causes_of(incident: Incident) -> list[Cause[Any]]:
    """Every fault of the file, the first to begin first."""
    found = [
        PLAYED[f.fault](f, incident.seconds(f.at), None if f.ends is None else incident.seconds(f.ends))
        for f in incident.timeline.faults
    ]
    return sorted(found, key=lambda cause: cause.at)
