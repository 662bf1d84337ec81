"""Which activity moves which lever: a closed match. A lever that is forgotten here is a mypy error."""

from __future__ import annotations

from typing import assert_never

from temporalio import workflow

from activities.traffic import TrafficActivities
from runbooks.change import Receipt
from runbooks.levers import ActingStep, IsolateEndpoint, Page, RecycleConnections, RerouteTraffic, ShedLoad, Step
from runbooks.plan import ApplyRequest, Effect, ReadBack, ReadBackRequest, VerifyRequest, WatchRequest, WatchResult
from workflows.retries import ACT, QUICK, SAMPLE


def acting(step: Step) -> ActingStep | None:
    """The step when it changes something; None for a page."""
    match step:
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad():
            return step
        case Page():
            return None
    assert_never(step)


async def apply(req: ApplyRequest, lever: ActingStep, what: str) -> Receipt:
    """One increment, undo or restore: for settings of the proxy they are the same act with other values."""
    match lever:
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad():
            return await workflow.execute_activity_method(TrafficActivities.apply, req, **ACT, summary=what[:200])
    assert_never(lever)


async def read_back(req: ApplyRequest, lever: ActingStep) -> ReadBack:
    """What stands there after an act whose result is not known."""
    match lever:
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad():
            return await workflow.execute_activity_method(
                TrafficActivities.read_back, ReadBackRequest(apply=req), **QUICK, summary="What became of it?"
            )
    assert_never(lever)


async def verify(req: VerifyRequest, lever: ActingStep) -> Effect:
    """One tick."""
    match lever:
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad():
            return await workflow.execute_activity_method(
                TrafficActivities.verify, req, **SAMPLE, summary=f"Verify {lever.lever}"
            )
    assert_never(lever)


async def watch(req: WatchRequest) -> WatchResult:
    """Is the fault gone?"""
    return await workflow.execute_activity_method(TrafficActivities.watch, req, **SAMPLE, summary="Is the fault gone?")
