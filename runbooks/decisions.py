"""The one rule book for decisions, whichever door they came through. Each rule returns why not; empty means it counts."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from runbooks.people import Attested, Order, Pending, Rights
from runbooks.policy import Policy

WORDS = ("approve", "reject", "withdraw")
HOW: Mapping[Order, str] = {
    "resume": "`interlock resume DOMAIN --reason …`",
    "reset_breaker": "`interlock breaker reset DOMAIN --reason …`",
}
"""Order → the command by which a verified person gives it."""


def mismatch(data: Mapping[str, object], pending: Pending | None, now: datetime) -> str:
    """Why the content of a decision does not fit the step that waits."""
    if pending is None:
        return "no step waits for a decision now"
    word, plan = data.get("decision"), data.get("plan", data.get("digest"))
    if data.get("step") != pending.step:
        known = f"; the waiting step is {pending.step!r}" if pending.stage == "asked" else ""
        return f"no such step is waiting: {str(data.get('step'))[:60]!r}{known}"
    if plan != pending.digest:
        return f"it is for another plan ({str(plan)[:60]!r}); the plan shown is {pending.digest!r}"
    if word not in WORDS:
        return 'decision must be "approve", "reject" or "withdraw"'
    if pending.stage == "begun":
        return f"too late: {pending.step} has begun to act, use abort"
    if now >= pending.expires_at:
        return f"it came after the request had ended at {pending.expires_at:%H:%M:%S}"
    if pending.stage == "ended" or (pending.stage == "held" and word != "withdraw"):
        return "no step waits for a decision now"
    return ""


def barred(who: str, word: object, rights: Rights, already: Collection[str] = ()) -> str:
    """Why exactly this person may not say this word, whatever group they are in. `already`: whose approval counts now.

    Whoever has approved may still reject: one person has one voice, and may say no with it.
    """
    mine = _among(who, already)
    if word == "withdraw":
        return "" if mine else f"{who} has no approval here to take back"
    if word != "approve":
        return ""
    if mine:
        return f"{who} has decided already: one person, one voice"
    if _among(who, rights.never):
        return f"{who} may never approve this class, by policy"
    if _among(who, rights.requesters):
        return f"{who} asked for this: four eyes, so somebody else must approve it"
    return ""


def takes_unverified(rights: Rights, word: object = "approve") -> bool:
    """Whether a decision counts whose sender nobody has verified. Never where it could be one who may not approve."""
    could_be_barred = word == "approve" and bool(rights.never or rights.requesters)
    return rights.accept_unverified and rights.quorum == 1 and not could_be_barred


def not_entitled(
    who: str,
    verified: bool,
    word: object,
    rights: Rights,
    groups: Mapping[str, Sequence[str]],
    claimed_groups: Collection[str] = (),
    already: Collection[str] = (),
) -> str:
    """Why this person may not decide. `word` is the decision, None for what is about the whole case.

    `claimed_groups` come from a verified token only; `groups` is policy.
    """
    if why := barred(who, word, rights, already):
        return why
    if not verified:
        if takes_unverified(rights, word):
            return ""
        if rights.irreversible:
            why = "this step cannot be taken back"
        elif rights.accept_unverified and rights.quorum == 1:
            why = f"could be {', '.join((*rights.requesters, *rights.never))[:200]}, who may not approve this"
        else:
            why = "policy counts no unverified decision here"
        return f"its sender is not verified, and {why}; use `interlock {word or 'takeover | hand-back | abort'}`"
    if word == "withdraw":
        return ""  # it is his own
    if who not in groups.get(rights.group, ()) and rights.group not in claimed_groups:
        return f"{who} is not in group {rights.group}"
    return ""


def counted(pending: Pending, one: Attested) -> Pending:
    """The waiting step after this decision: whose approval counts now."""
    if not one.accepted or one.action != "decide":
        return pending
    others = tuple(p for p in pending.already if not same_person(p, one.who))
    return pending.model_copy(update={"already": (*others, one.who) if one.approve else others})


def with_requesters(rights: Rights, people: Collection[str]) -> Rights:
    """The same rights, these people excluded as well; unchanged where policy wants no four eyes."""
    if not rights.four_eyes:
        return rights
    return rights.model_copy(update={"requesters": tuple(sorted({*rights.requesters, *people}))})


def approver_groups(policy: Policy) -> tuple[str, ...]:
    """Groups that may approve anything at all: their members may also halt, resume and reset a breaker."""
    return tuple(sorted({policy.default.approvers, *(c.approvers for c in policy.classes.values())}))


def not_orderer(
    who: str,
    verified: bool,
    order: Order,
    approvers: Collection[str],
    groups: Mapping[str, Sequence[str]],
    claimed_groups: Collection[str] = (),
) -> str:
    """Why this person may not make a domain less safe again (resume, reset of the breaker)."""
    if not verified:
        return f"its sender is not verified: use {HOW[order]}"
    if not any(g in claimed_groups or who in groups.get(g, ()) for g in approvers):
        return f"{who} is in none of the approver groups: {', '.join(sorted(approvers)) or 'there are none'}"
    return ""


def same_person(one: str, other: str) -> bool:
    """Two spellings of one name are one person: it can only take a voice away, never give one."""
    return _plain(one) == _plain(other)


def _among(who: str, people: Collection[str]) -> bool:
    return any(same_person(who, p) for p in people)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()
