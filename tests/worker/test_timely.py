"""News reach a workflow in the task that the server began for them, with that task's time: a replay decides the same."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowInstance, WorkflowInstanceDetails

from tests.lab import until
from worker.plugin import runner
from worker.timely import TimelyRunner, Times, timely


@workflow.defn
class Clocked:
    """Keeps the times at which it heard of its signals."""

    def __init__(self) -> None:
        self.signals = 0
        self.heard: list[float] = []

    @workflow.run
    async def run(self) -> list[float]:
        """Until it has heard of three."""
        while len(self.heard) < 3:
            await workflow.wait_condition(lambda: self.signals > len(self.heard))
            self.heard.append(workflow.now().timestamp())
        return self.heard

    @workflow.signal
    def ring(self) -> None:
        """One more."""
        self.signals += 1

    @workflow.query
    def times(self) -> list[float]:
        """So far."""
        return self.heard


class Unsandboxed(UnsandboxedWorkflowRunner):
    """As production's, without a sandbox."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """In time."""
        return timely(super().create_instance(det))


def _act(length: int, seconds: int, replaying: bool = False) -> WorkflowActivation:
    act = WorkflowActivation(history_length=length, is_replaying=replaying)
    act.timestamp.FromSeconds(seconds)
    return act


def test_the_runner_of_production_is_in_time() -> None:
    """Whoever makes another one must say why."""
    assert isinstance(runner(), TimelyRunner)


@pytest.mark.parametrize(
    ("second", "untimely"),
    [
        (_act(7, 10), True),  # more history at the same time: of no task
        (_act(7, 11), False),  # the next task
        (_act(4, 10), False),  # the same task: a local activity has ended
        (_act(7, 10, replaying=True), False),  # what was decided stands in the history
    ],
)
def test_more_history_at_the_time_of_the_last_task_is_untimely(second: WorkflowActivation, untimely: bool) -> None:
    """Each task begins at a time of its own."""
    times = Times()

    assert times.untimely(_act(4, 10)) is False
    assert times.untimely(second) is untimely


async def test_a_query_that_comes_before_the_task_of_a_signal_does_not_date_the_signal_back(address: str) -> None:
    """Asked while no worker is there; then a signal; then a worker that does not have the run: each hears of it in its task."""
    client, queue = await Client.connect(address), f"clocked-{uuid4()}"

    def worker() -> Worker:
        return Worker(
            client,
            task_queue=queue,
            workflows=[Clocked],
            workflow_runner=Unsandboxed(),
            graceful_shutdown_timeout=timedelta(0),
        )

    async with worker():
        runs = [await _started(client, f"{queue}-{n}", queue) for n in range(6)]
        for run in runs:
            await run.signal(Clocked.ring)
            await _heard(run, 1)
    asked = [asyncio.create_task(_asked(run)) for run in runs for _ in range(3)]
    await asyncio.sleep(
        1.0
    )  # nothing tells when the queries wait for a worker; what is asserted holds without them too
    for run in runs:
        await run.signal(Clocked.ring)
    async with worker():
        for run in runs:
            await _heard(run, 2)
            await run.signal(Clocked.ring)
        found = await asyncio.gather(*(run.result() for run in runs))
    await asyncio.gather(*asked)
    for run, heard in zip(runs, found, strict=True):
        rung = [
            e.event_time.ToNanoseconds() / 1e9
            for e in (await run.fetch_history()).events
            if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        ]
        assert [at >= ring for at, ring in zip(heard, rung, strict=True)] == [True] * 3, f"{heard} before {rung}"


async def _started(client: Client, name: str, queue: str) -> WorkflowHandle[Clocked, list[float]]:
    return await client.start_workflow(Clocked.run, id=name, task_queue=queue, task_timeout=timedelta(seconds=2))


async def _heard(run: WorkflowHandle[Clocked, list[float]], count: int) -> None:
    async def heard() -> bool:
        with contextlib.suppress(RPCError, WorkflowQueryFailedError):  # it may be asked between two tasks
            return len(await run.query(Clocked.times)) >= count
        return False

    await until(heard, f"{run.id} has heard of {count}", 60)


async def _asked(run: WorkflowHandle[Clocked, list[float]]) -> None:
    with contextlib.suppress(RPCError, WorkflowQueryFailedError):
        await run.query(Clocked.times, rpc_timeout=timedelta(seconds=10))
