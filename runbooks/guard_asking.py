"""When many targets of a domain are sick at once they are one fault, and its case is the domain's (G13). Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from runbooks.base import Model, Time
from runbooks.detection import Target, TargetKind
from runbooks.policy import DomainPolicy

KEEP_ASKING = 500
"""Askers kept, the newest: they are carried by continue-as-new, and five hundred are surely one fault."""


class Asker(Model):
    """A case that asked for a lever, whether it may move one or not."""

    workflow_id: str
    case: str = ""
    target: Target
    failure_class: str
    at: Time = Field(description="When it asked last.")
    first_at: Time | None = Field(default=None, description="When it asked first; None: this is the first time.")

    @property
    def began(self) -> datetime:
        """When its target fell sick, as far as the Guard knows: a case that waits asks again and again."""
        return self.first_at or self.at


class Asking(BaseModel):
    """Who asked lately, and whether their faults are taken as one."""

    model_config = ConfigDict(extra="forbid")

    askers: dict[str, Asker] = Field(default_factory=dict, description="By workflow id.")
    since: datetime | None = Field(default=None, description="Since when the faults are one.")
    why: str = ""

    def note(self, asker: Asker, limits: DomainPolicy) -> bool:
        """Takes an asker in. True when with this one the faults have just become one."""
        if asker.target.kind is TargetKind.CLUSTER:
            return False  # the domain's own case asks for all of them
        longest = timedelta(seconds=max(limits.correlate_quiet_s, limits.correlate_within_s))
        before = self.askers.pop(asker.workflow_id, None)  # who asks again is the newest
        if before is not None and before.case == asker.case and asker.at - before.at <= longest:
            asker = asker.model_copy(update={"first_at": before.began})
        kept = [*self.askers.values(), asker]
        self.askers = {a.workflow_id: a for a in kept[-KEEP_ASKING:] if asker.at - a.at <= longest}
        if self.holds(asker.at, limits):
            return False
        self.since, self.why = None, ""
        within = asker.at - timedelta(seconds=limits.correlate_within_s)
        sites = {site(a.target) for a in self.askers.values() if a.began >= within}
        if len(sites) < limits.correlate_targets:
            return False
        self.since = asker.at
        self.why = f"{len(sites)} targets fell sick within {limits.correlate_within_s:.0f} s: they are one fault"
        return True

    def holds(self, now: datetime, limits: DomainPolicy) -> bool:
        """True while the faults of this domain are taken as one: as long as so many targets go on asking. One that stays
        sick alone does not prolong it. Changes nothing: a query asks it as well, and no history has queries."""
        quiet = now - timedelta(seconds=limits.correlate_quiet_s)
        asking = {site(a.target) for a in self.askers.values() if a.at >= quiet}
        return self.since is not None and len(asking) >= limits.correlate_targets

    def lately(self, now: datetime, limits: DomainPolicy) -> tuple[str, ...]:
        """Ids of the targets that asked within the window."""
        within = timedelta(seconds=limits.correlate_within_s)
        return tuple(dict.fromkeys(a.target.id for a in self.askers.values() if now - a.at <= within))


def site(target: Target) -> str:
    """What a target is counted as: a node with its GPUs and what is known to run on it is one place."""
    if target.node is not None:
        return f"{target.cluster}/node/{target.node}"
    return target.id
