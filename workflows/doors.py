"""The doors of a case: what detectors, people and the Guard say to it, and what it answers. Nothing is decided here.

Signals only take in and ring; the spine looks at its next safe point. Updates are for our own API: a signed claim.
"""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

from activities.attest import AttestActivities
from runbooks.claims import SignedClaim
from runbooks.decisions import barred, mismatch
from runbooks.guard import News
from runbooks.people import Action, Attested, ClaimRequest
from workflows.casefile import CaseFile
from workflows.locally import judged, reason
from workflows.loose import NOTHING
from workflows.retries import PURE


class Doors:
    """Handlers of a Remediation. `_case` is None until its run has begun; what comes before waits in `_early`."""

    def __init__(self) -> None:
        self._early: list[Any] = []
        self._case: CaseFile | None = None

    @workflow.signal(description="A detector says more about this target: one Detection as JSON.")
    def detect(self, raw: RawValue) -> None:
        """Only takes in; the spine looks at its next safe point."""
        if self._case is None:
            self._early.append(raw)
            return
        wrong = self._case.take_in(raw)
        if wrong:
            self._case.note("input refused", wrong)

    @workflow.signal(
        description='Decide on the waiting step: {"step": "…", "plan": "…", "decision": "approve | reject | withdraw", "reason": "…"}'
    )
    def decide(self, raw: RawValue = NOTHING) -> None:
        """A doorbell: what counts is read from the history, with its sender."""
        self._ring()

    @workflow.signal(description='I am on it: Interlock stops acting on this case. {"reason": "…"}')
    def takeover(self, raw: RawValue = NOTHING) -> None:
        """A doorbell."""
        self._ring()

    @workflow.signal(description='Interlock may go on with this case. {"reason": "…"}')
    def hand_back(self, raw: RawValue = NOTHING) -> None:
        """A doorbell."""
        self._ring()

    @workflow.signal(description='Take back what stands and close this case. {"reason": "…"}')
    def abort(self, raw: RawValue = NOTHING) -> None:
        """A doorbell."""
        self._ring()

    @workflow.signal(description="News of the Guard (not for people).")
    def guard_news(self, news: News) -> None:
        """A ticket's turn, a halt, a resume: whatever waits looks again."""
        if self._case is not None:
            self._case.news.append(news)

    def _ring(self) -> None:
        if self._case is not None:
            self._case.bell += 1

    @workflow.update(name="decide", description="For Interlock's own API and command line (a signed claim).")
    async def decide_claim(self, claim: SignedClaim) -> Attested:
        """A decision of a person whose token our API has verified."""
        return await self._claimed(claim)

    @workflow.update(name="takeover", description="For Interlock's own API and command line (a signed claim).")
    async def takeover_claim(self, claim: SignedClaim) -> Attested:
        """ "I am on it"."""
        return await self._claimed(claim)

    @workflow.update(name="hand_back", description="For Interlock's own API and command line (a signed claim).")
    async def hand_back_claim(self, claim: SignedClaim) -> Attested:
        """Interlock may go on."""
        return await self._claimed(claim)

    @workflow.update(name="abort", description="For Interlock's own API and command line (a signed claim).")
    async def abort_claim(self, claim: SignedClaim) -> Attested:
        """Take back what stands, and close."""
        return await self._claimed(claim)

    async def _claimed(self, claim: SignedClaim) -> Attested:
        case = self._case
        assert case is not None
        case.nonces.add(claim.nonce)
        # One time for all of it: after a local activity a replay may have another (docs/temporal-pitfalls.md), and in the
        # moment of the request's end would judge otherwise.
        came = workflow.now()
        request = ClaimRequest(claim=claim, rights=case.rights(), pending=case.asked, now=came)
        summary = f"{claim.action} by {claim.who}"[:200]
        try:
            answer = await judged(AttestActivities.check_claim, request, PURE, summary, remote=case.newest)
        except ActivityError as error:
            raise ApplicationError(reason(error), type="Refused") from error
        if answer.accepted and claim.decision == "approve":
            # Whoever started this case by himself is named in its history only; signals sent before are heard before.
            await case.attest()
        if answer.accepted and claim.action == "decide":
            # While it was judged the case may have planned again, or begun to act, or heard the same person twice.
            wrong = mismatch(claim.model_dump(), case.asked, came)
            voices = case.asked.already if case.asked else ()
            wrong = wrong or barred(claim.who, claim.decision, case.rights(), voices)
            answer = answer.model_copy(update={"accepted": not wrong, "why": wrong})
        case.hear(answer)
        return answer

    @decide_claim.validator
    def _decide_fits(self, claim: SignedClaim) -> None:
        self._fits("decide", claim)

    @takeover_claim.validator
    def _takeover_fits(self, claim: SignedClaim) -> None:
        self._fits("takeover", claim)

    @hand_back_claim.validator
    def _hand_back_fits(self, claim: SignedClaim) -> None:
        self._fits("hand_back", claim)

    @abort_claim.validator
    def _abort_fits(self, claim: SignedClaim) -> None:
        self._fits("abort", claim)

    def _fits(self, action: Action, claim: SignedClaim) -> None:
        """Shape and state; the signature is an activity's matter. A refusal here enters no history."""
        case = self._case
        if case is None or case.state in ("closing", "closed"):
            raise ValueError("this case is closing: there is nothing to decide any more")
        if claim.action != action:
            raise ValueError(f"the claim is for {claim.action}, this is {action}")
        if claim.case != case.record.workflow_id:
            raise ValueError(f"this claim is about {claim.case}, not about {case.record.workflow_id}")
        if claim.nonce in case.nonces:
            raise ValueError("this claim was used before: send the decision again")
        if action == "decide" and (wrong := mismatch(claim.model_dump(), case.asked, workflow.now())):
            raise ValueError(wrong)

    @workflow.query(description="State, class, what waits for whom, timeline.")
    def status(self) -> dict[str, Any]:
        """For the command line, the API and the demo."""
        case = self._case
        if case is None:
            return {"state": "starting"}
        record = case.record
        waiting = None
        if case.pending is not None and case.state == "waiting_approval":
            waiting = {**case.pending.model_dump(mode="json"), **case.rights().model_dump()}
        found = record.classification
        return {
            "case": record.case,
            "state": case.state,
            "at_work": case.at_work,
            "target": record.target.id if record.target else "",
            "class": found.failure_class if found else "",
            "outcome": record.outcome or "",
            "why": record.why,
            "waiting": waiting,
            "taken_by": case.taken_by,
            "timeline": [e.model_dump(mode="json") for e in record.timeline],
            "record": record.model_dump(mode="json"),
        }
