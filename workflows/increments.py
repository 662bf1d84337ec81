"""One change under one lock: check → permit → apply → verify → release. Used alike to act, to undo and to restore."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from activities.safety import SafetyActivities
from runbooks.change import Change, Permit, Receipt
from runbooks.facts import Rejoin
from runbooks.guard import Release
from runbooks.guard_book import remedy
from runbooks.plan import ApplyRequest, CheckRequest, CheckResult, Effect, PlannedStep, Sample, VerifyRequest
from runbooks.record import StepRecord
from runbooks.standing import counted, counted_as, moved
from workflows import levers
from workflows.casefile import CaseFile
from workflows.locally import locally, reason
from workflows.retries import CHECK

Purpose = Literal["act", "undo", "restore"]


@dataclass
class Acted:
    """What became of an apply: a receipt, or why there is none. `uncertain`: people own it now. Not `whole`: of several
    objects only some were written, and the next check plans the rest."""

    receipt: Receipt | None = None
    why: str = ""
    uncertain: bool = False
    whole: bool = True


class Increments:
    """The few moves that every step, undo and restore is made of."""

    def __init__(self, case: CaseFile) -> None:
        self.case = case
        self._attempt = 0
        self.under_way = False  # of what was released last: further increments of it follow

    async def check(
        self,
        step: PlannedStep,
        purpose: Purpose,
        increment: int,
        receipt: Receipt | None = None,
        share_back: float = 1.0,
        rejoin: Rejoin | None = None,
        waited_s: float = 0.0,
    ) -> CheckResult | None:
        """All gates, once. None when the facts or the Guard could not be had at all: nothing may happen then."""
        case = self.case
        case.mind_cancel()
        assert case.record.target is not None
        assert case.diagnosis is not None
        self._attempt += 1
        approved = case.approvals if purpose == "act" else {}
        request = CheckRequest(
            case=case.record.case,
            workflow_id=case.record.workflow_id,
            target=case.record.target,
            failure_class=case.diagnosis.classification.failure_class,
            detections=case.spoken(),
            step=step,
            increment=increment,
            attempt=self._attempt,
            purpose=purpose,
            receipt=receipt,
            share_back=share_back,
            rejoin=rejoin,
            approvers=tuple(approved),
            approval_verified=bool(approved) and all(a.verified for a in approved.values()),
            approval_digest=case.pending.digest if case.pending and approved else "",
            approval_expires_at=case.pending.expires_at if case.pending and approved else None,
            observe=case.diagnosis.policy.mode == "observe",
            planned_at=case.planned_at,
            waited_s=waited_s,
            known_receipts=tuple(r.id for s in case.record.steps for r in s.receipts),
        )
        try:
            result = await locally(
                workflow.execute_local_activity_method(
                    SafetyActivities.check, request, **CHECK, summary=f"Gates: {purpose} {step.id}"
                )
            )
        except ActivityError as error:
            case.note("check failed", reason(error))
            return None
        case.judged(step.id, purpose, result)
        return result

    async def apply(
        self, step: PlannedStep, change: Change, permit: Permit, ends: dict[str, str] | None = None
    ) -> Acted:
        """Acts under the permit. Whatever is not plainly applied or plainly refused is read back."""
        case = self.case
        assert case.record.target is not None
        lever = levers.acting(step.step)
        assert lever is not None
        request = ApplyRequest(
            case=case.record.case,
            workflow_id=case.record.workflow_id,
            target_id=case.record.target.id,
            step=step,
            change=change,
            permit=permit,
            ends=ends or {},
        )
        what = f"{permit.purpose} {step.step.lever}: {change.note or change.after}"
        try:
            receipt = await levers.apply(request, lever, what)
        except ActivityError as error:
            cause = error.cause
            if isinstance(cause, ApplicationError) and cause.type == "Refused":
                return Acted(why=str(cause.message))
            failed = cause.type or "" if isinstance(cause, ApplicationError) else ""
            back = await levers.read_back(request, lever, failed)
            case.note("read back", f"{back.state}: {back.why} (after: {cause or error})")
            if back.state == "not_applied":
                return Acted(why=f"not applied: {cause or error}")
            if back.state == "unknown" or back.receipt is None:
                return Acted(why=back.why, uncertain=True)
            if back.state == "partly":
                return Acted(receipt=back.receipt, why=back.why, whole=False)
            receipt = back.receipt
        case.note(f"{permit.purpose}: {step.step.lever}", change.note or _short(change))
        return Acted(receipt=receipt)

    async def verify(self, step: PlannedStep, receipt: Receipt, baseline: dict[str, float]) -> Effect:
        """Samples until Better holds for the soak, or Worse, or the time is up. A person who takes over ends it."""
        case = self.case
        lever = levers.acting(step.step)
        assert lever is not None
        assert step.verify is not None
        since = workflow.now()
        end = since + timedelta(seconds=step.verify.deadline_s + 2 * step.verify.every_s)
        samples: tuple[Sample, ...] = ()
        while True:
            case.mind_cancel()
            request = VerifyRequest(
                step=step, receipt=receipt, since=since, now=workflow.now(), baseline=baseline, samples=samples
            )
            try:
                tick = await levers.verify(request, lever)
            except ActivityError as error:
                tick = Effect(outcome="pending", why=f"a tick was lost: {error.cause or error}")
            samples += tick.samples
            if tick.outcome != "pending":
                return tick.model_copy(update={"samples": samples[-3 * len(step.indicators) :]})
            if workflow.now() >= end:
                return Effect(
                    outcome="cannot_tell", why=f"no verdict by the deadline; {tick.why}", samples=samples[-3:]
                )
            await case.pause(step.verify.every_s, f"Soak: {tick.why}")
            if case.bell > case.heard:
                await case.attest()
            if case.taken_by:
                return Effect(outcome="cannot_tell", why=f"{case.taken_by} took over while it was verified")
            if case.aborted_by:
                return Effect(outcome="cannot_tell", why=f"{case.aborted_by} aborted while it was verified")

    async def release(
        self,
        step: PlannedStep,
        record: StepRecord,
        applied: bool,
        ineffective: bool = False,
        bad: str = "",
        under_way: bool = False,
    ) -> None:
        """Gives the lock back in every domain of the step, and says what of it now stands. `bad`: why it ended badly.
        `under_way`: further increments follow."""
        case = self.case
        assert case.record.target is not None
        # A new plan may have a step of the same id: what stands of the first must not be dropped with the second.
        same = [s for s in case.record.steps if s.step_id == record.step_id]
        nth = next((n for n, s in enumerate(same) if s is record), 0)
        rid = f"{case.record.case}/{step.id}" + (f"~{nth + 1}" if nth else "")
        standing = record.standing
        assert case.diagnosis is not None
        tried = remedy(step.step.lever, case.record.target.id, case.diagnosis.classification.failure_class)
        release = Release(
            case=case.record.case,
            workflow_id=case.record.workflow_id,
            applied=applied,
            stands=counted(rid, standing, under_way) if standing else None,
            removed=() if standing else (rid,),
            ineffective=tried if ineffective else "",
            bad=bad[:200],
            at=workflow.now(),
        )
        self.under_way = under_way and standing is not None
        for domain in step.domains:
            await case.release(domain, release)

    async def release_uncertain(self, step: PlannedStep, change: Change) -> None:
        """Gives the lock back after an act of which nobody knows whether it was applied: the Guard counts it as standing."""
        record = self.case.record
        assert record.target is not None
        rid, target = f"{record.case}/{step.id}/uncertain", record.target.id
        settings = moved(change.before, change.after)
        stands = counted_as(rid, change.blast, record.case, step.step.lever, target, workflow.now(), settings)
        release = Release(
            case=record.case,
            workflow_id=record.workflow_id,
            applied=True,
            stands=stands,
            bad=f"nobody knows whether {step.step.lever} was applied",
            at=workflow.now(),
        )
        for domain in step.domains:
            await self.case.release(domain, release)


def _short(change: Change) -> str:
    return ", ".join(f"{k} {change.before.get(k)} → {v}" for k, v in change.after.items() if change.before.get(k) != v)
