"""The one rule book for decisions, whichever door they came through. Each rule returns why not; empty means it counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from runbooks.people import Pending, Rights


def mismatch(data: Mapping[str, object], pending: Pending | None, now: datetime) -> str:
    """Why the content of a decision does not fit the step that waits."""
    if pending is None:
        return "no step waits for a decision now"
    if data.get("step") != pending.step:
        return f"no such step is waiting: {str(data.get('step'))[:60]!r}; the waiting step is {pending.step!r}"
    plan = data.get("plan", data.get("digest"))
    if plan != pending.digest:
        return f"it is for another plan ({str(plan)[:60]!r}); the plan shown is {pending.digest!r}"
    if data.get("decision") not in ("approve", "reject"):
        return 'decision must be "approve" or "reject"'
    if now >= pending.expires_at:
        return f"it came after the request had ended at {pending.expires_at:%H:%M:%S}"
    return ""


def not_entitled(
    who: str,
    verified: bool,
    rights: Rights,
    groups: Mapping[str, Sequence[str]],
    claimed_groups: Collection[str] = (),
    already: Collection[str] = (),
) -> str:
    """Why this person may not decide. `claimed_groups` come from a verified token only."""
    if who in already:
        return f"{who} has decided already: one person, one voice"
    if not verified:
        if rights.accept_unverified and rights.quorum == 1:
            return ""
        why = "this step cannot be taken back" if rights.irreversible else "policy counts no unverified decision here"
        return f"its sender is not verified, and {why}; use `interlock approve`"
    if who not in groups.get(rights.group, ()) and rights.group not in claimed_groups:
        return f"{who} is not in group {rights.group}"
    return ""
