"""Decisions of people as the case keeps them: who, how sure we are of it, and why a decision did not count."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbooks.base import Model, Time
from runbooks.claims import SignedClaim

Action = Literal["decide", "takeover", "hand_back", "abort"]
Order = Literal["resume", "reset_breaker"]
"""Orders to a Guard that make things less safe. A halt is no order of this kind: it needs no rights."""
Word = Literal["approve", "reject", "withdraw"]
Stage = Literal["asked", "held", "begun", "ended"]


class Rights(Model):
    """Who may decide on a case: the class's policy, and who asked for the change."""

    group: str
    quorum: int
    accept_unverified: bool
    irreversible: bool = Field(default=False, description="The step that waits cannot be taken back (G6).")
    never: tuple[str, ...] = Field(default=(), description="By policy they never approve this class, whatever group.")
    four_eyes: bool = Field(default=True, description="False: a requester may approve, `requesters` stays empty.")
    requesters: tuple[str, ...] = Field(
        default=(), description="Who reported the fault or asked for the change: four eyes, so they do not approve it."
    )


class Pending(Model):
    """The step that waits, and what a decision must match to count."""

    step: str
    digest: str
    expires_at: Time
    already: tuple[str, ...] = Field(default=(), description="Whose approval counts now.")
    stage: Stage = Field(
        default="asked",
        description="asked: decisions are taken. held: none is, but nothing is done yet. begun: it acts or has acted.",
    )


class AttestRequest(Model):
    """Read the decision signals after `after_event_id` from the case's own history."""

    after_event_id: int
    rights: Rights
    pending: Pending | None = Field(default=None, description="None: nobody was asked anything yet.")
    now: Time


class ClaimRequest(Model):
    """A decision that came through our API, signed by it."""

    claim: SignedClaim
    rights: Rights
    pending: Pending | None
    now: Time


class Attested(Model):
    """One decision signal, judged. `who` is the server-verified principal, else the self-claimed identity."""

    event_id: int
    action: Action
    who: str
    verified: bool
    accepted: bool
    approve: bool = False
    withdraw: bool = False
    reason: str = ""
    why: str = Field(default="", description="Why it does not count; empty when it does.")
    at: Time


class AttestResult(Model):
    """All decisions found, and the last event id that was read."""

    last_event_id: int
    decisions: tuple[Attested, ...]
    requesters: tuple[str, ...] = Field(
        default=(), description="Verified senders of the start and of `detect`: they asked for what is proposed."
    )


class OrderAttestRequest(Model):
    """Read the order signals after `after_event_id` from the Guard's own history, of its own run."""

    after_event_id: int
    approver_groups: tuple[str, ...] = Field(default=(), description="Empty: those of the worker's policy.")


class OrderClaimRequest(Model):
    """An order that came through our API, signed by it. Its `case` is the Guard's workflow id."""

    claim: SignedClaim
    approver_groups: tuple[str, ...] = Field(default=(), description="Empty: those of the worker's policy.")


class Ordered(Model):
    """One order to a Guard, judged."""

    event_id: int = Field(default=0, description="Of the signal; 0 for a claim.")
    action: Order
    who: str
    verified: bool
    accepted: bool
    reason: str = ""
    why: str = Field(default="", description="Why it does not count; empty when it does.")
    at: Time


class OrderResult(Model):
    """All order signals found, in order, and the last event id that was read."""

    last_event_id: int
    orders: tuple[Ordered, ...]


class TellRequest(Model):
    """A page. Same dedup_key: told once."""

    dedup_key: str
    title: str
    body: str


class CloseRequest(Model):
    """The case's record, as JSON."""

    case: str
    workflow_id: str
    record: str
    settle: dict[str, str] = Field(default_factory=dict, description="Receipt id → undone | restored | adopted.")
