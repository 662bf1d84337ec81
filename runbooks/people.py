"""Decisions of people as the case keeps them: who, how sure we are of it, and why a decision did not count."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbooks.base import Model, Time
from runbooks.claims import SignedClaim

Action = Literal["decide", "takeover", "hand_back", "abort"]


class Rights(Model):
    """Who may decide on a case: the class's policy."""

    group: str
    quorum: int
    accept_unverified: bool
    irreversible: bool = Field(default=False, description="The step that waits cannot be taken back (G6).")


class Pending(Model):
    """The step that waits, and what a decision must match to count."""

    step: str
    digest: str
    expires_at: Time
    already: tuple[str, ...] = ()


class AttestRequest(Model):
    """Read the decision signals after `after_event_id` from the case's own history."""

    after_event_id: int
    rights: Rights
    pending: Pending | None = Field(default=None, description="None: no step waits for a decision now.")
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
    reason: str = ""
    why: str = Field(default="", description="Why it does not count; empty when it does.")
    at: Time


class AttestResult(Model):
    """All decisions found, and the last event id that was read."""

    last_event_id: int
    decisions: tuple[Attested, ...]


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
