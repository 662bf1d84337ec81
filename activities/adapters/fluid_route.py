"""Users of one route: what they ask for, what is refused, and what they send again after a failure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from runbooks.incident_fleet import RouteSpec

BACKOFF_S = 10.0
"""Mean time until a client sends a failed request again."""
FINAL = frozenset({"client", "upstream"})
"""Failures that nobody sends again: malformed stays malformed, and what never arrived is not ours to count twice."""


@dataclass(slots=True)
class Users:
    """What happened to the users of a route in a step, requests/s. `failed` is by cause, `refused` by tier."""

    offered: float = 0.0
    good: float = 0.0
    wrong: float = 0.0
    failed: dict[str, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)


class RouteFlow:
    """One route. `again`: failed requests whose clients are about to send them again."""

    def __init__(self, spec: RouteSpec) -> None:
        self.spec = spec
        self.again = 0.0
        self.users = Users()
        self.attempts = 0.0
        self.tries_again = spec.retries / (1 + spec.retries)

    def arrive(self, factor: float, upstream: float, admit: Mapping[str, int], dt: float) -> float:
        """Attempts/s that get to the pools in this step: those of users and those sent again, less what tiers refuse."""
        users = Users(offered=self.spec.requests_per_second * factor)
        self.users = users
        arrived = users.offered * (1 - upstream)
        if upstream:
            users.failed["upstream"] = users.offered - arrived
        back = self.again * (1 - math.exp(-dt / BACKOFF_S)) / dt
        self.again -= back * dt
        attempts = arrived + back
        refused = 0.0
        for tier, share in self.spec.tiers.items():
            if (percent := admit.get(tier, 100)) < 100:
                users.refused[tier] = attempts * share * (100 - percent) / 100
                refused += users.refused[tier]
        self.attempts = attempts - refused
        return self.attempts

    def end(self, good: float, wrong: float, failed: Mapping[str, float], dt: float) -> bool:
        """What the pools made of the attempts. True when it is at rest."""
        users, was = self.users, self.again
        users.good, users.wrong = good, wrong
        for cause, rate in failed.items():
            final = rate if cause in FINAL else rate * (1 - self.tries_again)
            users.failed[cause] = users.failed.get(cause, 0.0) + final
            self.again += (rate - final) * dt
        return abs(self.again - was) <= 0.02 * (was + 0.5)
