"""What a Guard counts: acts against budgets, attempts and what did not help, and the breaker. Pure; every method takes `now`."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from runbooks.base import Model, Time
from runbooks.change import Blast
from runbooks.facts import Spent
from runbooks.policy import DomainPolicy

HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
KEEP_ACTS = 400
"""Acts kept, the newest, real ones and those of observe mode each: they are carried by continue-as-new."""
KEEP_REMEDIES = 500
"""Remedies kept that did not help, those that are barred longest."""


class Act(Model):
    """One granted act. `first`: the first increment of its step. `shadow`: observe mode, nothing was touched."""

    at: Time
    lever: str
    target_id: str
    failure_class: str
    first: bool
    blast: Blast = Blast()
    shadow: bool = False
    key: str = Field(default="", description="Of the question that it answers.")

    @property
    def remedy(self) -> str:
        """What attempts are counted by."""
        return remedy(self.lever, self.target_id, self.failure_class)


def remedy(lever: str, target_id: str, failure_class: str) -> str:
    """A lever for one target and one class of fault: tried, or found not to help, across cases (G10)."""
    return f"{lever}|{target_id}|{failure_class}"


class Book(BaseModel):
    """The counters of one domain."""

    model_config = ConfigDict(extra="forbid")

    acts: list[Act] = Field(default_factory=list)
    ineffective: dict[str, datetime] = Field(default_factory=dict, description="Remedy → not tried again until.")
    bad: list[datetime] = Field(default_factory=list, description="When an act ended Worse, unproven or uncertain.")
    breaker: str | None = None
    breaker_since: datetime | None = None
    reset_at: datetime | None = Field(default=None, description="When a person last reset the breaker.")

    def real(self, since: datetime, shadow: bool = False) -> list[Act]:
        """Acts after `since`; for observe mode those that it would have done as well."""
        return [a for a in self.acts if a.at > since and (shadow or not a.shadow)]

    def spent(self, now: datetime, shadow: bool = False) -> Spent:
        """Serving units of the last hour."""
        return spent_by([a.blast for a in self.real(now - HOUR, shadow)])

    def attempts(self, now: datetime, shadow: bool = False) -> dict[str, tuple[datetime, ...]]:
        """First increments of the last day, by remedy."""
        out: dict[str, tuple[datetime, ...]] = {}
        for act in self.real(now - DAY, shadow):
            if act.first:
                out[act.remedy] = (*out.get(act.remedy, ()), act.at)
        return out

    def note(self, act: Act, limits: DomainPolicy) -> None:
        """Counts a granted act, and trips the breaker when there are too many of them."""
        # A Reset brings a question again, and what it was granted may be known from the journal already: one act.
        young = [*(a for a in self.acts if a.at > act.at - DAY and not (act.key and a.key == act.key)), act]
        # Counted apart: what observe mode would have done pushes out nothing real.
        surplus = {id(a) for a in [a for a in young if a.shadow == act.shadow][:-KEEP_ACTS]}
        self.acts = [a for a in young if id(a) not in surplus]
        if act.shadow:
            return
        window = timedelta(seconds=limits.breaker_window_s)
        since = act.at - window if self.reset_at is None else max(act.at - window, self.reset_at)
        count = len(self.real(since))
        if count >= limits.breaker_acts:
            self._trip(f"{count} acts within {limits.breaker_window_s:.0f} s; {limits.breaker_acts} trip it", act.at)

    def undo_note(self, act: Act) -> None:
        """A permit that was given back unused is no act: else a domain that is merely busy uses up attempts and budgets."""
        if act in self.acts:
            self.acts.remove(act)

    def ended_badly(self, why: str, now: datetime, limits: DomainPolicy) -> None:
        """A remedy made it worse, or nobody can tell what it did: a few of these and no lever moves by itself."""
        window = timedelta(seconds=limits.breaker_window_s)
        if now in self.bad:
            return  # a release that came twice is one outcome
        self.bad = [*(t for t in self.bad if t > now - window), now]
        if len(self.bad) >= limits.breaker_bad:
            self._trip(f"{len(self.bad)} bad outcomes within {limits.breaker_window_s:.0f} s, the last: {why}", now)

    def did_not_help(self, what: str, until: datetime) -> None:
        """Remembered across cases: a remedy that did not help is not the first thing that the next case does."""
        self.ineffective[what] = max(until, self.ineffective.get(what, until))
        # By number and not by age: one lever may be barred for an hour and another for a week.
        longest = sorted(self.ineffective, key=lambda k: self.ineffective[k])[-KEEP_REMEDIES:]
        self.ineffective = {k: self.ineffective[k] for k in longest}

    def reset_breaker(self, now: datetime) -> None:
        """By a person: what tripped it counts no longer for the breaker, else the next act would trip it again. Budgets
        and attempts go on counting it."""
        self.breaker = self.breaker_since = None
        self.bad, self.reset_at = [], now

    def _trip(self, why: str, now: datetime) -> None:
        if self.breaker is None:
            self.breaker, self.breaker_since = f"the breaker has tripped: {why}", now


def spent_by(blasts: list[Blast]) -> Spent:
    """Their sum, counted alike for all levers."""
    endpoints: dict[str, int] = {}
    for blast in blasts:
        for counts in (blast.endpoints_down, blast.restarting):
            for pool, count in counts.items():
                endpoints[pool] = endpoints.get(pool, 0) + count
    return Spent(
        endpoints=endpoints,
        nodes=sum(len(b.nodes) for b in blasts),
        gpus=sum(b.gpus for b in blasts),
        # Not `changed`: each ring of a rollout counts all before it, and a budget of what is moved must not end it half way.
        share=sum(max([b.refused_share, *b.share_moved.values()]) for b in blasts),
    )


def over_budget(spent: Spent, more: Blast, limits: DomainPolicy) -> str:
    """Which hourly budget of the domain this act would break; empty when none. Nothing taken breaks nothing (G2)."""
    add = spent_by([more])
    for pool, count in add.endpoints.items():
        total = count + spent.endpoints.get(pool, 0)
        if count and total > limits.endpoints_per_hour_in_pool:
            return _over(f"{total} endpoints of {pool}", limits.endpoints_per_hour_in_pool)
    wanted = sum(add.endpoints.values())
    total = wanted + sum(spent.endpoints.values())
    if wanted and total > limits.endpoints_per_hour:
        return _over(f"{total} endpoints", limits.endpoints_per_hour)
    if add.nodes and add.nodes + spent.nodes > limits.nodes_per_hour:
        return _over(f"{add.nodes + spent.nodes} nodes", limits.nodes_per_hour)
    if add.gpus and add.gpus + spent.gpus > limits.gpus_per_hour:
        return _over(f"{add.gpus + spent.gpus} GPUs", limits.gpus_per_hour)
    if add.share and add.share + spent.share > limits.share_per_hour + 1e-9:
        return _over(f"{add.share + spent.share:.2f} routes' worth of traffic", limits.share_per_hour)
    return ""


def _over(what: str, most: float) -> str:
    return f"{what} would be taken within one hour; the domain's budget is {most:g}"
