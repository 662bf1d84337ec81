"""One decision signal, judged from its event: who sent it is what the server says, never what the payload says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from temporalio.api.history.v1 import HistoryEvent

from activities.attest import judge_signal
from runbooks.people import Attested, AttestRequest, Pending, Rights

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GROUPS = {"sre-oncall": ("ana", "bo")}


def event(content: object, principal: str = "", identity: str = "") -> HistoryEvent:
    """A `decide` signal as the server writes it."""
    out = HistoryEvent(event_id=7)
    out.event_time.FromDatetime(NOW.replace(tzinfo=None))
    signal = out.workflow_execution_signaled_event_attributes
    signal.signal_name = "decide"
    signal.identity = identity
    signal.input.payloads.add(data=json.dumps(content).encode())
    if principal:
        out.principal.name = principal
    return out


def judged(sent: HistoryEvent, *already: str, quorum: int = 2, unverified: bool = False) -> Attested:
    """By the rights of a class that wants `quorum` of sre-oncall."""
    pending = Pending(step="1-x", digest="d", expires_at=NOW + timedelta(minutes=5), already=already)
    rights = Rights(group="sre-oncall", quorum=quorum, accept_unverified=unverified)
    return judge_signal(sent, AttestRequest(after_event_id=0, rights=rights, pending=pending, now=NOW), GROUPS)


APPROVE = {"step": "1-x", "plan": "d", "decision": "approve", "reason": "looked", "approver": "ana"}


def test_a_verified_member_of_the_group_counts() -> None:
    """The principal is the server's word."""
    one = judged(event(APPROVE, principal="ana"))

    assert (one.accepted, one.who, one.verified) == (True, "ana", True)


def test_an_approver_in_the_payload_counts_for_nothing() -> None:
    """Anybody can type a name."""
    one = judged(event(APPROVE, identity="mallory"), quorum=1)

    assert (one.accepted, one.who) == (False, "mallory")
    assert "not verified" in one.why


def test_an_unverified_sender_never_makes_a_quorum_of_two() -> None:
    """Even where policy accepts one unverified decision."""
    assert judged(event(APPROVE, identity="ana"), quorum=1, unverified=True).accepted
    assert not judged(event(APPROVE, identity="ana"), quorum=2, unverified=True).accepted


def test_nobody_has_two_voices_but_everybody_may_say_no_after_a_yes() -> None:
    """Until the act an approval can be taken back by who gave it."""
    assert "one voice" in judged(event(APPROVE, principal="ana"), "ana").why
    assert judged(event({**APPROVE, "decision": "reject"}, principal="ana"), "ana").accepted


def test_somebody_outside_of_the_group_is_refused_with_the_group_named() -> None:
    """Verified is not entitled."""
    assert judged(event(APPROVE, principal="eve")).why == "eve is not in group sre-oncall"


def test_a_late_decision_is_refused_with_the_time() -> None:
    """The request ends."""
    sent = event(APPROVE, principal="ana")
    pending = Pending(step="1-x", digest="d", expires_at=NOW)
    rights = Rights(group="sre-oncall", quorum=1, accept_unverified=False)
    one = judge_signal(sent, AttestRequest(after_event_id=0, rights=rights, pending=pending, now=NOW), GROUPS)

    assert one.why == "it came after the request had ended at 12:00:00"
