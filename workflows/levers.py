"""Which activity moves which lever: a closed match. A lever that is forgotten here is a mypy error."""

from __future__ import annotations

from typing import assert_never

from temporalio import workflow

from activities.acts import ClusterActivities, NodeActivities, TrafficActivities
from activities.sampling import SamplingActivities
from runbooks.change import Receipt
from runbooks.detection import node_queue
from runbooks.facts import Rejoin
from runbooks.levers import (
    ActingStep,
    FreezeChanges,
    IncreaseCapacity,
    IsolateEndpoint,
    Page,
    RebalanceNodes,
    RebootNode,
    RecycleConnections,
    RerouteTraffic,
    ResetGpu,
    RestartEngine,
    RollbackChange,
    RolloutHotfix,
    ShedLoad,
    Step,
)
from runbooks.plan import (
    ApplyRequest,
    Effect,
    ReadBack,
    ReadBackRequest,
    RejoinRequest,
    VerifyRequest,
    WatchRequest,
    WatchResult,
)
from workflows.retries import ACT, ACT_ON_CLUSTER, ACT_ON_NODE, QUICK, SAMPLE, rejoining


def acting(step: Step) -> ActingStep | None:
    """The step when it changes something; None for a page."""
    return None if isinstance(step, Page) else step


async def apply(req: ApplyRequest, lever: ActingStep, what: str) -> Receipt:
    """One increment, undo or restore: settings of one system are the same act with other values."""
    match lever:
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad():
            return await workflow.execute_activity_method(TrafficActivities.apply, req, **ACT, summary=what[:200])
        case RebalanceNodes() | RestartEngine() | IncreaseCapacity():
            return await workflow.execute_activity_method(
                ClusterActivities.apply, req, **ACT_ON_CLUSTER, summary=what[:200]
            )
        case RolloutHotfix() | RollbackChange() | FreezeChanges():
            return await workflow.execute_activity_method(
                ClusterActivities.apply, req, **ACT_ON_CLUSTER, summary=what[:200]
            )
        case ResetGpu() | RebootNode():
            return await workflow.execute_activity_method(
                NodeActivities.apply, req, **ACT_ON_NODE, task_queue=node_queue(lever.node), summary=what[:200]
            )
    assert_never(lever)


async def read_back(req: ApplyRequest, lever: ActingStep, failed: str = "") -> ReadBack:
    """What stands there after an act whose result is not known. `failed`: how it failed, by its type."""
    back = ReadBackRequest(apply=req, failed=failed)
    match lever:
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad():
            return await workflow.execute_activity_method(
                TrafficActivities.read_back, back, **QUICK, summary="What became of it?"
            )
        case RebalanceNodes() | RestartEngine() | IncreaseCapacity():
            return await workflow.execute_activity_method(
                ClusterActivities.read_back, back, **QUICK, summary="What became of it?"
            )
        case RolloutHotfix() | RollbackChange() | FreezeChanges() | ResetGpu() | RebootNode():
            return await workflow.execute_activity_method(
                ClusterActivities.read_back, back, **QUICK, summary="What became of it?"
            )
    assert_never(lever)


async def verify(req: VerifyRequest, lever: ActingStep) -> Effect:
    """One tick."""
    return await workflow.execute_activity_method(
        SamplingActivities.verify, req, **SAMPLE, summary=f"Verify {lever.lever}"
    )


async def watch(req: WatchRequest) -> WatchResult:
    """Is the fault gone?"""
    return await workflow.execute_activity_method(SamplingActivities.watch, req, **SAMPLE, summary="Is the fault gone?")


async def rejoin(req: RejoinRequest) -> Rejoin:
    """Does the node make tokens under load?"""
    return await workflow.execute_activity_method(
        SamplingActivities.rejoin, req, **rejoining(req.deadline_s), summary=f"{req.node} under load"
    )
