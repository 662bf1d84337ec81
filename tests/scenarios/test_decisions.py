"""Both doors for people: what counts, what does not, and that the page says why."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from runbooks.decisions import mismatch
from tests import lab as labs
from tests.scenarios.hostile import (
    HOSTILE_PAYLOADS,
    asking,
    decide,
    raw_signal,
    send,
    shown,
    signed,
    waiting_case,
)  # fmt: skip

# --- the signal door -------------------------------------------------------------------------------------------------


async def test_a_decision_that_is_not_one_json_object_is_answered_on_the_page_and_moves_nothing(lab: labs.Lab) -> None:
    """Bytes, broken JSON, a list, null, 20,000 brackets, half a character: six answers, and the case still waits."""
    async with waiting_case(lab) as case:
        for n, (what, payload) in enumerate(HOSTILE_PAYLOADS.items()):
            await raw_signal(lab, case.handle, "decide", payload, identity=f"sender of {what}")
            refused = await case.refusal(after=n)
            assert not refused["accepted"], what
            assert refused["who"] == f"sender of {what}"
        await case.untouched()
        page = await shown(case.handle)
        assert "Decision not counted" in page
        assert "no such step is waiting" in page


async def test_a_decision_with_no_payload_or_with_two_does_not_break_the_case(lab: labs.Lab) -> None:
    """`temporal workflow signal` sends as many payloads as it is given; a handler that cannot take them would hang."""
    async with waiting_case(lab) as case:
        await raw_signal(lab, case.handle, "decide")
        assert not (await case.refusal())["accepted"]
        await raw_signal(lab, case.handle, "decide", (b"json/plain", b"{}"), (b"json/plain", b"{}"))
        assert not (await case.refusal(after=1))["accepted"]
        for name in ("detect", "guard_news"):
            await raw_signal(lab, case.handle, name)
            await raw_signal(lab, case.handle, name, (b"json/plain", b"{}"), (b"json/plain", b"{}"))
        await case.untouched()


async def test_a_decision_that_does_not_fit_the_waiting_step_is_refused_with_its_reason(lab: labs.Lab) -> None:
    """Wrong step, wrong digest, no decision, a typed approver: the case waits on, and the page says which."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"step": "9-reboot"}, "no such step is waiting"),
        ({"plan": "0" * 12}, "it is for another plan"),
        ({"decision": "yes please"}, 'decision must be "approve", "reject" or "withdraw"'),
        ({"step": None, "approver": "ana", "verified": True}, "no such step is waiting"),
    ]
    async with waiting_case(lab) as case:
        for n, (change, why) in enumerate(wrong):
            await decide(lab, case.handle, **case.approval(**change))
            refused = await case.refusal(after=n)
            assert (refused["accepted"], refused["verified"]) == (False, False)
            assert why in refused["why"]
            assert "Decision not counted" in await shown(case.handle)
        await case.untouched()


async def test_an_unverified_decision_is_refused_where_policy_counts_none_whatever_it_claims_to_be(
    lab: labs.Lab,
) -> None:
    """An `approver` typed into the JSON, and an identity that the sender chose himself, count for nothing."""
    async with waiting_case(lab, asking(accept_unverified=False)) as case:
        await decide(lab, case.handle, "ana", **case.approval(approver="ana", who="ana", verified=True))
        refused = await case.refusal()
        assert (refused["who"], refused["verified"], refused["accepted"]) == ("ana", False, False)
        assert "not verified" in refused["why"]
        await case.untouched()


async def test_one_identity_cannot_be_two_voices_and_unverified_voices_make_no_quorum(lab: labs.Lab) -> None:
    """Quorum two: not even two identities that somebody claims make a quorum."""
    async with waiting_case(lab, asking(quorum=2)) as case:
        for n, who in enumerate(("ana", "ana", "bo")):
            await decide(lab, case.handle, who, **case.approval())
            assert not (await case.refusal(after=n))["accepted"]
        await case.untouched()


