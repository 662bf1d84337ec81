"""People are asked for their approval, and waited for: durably, and holding nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import workflow

from runbooks.levers import RolloutHotfix
from runbooks.people import Pending
from runbooks.plan import CheckResult
from workflows import details
from workflows.one_step import OneStep, StepEnd


async def ask(one: OneStep, result: CheckResult, stand_aside: Callable[[], Awaitable[None]]) -> StepEnd | None:
    """None: all have approved, and the gates are asked again. Otherwise the step has ended. `stand_aside`: keeps nobody waiting."""
    case, step, record = one.case, one.step, one.record
    assert case.diagnosis is not None
    case.named = any(g.gate != "G7" and g.outcome == "ask" for g in result.verdict.gates)
    rights, now = case.rights(), workflow.now()
    old = case.pending
    fresh = old is None or old.digest != step.digest or old.expires_at <= now
    # Before anybody is told: whoever answers at once, while the page is on its way, must be counted.
    case.rejected = None
    had = set() if fresh else set(case.approvals)  # asked again although these have approved: one more is wanted
    await stand_aside()  # people may take half an hour
    if fresh:
        case.approvals = {}
        ends = now + timedelta(seconds=case.diagnosis.policy.approval_ttl_s)
        case.pending = Pending(step=step.id, digest=step.digest, expires_at=ends)
        case.note(
            "approval asked",
            f"{step.envelope.direction}: {rights.quorum} of {rights.group} until {ends:%H:%M:%S}",
        )
        # Shown first: whoever is told must find it waiting.
        case.show("waiting_approval", details.request(result, step, case.pending, rights, ()))
        assert case.record.target is not None
        title, body = details.asked_page(step, case.pending, rights, case.record.target)
        await case.page_briefly(f"{step.id}/asked/{case.pending.digest}/{ends:%H%M%S}", title, body)
    patience = 5.0
    while len(case.approvals) < rights.quorum or had >= set(case.approvals):
        assert case.pending is not None
        rights = case.rights()  # who asked for it may be known only since somebody spoke
        case.show("waiting_approval", details.request(result, step, case.pending, rights, tuple(case.approvals)))
        left = (case.pending.expires_at - workflow.now()).total_seconds()
        if left <= 0:
            await case.page_people(
                f"{step.id}/approval-expired",
                f"Nobody decided on {step.step.lever}",
                f"{step.envelope.direction} was not approved in time.",
            )
            return "expired"
        woken = await case.wait(min(patience, left), "Waiting for approval")
        if not woken:
            # A signal that does not decode rings no bell: look from time to time, so that its sender gets an answer.
            patience = min(patience * 2, 300)
            await case.attest()
        stop = await case.safe_point()
        if stop == "resolved" and record.receipts:
            # What was done is done, and proven. But half of the pools on another version is no end: still asked.
            if not isinstance(step.step, RolloutHotfix):
                return "mitigated"
        elif stop is not None:
            return stop
        if case.rejected is not None:
            return "rejected"
        if any(n.kind == "correlated" for n in case.news) and not record.receipts:
            # The domain's case asks once for all of them: nobody clicks two hundred times.
            case.note("correlated", next(n.why for n in case.news if n.kind == "correlated"))
            return "correlated"
        case.news.clear()
    return None
