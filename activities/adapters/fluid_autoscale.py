"""A pool's own autoscaler: automation of somebody else, which raises replicas while much is asked and is slow to lower them."""

from __future__ import annotations

import math

from activities.adapters.fluid_pool import PoolFlow
from activities.adapters.simulated_things import SimWorkload
from runbooks.incident_fleet import PoolSpec

EVERY_S = 30.0
UP_WAITS_S = 60.0
"""From one raise to the next."""
DOWN_WAITS_S = 300.0
"""So long little must be asked before one replica is taken away."""
AIM, MUCH, LITTLE = 0.7, 0.85, 0.4
"""Utilisation that it aims at, raises above and lowers below."""


class Autoscaler:
    """Of one pool, between its normal replicas and its most."""

    def __init__(self, spec: PoolSpec) -> None:
        self._spec = spec
        self._next = EVERY_S
        self._raised = -UP_WAITS_S
        self._idle_since: float | None = None

    def wants(self, t: float, work: SimWorkload, flow: PoolFlow, deaf: bool) -> int | None:
        """Replicas that it sets now; None: it leaves them. `deaf`: the API does not answer it."""
        if t < self._next or deaf or work.frozen or self._spec.autoscaler_max is None:
            return None
        self._next = t + EVERY_S
        able = [g for g in flow.groups if g.of.answers]
        capacity = sum(g.count for g in able) * self._spec.tokens_per_second
        used = flow.ask.rate * flow.ask.tokens / capacity if capacity else 2.0
        if used > LITTLE or work.desired <= self._spec.replicas:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = t
        elif t - self._idle_since >= DOWN_WAITS_S:
            self._idle_since = t
            return work.desired - 1
        if used > MUCH or flow.queue > 2 * sum(g.count for g in able):
            most = max(self._spec.autoscaler_max, work.desired)
            more = max(work.desired + 1, math.ceil(work.desired * min(1.5, used / AIM)))
            if work.desired < most and t - self._raised >= UP_WAITS_S:
                self._raised = t
                return min(most, more)
        return None