async def test_a_reject_ends_the_step_and_pages_and_nothing_was_touched(lab: labs.Lab) -> None:
    """The plan's next step is the page."""
    async with waiting_case(lab) as case:
        await decide(lab, case.handle, "ana", **case.approval(decision="reject", reason="not on my watch"))
        result = await case.handle.result()
        assert result["outcome"] == "paged"
        assert case.engine.address in await lab.rotation("chat-a")
        assert any("could not be isolated" in p["title"] for p in lab.pages())


async def test_a_request_that_nobody_answers_ends_pages_and_takes_no_late_decision(lab: labs.Lab) -> None:
    """After its end the request is gone: the case has moved on to telling people."""
    async with waiting_case(lab, asking(approval_ttl_s=2)) as case:
        result = await case.handle.result()
        assert result["outcome"] == "paged"
        assert any("Nobody decided" in p["title"] for p in lab.pages())
        assert case.engine.address in await lab.rotation("chat-a")


async def test_a_decision_when_nothing_waits_is_answered_and_changes_nothing(lab: labs.Lab) -> None:
    """The step is done: a second approval, and a reject of another person, are told that it is too late."""
    async with waiting_case(lab) as case:
        await decide(lab, case.handle, "ana", **case.approval())
        await lab.in_state(case.handle, "mitigated")
        await decide(lab, case.handle, "bo", **case.approval(decision="reject"))
        refused = await case.refusal(after=1)
        assert (refused["accepted"], refused["why"]) == (False, f"too late: {case.step} has begun to act, use abort")
        assert (await lab.status(case.handle))["state"] == "mitigated"


async def test_a_reject_while_the_approved_step_acts_is_not_called_accepted(lab: labs.Lab) -> None:
    """Accepted and then ignored would be a lie: he is told that it is too late, so that he takes over or aborts."""
    async with waiting_case(lab) as case:
        await decide(lab, case.handle, "ana", **case.approval())
        await lab.in_state(case.handle, "verifying")
        await decide(lab, case.handle, "bo", **case.approval(decision="reject"))
        refused = await case.refusal(after=1)
        assert (refused["who"], refused["accepted"]) == ("bo", False)
        await lab.in_state(case.handle, "mitigated")


# --- the update door -------------------------------------------------------------------------------------------------


async def test_a_claim_signed_with_another_key_is_refused_and_one_of_our_key_approves(lab: labs.Lab) -> None:
    """Wrong key: refused. Right key: approved, verified, acted on. The same claim again: used before."""
    async with waiting_case(lab, asking(accept_unverified=False)) as case:
        fields: dict[str, Any] = {"step": case.step, "digest": case.digest, "decision": "approve"}
        with pytest.raises(WorkflowUpdateFailedError) as forged:
            await send(case.handle, signed(case.handle, "decide", key=b"x" * 32, **fields))
        assert "signature" in str(forged.value.cause)
        await case.untouched()
        claim = signed(case.handle, "decide", **fields)
        answer = await send(case.handle, claim)
        assert (answer.accepted, answer.verified, answer.who) == (True, True, "ana")
        with pytest.raises(WorkflowUpdateFailedError) as replayed:
            await send(case.handle, claim)
        assert "used before" in str(replayed.value.cause)
        await lab.in_state(case.handle, "mitigated")
        assert case.engine.address not in await lab.rotation("chat-a")


async def test_a_claim_that_is_late_or_for_something_else_is_refused_to_its_sender(lab: labs.Lab) -> None:
    """An update's sender gets the reason at once; the case waits on."""
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"exp": int(time.time()) - 5}, "expired"),
        ({"exp": int(time.time()) + 100_000}, "lasts"),
        ({"digest": "0" * 12}, "another plan"),
        ({"step": "9-reboot"}, "no such step"),
        ({"case": "remediate:lab/service/other"}, "about"),
    ]
    async with waiting_case(lab) as case:
        for change, why in wrong:
            fields: dict[str, Any] = {"step": case.step, "digest": case.digest, "decision": "approve", **change}
            with pytest.raises(WorkflowUpdateFailedError) as refused:
                await send(case.handle, signed(case.handle, "decide", **fields))
            assert why in str(refused.value.cause)
        await case.untouched()


