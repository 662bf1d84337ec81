"""Classify and plan, from what the detectors say now, and from what triage sees itself where no rule is sure.

Everything pure is in an activity, and a look is one as well: the history is the audit log.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.looking import LookingActivities
from activities.triage import TriageActivities
from runbooks.plan import Classification, Diagnosis, PlannedStep, TriageRequest
from runbooks.taxonomy_looked import Looked, LookRequest
from workflows.casefile import CLASS, SERVICE, CaseFile
from workflows.locally import locally, reason
from workflows.retries import GLANCE, PURE


async def diagnose(case: CaseFile) -> None:
    """A new diagnosis and plan for the case. Raises ActivityError when it cannot be had."""
    before = _before(case)
    case.planned_at = workflow.now()
    diagnosis = await _triaged(case, before)
    # What a rule is sure of acts without a look, but for half a second at the cluster where there is one.
    if diagnosis.look != "no" and case.renewed:
        looked = await _look(case, whole=diagnosis.look == "whole")
        if looked is not None and looked.evidence:
            diagnosis = await _triaged(case, before, looked)
    case.diagnosis = diagnosis
    found, record = diagnosis.classification, case.record
    record.classification, record.runbook, record.policy = found, diagnosis.plan.runbook, diagnosis.plan.policy
    record.mode, record.why = diagnosis.policy.mode, diagnosis.plan.why
    service = record.target.service if record.target and record.target.service else ""
    workflow.upsert_search_attributes([CLASS.value_set(found.failure_class), SERVICE.value_set(service)])
    case.note("classified", f"{found.failure_class} by rule {found.rule}; plan: {diagnosis.plan.title}")


def _before(case: CaseFile) -> Classification | None:
    """The class so far, while something that it was found by still fires; None: there is none, or it is another fault now."""
    if case.diagnosis is None or not case.renewed:
        return None
    still = any(d.received_at is not None and d.received_at <= case.planned_at for d in case.firing())
    return case.diagnosis.classification if still else None


async def _triaged(case: CaseFile, before: Classification | None, looked: Looked | None = None) -> Diagnosis:
    request = TriageRequest(detections=case.spoken(), now=case.planned_at, looked=looked, before=before)
    summary = "Classify and plan" if looked is None else "Classify and plan, with what was seen"
    return await locally(
        workflow.execute_local_activity_method(TriageActivities.diagnose, request, **PURE, summary=summary)
    )


async def _look(case: CaseFile, *, whole: bool) -> Looked | None:
    """What there is to see of the target now; None when nobody could look: the detectors' word is then all there is."""
    assert case.record.target is not None
    request = LookRequest(target=case.record.target, now=case.planned_at, whole=whole)
    try:
        looked = await locally(
            workflow.execute_local_activity_method(
                LookingActivities.look,
                request,
                **GLANCE,
                summary="Look at the target" if whole else "Look at its cluster",
            )
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        case.note("could not look", reason(error))
        return None
    case.note("looked", looked.told())
    return looked


async def still_planned(case: CaseFile, step: PlannedStep) -> PlannedStep | None:
    """Plans anew; the same step of the new plan, or None when the plan is another one now."""
    assert case.diagnosis is not None
    before = case.diagnosis
    await diagnose(case)
    same = case.diagnosis.classification.failure_class == before.classification.failure_class
    if not same or case.diagnosis.policy != before.policy:
        return None
    return next((s for s in case.diagnosis.plan.steps if s.id == step.id and s.digest == step.digest), None)
