"""A site that nobody touches: what an incident costs when nothing is done about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from activities.adapters.simulated import SimulatedSite
from runbooks.detection import Target
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


class StepsKept(SimulatedSite):
    """Remembers the moments to which it was brought. The model goes in steps, and where they are cut changes its figures a
    little: the run that this one is compared with is cut in the same places, so that what differs is what was done."""

    def __init__(self, incident: Incident, clock: Callable[[], datetime], *, minimum: float) -> None:
        super().__init__(incident, clock, minimum=minimum)
        self.steps: list[float] = []
        go_on = self.world.advance

        def advance(to: float) -> None:
            self.steps.append(to)
            go_on(to)

        self.world.advance = advance  # type: ignore[method-assign]


def alone(incident: Incident, policy: Policy, steps: Sequence[float]) -> SimulatedSite:
    """The same site, and nobody does anything but what the file itself has people and automation do."""
    site = SimulatedSite(incident, HandClock(incident.starts), minimum=policy.min_answering)
    for to in steps:
        site.world.advance(to)
    return site


def unwell_alone(incident: Incident, policy: Policy) -> frozenset[int]:
    """Which alerts, by their place in the file, tell of a target that is unwell at their time when nobody does anything."""
    clock = HandClock(incident.starts)
    site = SimulatedSite(incident, clock, minimum=policy.min_answering)
    found = set()
    alerts = incident.timeline.alerts
    for n in sorted(range(len(alerts)), key=lambda n: incident.seconds(alerts[n].at)):
        clock.now = incident.moment(alerts[n].at)
        if site.well(Target.of(alerts[n].target)) is False:
            found.add(n)
    return frozenset(found)


def badly(site: SimulatedSite) -> float:
    """Requests of users that got no right answer: failed, refused by an act, or answered wrongly."""
    return sum(without_answer(site).values())


def without_answer(site: SimulatedSite) -> dict[str, float]:
    """The same, by what happened to them."""
    account = site.account
    return {
        "failed": account.failed_requests,
        "refused": sum(account.refused_requests.values()),
        "wrong": account.wrong_answers,
    }


def harm_of(site: SimulatedSite, beside: SimulatedSite, more: list[str]) -> Harm:
    """What `site` cost beyond `beside`, where nobody did anything, with what else was broken."""
    return Harm(
        failed_requests=round(badly(site) - badly(beside), 1),
        below_minimum_s=round(site.account.below_minimum_s - beside.account.below_minimum_s, 1),
        violations=tuple(dict.fromkeys([*site.account.violations, *more])),
    )
