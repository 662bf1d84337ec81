"""One decision or order signal, judged from its event: who sent it is what the server says, never what the payload says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.history.v1 import HistoryEvent

from activities.attest import judge_order, judge_signal
from runbooks.decisions import approver_groups, counted, same_person, with_requesters
from runbooks.people import Attested, AttestRequest, Pending, Rights, Stage
from runbooks.policy import ClassPolicy, Policy

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GROUPS = {"sre-oncall": ("ana", "bo", "dan", "eve")}
APPROVE = {"step": "1-x", "plan": "d", "decision": "approve", "reason": "looked", "approver": "ana"}


def event(content: object, principal: str = "", identity: str = "", name: str = "decide") -> HistoryEvent:
    """A signal as the server writes it."""
    out = HistoryEvent(event_id=7)
    out.event_time.FromDatetime(NOW.replace(tzinfo=None))
    signal = out.workflow_execution_signaled_event_attributes
    signal.signal_name = name
    signal.identity = identity
    signal.input.payloads.add(data=content if isinstance(content, bytes) else json.dumps(content).encode())
    if principal:
        out.principal.name = principal
    return out


def judged(
    sent: HistoryEvent,
    *already: str,
    stage: Stage = "asked",
    quorum: int = 2,
    unverified: bool = False,
    ends: datetime = NOW + timedelta(minutes=5),
    **more: Any,
) -> Attested:
    """By the rights of a class that wants `quorum` of sre-oncall."""
    pending = Pending(step="1-x", digest="d", expires_at=ends, already=already, stage=stage)
    rights = Rights(group="sre-oncall", quorum=quorum, accept_unverified=unverified, **more)
    return judge_signal(sent, AttestRequest(after_event_id=0, rights=rights, pending=pending, now=NOW), GROUPS)


def test_a_verified_member_of_the_group_counts() -> None:
    """The principal is the server's word."""
    one = judged(event(APPROVE, principal="ana"))

    assert (one.accepted, one.who, one.verified, one.approve) == (True, "ana", True, True)


def test_an_approver_in_the_payload_counts_for_nothing() -> None:
    """Anybody can type a name."""
    one = judged(event(APPROVE, identity="mallory"), quorum=1)

    assert (one.accepted, one.who) == (False, "mallory")
    assert "not verified" in one.why


def test_an_unverified_sender_never_makes_a_quorum_of_two() -> None:
    """Even where policy accepts one unverified decision."""
    assert judged(event(APPROVE, identity="ana"), quorum=1, unverified=True).accepted
    assert not judged(event(APPROVE, identity="ana"), quorum=2, unverified=True).accepted


@pytest.mark.parametrize("barred", [{"never": ("eve",)}, {"requesters": ("dan",)}])
def test_where_somebody_may_not_approve_an_unverified_sender_could_be_him(barred: dict[str, Any]) -> None:
    """He may reject all the same: that is the safe side."""
    refused = judged(event(APPROVE, identity="whoever"), quorum=1, unverified=True, **barred)
    rejected = judged(event({**APPROVE, "decision": "reject"}, identity="whoever"), quorum=1, unverified=True, **barred)

    assert (refused.accepted, "could be" in refused.why) == (False, True)
    assert rejected.accepted


def test_nobody_has_two_voices_but_everybody_may_say_no_after_a_yes() -> None:
    """One person, one voice, and the last word of it counts."""
    assert "one voice" in judged(event(APPROVE, principal="ana"), "ana").why
    assert "one voice" in judged(event(APPROVE, principal="Ana "), "ana").why
    assert judged(event({**APPROVE, "decision": "reject"}, principal="ana"), "ana").accepted


def test_somebody_outside_of_the_group_is_refused_with_the_group_named() -> None:
    """Verified is not entitled."""
    assert judged(event(APPROVE, principal="mal")).why == "mal is not in group sre-oncall"


def test_who_may_never_approve_and_who_asked_for_it_may_still_reject() -> None:
    """They are kept from letting it through, not from stopping it."""
    rights: dict[str, Any] = {"never": ("eve",), "requesters": ("dan",)}
    reject = {**APPROVE, "decision": "reject"}

    assert judged(event(APPROVE, principal="eve"), **rights).why == "eve may never approve this class, by policy"
    assert "four eyes" in judged(event(APPROVE, principal="dan"), **rights).why
    assert judged(event(reject, principal="eve"), **rights).accepted
    assert judged(event(reject, principal="dan"), **rights).accepted


