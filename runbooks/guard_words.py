"""What cases, Guards and the reaper say to each other. The rules are in `runbooks/guard.py`."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from runbooks.base import Heard, Model, Seconds, Time
from runbooks.change import Blast, Permit
from runbooks.detection import Target
from runbooks.facts import GuardView, StandingReceipt
from runbooks.guard_book import Act, remedy
from runbooks.policy import DomainPolicy

READING = "its Guard has just begun and is still reading what stands here"
"""Why levers are stopped in the moments before a Guard knows what the one before it knew."""
FORGOTTEN = timedelta(seconds=15)
"""So long after its permit has ended an act is over, or its case says that it is under way."""


def reading(view: GuardView) -> GuardView:
    """As a Guard says that still reads: whoever has a permit of the Guard before it asks whether levers are halted, and must
    hear no empty "no"."""
    return view.model_copy(update={"halted": "; ".join(filter(None, (READING, view.halted)))})


def reads(view: GuardView) -> bool:
    """True when it is the word of a Guard that still reads."""
    return view.halted is not None and view.halted.startswith(READING)


class AcquireRequest(Heard):
    """One question of one case. The limits are the policy's, since the Guard knows no policy."""

    domain: str
    case: str
    workflow_id: str
    run_id: str
    target: Target
    step_id: str
    increment: int
    attempt: int
    purpose: Literal["act", "undo", "restore"]
    lever: str
    failure_class: str
    change_digest: str
    blast: Blast
    facts_oldest_at: Time
    seen_epoch: int = Field(
        description="Highest epoch that the actuator has seen: a Guard that lost its state goes on above it."
    )
    priority: int = Field(ge=0, le=9, description="0 goes first.")
    settle_s: Seconds
    permit_ttl_s: Seconds
    max_acts_per_hour: int
    attempts: int
    cooldown_s: Seconds
    ineffective_s: Seconds
    limits: DomainPolicy
    shadow: bool = Field(default=False, description="Observe mode: counted beside the real acts, grants nothing.")

    @property
    def remedy(self) -> str:
        """What attempts are counted by."""
        return remedy(self.lever, self.target.id, self.failure_class)

    @property
    def key(self) -> str:
        """Same key, same answer, for ever: a retried activity cannot be granted twice."""
        return f"{self.case}|{self.step_id}|{self.increment}|{self.attempt}|{self.purpose}"


class Answer(Heard):
    """What `acquire` says, at once."""

    kind: Literal["permit", "queued", "correlated", "halted", "refused", "shadow"]
    why: str
    permit: Permit | None = None
    retry_after_s: Seconds = 0.0


class Announce(Heard):
    """A case that may not act yet says that its target is sick: many of these at once are one fault."""

    domain: str
    workflow_id: str
    target: Target
    failure_class: str
    limits: DomainPolicy
    case: str = Field(default="", description="Of which case: one that asks again is not newly sick, the next one is.")


class Release(Heard):
    """The increment is verified, undone or was never applied: the lock may go on."""

    case: str
    workflow_id: str
    applied: bool
    stands: StandingReceipt | None = Field(default=None, description="The step's whole standing change after this.")
    removed: tuple[str, ...] = Field(default=(), description="Ids of standing receipts that no longer stand.")
    ineffective: str = Field(default="", description="`lever|target|class` that did not help (G10).")
    bad: str = Field(
        default="", description="Why this is a bad outcome (Worse, unproven, uncertain); empty: it is none."
    )
    at: Time


class News(Heard):
    """What a case is told by signal `guard_news`: by the Guard, and of what was done by hand by the command that did it."""

    kind: Literal["granted", "halted", "resumed", "correlated", "by_hand"]
    domain: str
    why: str = ""


class Lock(Model):
    """Who may change the domain now."""

    case: str
    workflow_id: str
    run_id: str
    since: Time
    act: Act | None = Field(default=None, description="As counted at the grant; not counted if nothing comes of it.")
    recalled: bool = Field(
        default=False,
        description="From the journal, after a Guard was terminated: the case may have given it back since.",
    )
    key: str = Field(default="", description="Of the question that the permit answered.")
    permit: Permit | None = Field(default=None, description="The last one under this lock; none for a turn.")

    def asks(self, now: datetime) -> bool:
        """True when its case is asked whether it has anything under way: the lock may be one that it does not know of.

        A Guard was terminated, and the case gave it back while there was none. Or a Guard was Reset: that brings signals before
        updates, so what was given back is granted once more.
        """
        return self.recalled or (self.permit is not None and now > self.permit.act_before + FORGOTTEN)


class Ticket(Model):
    """A place in the queue: first by priority, then by arrival."""

    case: str
    workflow_id: str
    run_id: str
    priority: int
    at: Time