async def test_a_verified_person_of_another_group_is_refused_and_the_page_says_so(lab: labs.Lab) -> None:
    """Being somebody is not enough."""
    async with waiting_case(lab) as case:
        fields: dict[str, Any] = {"step": case.step, "digest": case.digest, "decision": "approve"}
        answer = await send(case.handle, signed(case.handle, "decide", who="eve", groups=("hr",), **fields))
        assert (answer.accepted, answer.why) == (False, "eve is not in group sre-oncall")
        await case.untouched()
        assert "eve is not in group" in await shown(case.handle)


async def test_a_reject_by_claim_is_heard_at_once(lab: labs.Lab) -> None:
    """It rings no signal's bell; the waiting step must wake all the same."""
    async with waiting_case(lab) as case:
        fields: dict[str, Any] = {"step": case.step, "digest": case.digest, "decision": "reject"}
        assert (await send(case.handle, signed(case.handle, "decide", **fields))).accepted
        assert (await case.handle.result())["outcome"] == "paged"
        events = (await case.handle.fetch_history()).events
        heard = next(e.event_id for e in events if e.HasField("workflow_execution_update_accepted_event_attributes"))
        fired = [e for e in events if e.HasField("timer_fired_event_attributes") and e.event_id > heard]
        woken = [e for e in fired if e.timer_fired_event_attributes.started_event_id < heard]
        assert not woken, "the step slept on until its next look"


async def test_takeover_stops_acting_keeps_what_stands_and_hand_back_goes_on(lab: labs.Lab) -> None:
    """Even a fault that is gone is left to the person who has the case, until he gives it back: then it is restored."""
    async with waiting_case(lab) as case:
        await decide(lab, case.handle, "ana", **case.approval())
        await lab.in_state(case.handle, "mitigated")
        assert (await send(case.handle, signed(case.handle, "takeover"))).accepted
        await lab.in_state(case.handle, "taken_over")
        case.engine.go_on()
        await lab.resolve(case.detection)

        async def heard() -> bool:
            status = await lab.status(case.handle)
            return any(d["status"] == "resolved" for d in status["record"]["detections"])

        await labs.until(heard, "the resolved alert is taken in")
        status = await lab.status(case.handle)
        assert status["state"] == "taken_over"
        assert status["record"]["steps"][0]["standing"] is not None
        assert case.engine.address not in await lab.rotation("chat-a")

        assert (await send(case.handle, signed(case.handle, "hand_back"))).accepted
        result = await case.handle.result()
        assert result["outcome"] == "restored"
        assert case.engine.address in await lab.rotation("chat-a")


async def test_hand_back_while_the_fault_is_there_keeps_watching_what_stands(lab: labs.Lab) -> None:
    """Planned anew, nothing is left to change: the case must not close and forget what it changed."""
    async with waiting_case(lab) as case:
        await decide(lab, case.handle, "ana", **case.approval())
        await lab.in_state(case.handle, "mitigated")
        await send(case.handle, signed(case.handle, "takeover"))
        await lab.in_state(case.handle, "taken_over")
        await send(case.handle, signed(case.handle, "hand_back"))
        await lab.in_state(case.handle, "mitigated")
        case.engine.go_on()
        await lab.resolve(case.detection)
        result = await case.handle.result()
        assert result["outcome"] == "restored"
        assert case.engine.address in await lab.rotation("chat-a")


async def test_abort_takes_back_what_stands_and_closes(lab: labs.Lab) -> None:
    """By a signal of an unverified sender, as policy allows here: the engine is back although it still hangs."""
    async with waiting_case(lab) as case:
        await decide(lab, case.handle, "ana", **case.approval())
        await lab.in_state(case.handle, "mitigated")
        await raw_signal(lab, case.handle, "abort", (b"json/plain", b'{"reason": "drill is over"}'), identity="bo")
        result = await case.handle.result()
        story = [f"{e['what']}: {e['text']}" for e in (await lab.status(case.handle))["timeline"]]
        assert (result["outcome"], result["restored"]) == ("aborted", False), "\n".join(story)
        assert case.engine.address in await lab.rotation("chat-a")


def test_both_doors_use_the_same_rule_book_and_a_missing_request_is_said() -> None:
    """Pure: nothing waits."""
    assert mismatch({}, None, datetime.now(UTC)) == "no step waits for a decision now"
