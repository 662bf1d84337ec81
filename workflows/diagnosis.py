"""Classify and plan, from what the detectors say now. Everything pure is in an activity: the history is the audit log."""

from __future__ import annotations

from temporalio import workflow

from activities.triage import TriageActivities
from runbooks.plan import PlannedStep, TriageRequest
from workflows.casefile import CLASS, SERVICE, CaseFile
from workflows.locally import locally
from workflows.retries import PURE


async def diagnose(case: CaseFile) -> None:
    """A new diagnosis and plan for the case. Raises ActivityError when it cannot be had."""
    case.planned_at = workflow.now()
    request = TriageRequest(detections=case.spoken(), now=case.planned_at)
    diagnosis = await locally(
        workflow.execute_local_activity_method(TriageActivities.diagnose, request, **PURE, summary="Classify and plan")
    )
    case.diagnosis = diagnosis
    found, record = diagnosis.classification, case.record
    record.classification, record.runbook, record.policy = found, diagnosis.plan.runbook, diagnosis.plan.policy
    record.mode, record.why = diagnosis.policy.mode, diagnosis.plan.why
    service = record.target.service if record.target and record.target.service else ""
    workflow.upsert_search_attributes([CLASS.value_set(found.failure_class), SERVICE.value_set(service)])
    case.note("classified", f"{found.failure_class} by rule {found.rule}; plan: {diagnosis.plan.title}")


async def still_planned(case: CaseFile, step: PlannedStep) -> PlannedStep | None:
    """Plans anew; the same step of the new plan, or None when the plan is another one now."""
    assert case.diagnosis is not None
    before = case.diagnosis
    await diagnose(case)
    same = case.diagnosis.classification.failure_class == before.classification.failure_class
    if not same or case.diagnosis.policy != before.policy:
        return None
    return next((s for s in case.diagnosis.plan.steps if s.id == step.id and s.digest == step.digest), None)