def test_policy_without_four_eyes_excludes_no_requester() -> None:
    """`with_requesters` is the one place where they are put in."""
    rights = Rights(group="g", quorum=1, accept_unverified=False, four_eyes=False)

    assert with_requesters(rights, ["dan"]).requesters == ()
    assert with_requesters(rights.model_copy(update={"four_eyes": True}), ["dan"]).requesters == ("dan",)


def test_a_late_decision_is_refused_with_the_time() -> None:
    """The request ends."""
    assert judged(event(APPROVE, principal="ana"), ends=NOW).why == "it came after the request had ended at 12:00:00"


@pytest.mark.parametrize(
    ("stage", "already", "why"),
    [
        ("asked", ("ana",), ""),
        ("held", ("ana",), ""),
        ("begun", ("ana",), "too late: 1-x has begun to act, use abort"),
        ("ended", ("ana",), "no step waits for a decision now"),
        ("asked", ("bo",), "ana has no approval here to take back"),
        ("held", (), "ana has no approval here to take back"),
    ],
)
def test_an_approval_is_taken_back_by_who_gave_it_until_the_act(
    stage: Stage, already: tuple[str, ...], why: str
) -> None:
    """Also when enough have approved and the gates are being asked again, or the domain is not free yet."""
    one = judged(event({**APPROVE, "decision": "withdraw"}, principal="ana"), *already, stage=stage)

    assert (one.accepted, one.withdraw, one.why) == (not why, True, why)


def test_nobody_unverified_takes_a_verified_approval_back() -> None:
    """A name is typed in a moment."""
    assert "not verified" in judged(event({**APPROVE, "decision": "withdraw"}, identity="ana"), "ana").why


@pytest.mark.parametrize("word", ["approve", "reject"])
def test_once_enough_have_approved_no_further_decision_is_taken(word: str) -> None:
    """What is left then is to take one's own back, to take over, or to abort."""
    assert judged(event({**APPROVE, "decision": word}, principal="bo"), "ana", stage="held").why.startswith("no step")


def test_whose_approval_counts_follows_each_decision() -> None:
    """Accepted ones only."""
    pending = Pending(step="1-x", digest="d", expires_at=NOW)
    yes = judged(event(APPROVE, principal="ana"))
    back = judged(event({**APPROVE, "decision": "withdraw"}, principal="ana"), "ana")
    after = counted(pending, yes)

    assert after.already == ("ana",)
    assert counted(after, back).already == ()
    assert counted(after, back.model_copy(update={"accepted": False})).already == ("ana",)
    assert counted(after, back.model_copy(update={"action": "takeover"})).already == ("ana",)


def test_two_spellings_of_a_name_are_one_person() -> None:
    """Case, white space at the ends, full-width letters."""
    assert same_person("ana", " ANA ")
    assert same_person("ana", "ａｎａ")
    assert not same_person("ana", "anna")


# --- orders to a Guard -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "content", "principal", "why"),
    [
        ("resume", {"reason": "over"}, "ana", ""),
        ("reset_breaker", {"reason": "looked"}, "ana", ""),
        ("resume", {"reason": "over", "who": "ana"}, "", "not verified: use `interlock resume DOMAIN --reason …`"),
        ("reset_breaker", {}, "", "not verified: use `interlock breaker reset DOMAIN --reason …`"),
        ("resume", {"reason": "over"}, "mal", "mal is in none of the approver groups: leads, sre-oncall"),
        ("resume", {}, "ana", 'it says no reason: send one JSON object, {"reason": "…"}'),
        ("resume", b"\xff not JSON", "ana", "it says no reason"),
        ("resume", ["over"], "ana", "it says no reason"),
    ],
)
def test_an_order_that_lets_levers_free_needs_a_verified_person_of_an_approver_group(
    order: str, content: object, principal: str, why: str
) -> None:
    """The `who` of the payload counts for nothing; a refusal names the command to use."""
    one = judge_order(event(content, principal, "ana", name=order), ("sre-oncall", "leads"), GROUPS)

    assert (one.action, one.accepted, one.verified) == (order, not why, bool(principal))
    assert why in one.why


def test_where_no_group_may_approve_nobody_orders() -> None:
    """A worker without its policy's groups must not let anybody through."""
    assert not judge_order(event({"reason": "over"}, "ana", name="resume"), (), GROUPS).accepted


def test_the_approver_groups_are_those_that_may_approve_anything() -> None:
    """Of the default class and of every other."""
    policy = Policy(name="p", classes={"gpu.xid": ClassPolicy(approvers="gpu-team")})

    assert approver_groups(policy) == ("gpu-team", "sre-oncall")
