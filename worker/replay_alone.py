"""A site that nobody touches: what an incident costs when nothing is done about it."""

from __future__ import annotations

from datetime import datetime, timedelta

from activities.adapters.simulated import SimulatedSite
from runbooks.incident import Incident
from runbooks.policy import Policy
from worker.replay_result import Harm


class HandClock:
    """A clock that its owner sets."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time now."""
        return self.now


def nothing(incident: Incident, lasted: float, policy: Policy) -> SimulatedSite:
    """The same site, and nobody does anything but what the file itself has people and automation do."""
    clock = HandClock(incident.starts)
    site = SimulatedSite(incident, clock, minimum=policy.min_answering)
    clock.now += timedelta(seconds=lasted)
    site.advance(clock.now)
    return site


def badly(site: SimulatedSite) -> float:
    """Requests of users that got no right answer: failed, refused by an act, or answered wrongly."""
    account = site.account
    return account.failed_requests + sum(account.refused_requests.values()) + account.wrong_answers


def harm_of(site: SimulatedSite, alone: SimulatedSite, more: list[str]) -> Harm:
    """What `site` cost beyond `alone`, with what else was broken."""
    return Harm(
        failed_requests=round(badly(site) - badly(alone), 1),
        below_minimum_s=round(site.account.below_minimum_s - alone.account.below_minimum_s, 1),
        violations=tuple(dict.fromkeys([*site.account.violations, *more])),
    )
