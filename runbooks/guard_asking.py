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
    target: Target
    failure_class: str
    at: Time


class Asking(BaseModel):
    """Who asked lately, and whether their faults are taken as one."""

    model_config = ConfigDict(extra="forbid")

    askers: dict[str, Asker] = Field(default_factory=dict, description="By workflow id.")
    since: datetime | None = Field(default=None, description="Since when the faults are one.")
    last: datetime | None = None
    why: str = ""

    def note(self, asker: Asker, limits: DomainPolicy) -> bool:
        """Takes an asker in. True when with this one the faults have just become one."""
        self._forget(asker.at, limits)
        if asker.target.kind is TargetKind.CLUSTER:
            return False  # the domain's own case asks for all of them
        known = {site(a.target) for a in self.askers.values()}
        self.askers.pop(asker.workflow_id, None)  # who asks again is the newest
        self.askers[asker.workflow_id] = asker
        for old in list(self.askers)[:-KEEP_ASKING]:
            del self.askers[old]
        if self.since is None or site(asker.target) not in known:
            # Only a further target prolongs it: one that stays sick and is told again would for ever.
            self.last = asker.at
        if self.since is not None:
            return False
        sites = {site(a.target) for a in self.askers.values()}
        if len(sites) < limits.correlate_targets:
            return False
        self.since = asker.at
        self.why = f"{len(sites)} targets fell sick within {limits.correlate_within_s:.0f} s: they are one fault"
        return True

    def holds(self, now: datetime, limits: DomainPolicy) -> bool:
        """True while the faults of this domain are taken as one."""
        self._forget(now, limits)
        return self.since is not None

    def _forget(self, now: datetime, limits: DomainPolicy) -> None:
        if self.since is not None and self.last is not None:
            if now - self.last > timedelta(seconds=limits.correlate_quiet_s):
                self.since, self.why = None, ""
            else:
                return  # members are kept while it lasts
        within = timedelta(seconds=limits.correlate_within_s)
        self.askers = {k: a for k, a in self.askers.items() if now - a.at <= within}


def site(target: Target) -> str:
    """What a target is counted as: a node with its GPUs and what is known to run on it is one place."""
    if target.node is not None:
        return f"{target.cluster}/node/{target.node}"
    return target.id
