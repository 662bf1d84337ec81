"""What everything leans on: the Kubernetes API of each cluster, and dependencies. Both are a load on a capacity."""

from __future__ import annotations

import math
from dataclasses import dataclass

from activities.adapters.fluid_levels import Levels
from runbooks.incident_fleet import ApiSpec, DependencySpec

PLENTY = 1000
"""Told as headroom where replicas do not load a thing at all."""


@dataclass(slots=True)
class Leaned:
    """Load on a capacity, now. `gone`: it is not there at all."""

    load: float
    capacity: float
    each: float
    """What one more replica brings at the most: while it starts, or while it runs."""
    gone: bool = False

    @property
    def over(self) -> bool:
        """More is asked of it than it can do."""
        return self.gone or self.load > self.capacity

    @property
    def failing(self) -> float:
        """Share of what is asked that it cannot do."""
        if self.gone:
            return 1.0
        return 1 - self.capacity / self.load if self.over else 0.0

    @property
    def headroom(self) -> float | None:
        """How many more replicas it can take, as its own metrics say; None: it tells nothing."""
        if self.gone:
            return None
        if self.each <= 0:
            return 0.0 if self.over else float(PLENTY)
        return float(math.floor((self.capacity - self.load) / self.each))


def api_now(spec: ApiSpec, levels: Levels, cluster: str, ready: int, starting: int, requests: float) -> Leaned:
    """Of the cluster's API."""
    load = spec.load + levels.api_load.get(cluster, 0.0)
    load += ready * spec.per_replica + starting * spec.per_start + requests * spec.per_request
    capacity = spec.capacity * levels.api_capacity.get(cluster, 1.0)
    return Leaned(load, capacity, max(spec.per_replica, spec.per_start), cluster in levels.gone)


def dependency_now(spec: DependencySpec, levels: Levels, ready: int, starting: int) -> Leaned:
    """Of a dependency."""
    load = spec.load + levels.dependency_load.get(spec.name, 0.0)
    load += ready * spec.per_replica + starting * spec.per_start
    capacity = spec.capacity * levels.dependency_capacity.get(spec.name, 1.0)
    return Leaned(load, capacity, max(spec.per_replica, spec.per_start))
