"""A real Temporal dev server, the doors served by a real HTTP server, and a receiving end that records what arrives."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.errors import Retryable
from activities.ports import Told
from runbooks.claims import SignedClaim
from runbooks.detection import TASK_QUEUE, guard_queue
from tests.serving import serve
from worker.intake import IntakeDeps, build_intake
from worker.settings import IntakeSettings
from worker.telemetry import Telemetry, setup

TOKEN = "detector-token"


@activity.defn(name="recorder_write")
async def recorder_write() -> None:
    """Stands where an adapter would write: opens a span as one does."""
    with trace.get_tracer("tests").start_as_current_span("envoy write"):
        await asyncio.sleep(0)


@workflow.defn(name="Remediation")
class RecordingRemediation:
    """Not a Remediation: the receiving end of the doors. It records what arrives and stays open until told `finish`."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.signals = 0
        self.claims: list[dict[str, Any]] = []
        self.finished = False

    @workflow.run
    async def run(self, detection: dict[str, Any]) -> int:
        self.seen.insert(0, detection)
        await workflow.execute_activity(recorder_write, start_to_close_timeout=timedelta(seconds=10))
        await workflow.wait_condition(lambda: self.finished)
        return len(self.seen)

    @workflow.signal
    def detect(self, detection: Any) -> None:
        self.signals += 1
        self.seen += detection if isinstance(detection, list) else [detection]

    @workflow.signal
    def finish(self) -> None:
        self.finished = True

    def _take(self, claim: SignedClaim) -> dict[str, Any]:
        self.claims.append(claim.model_dump(mode="json"))
        if claim.digest == "old":
            return {"accepted": False, "why": "this approval is for another plan"}
        return {"accepted": True, "why": ""}

    @workflow.update
    async def decide(self, claim: SignedClaim) -> dict[str, Any]:
        return self._take(claim)

    @decide.validator
    def _no_such_step(self, claim: SignedClaim) -> None:
        if claim.step == "nowhere":
            raise ValueError("no such step: nowhere")

    @workflow.update
    async def takeover(self, claim: SignedClaim) -> dict[str, Any]:
        return self._take(claim)

    @workflow.update
    async def hand_back(self, claim: SignedClaim) -> dict[str, Any]:
        return self._take(claim)

    @workflow.update
    async def abort(self, claim: SignedClaim) -> str:
        return "perhaps"

    @workflow.query
    def status(self) -> dict[str, Any]:
        return {"state": "waiting", "seen": self.seen, "signals": self.signals, "claims": self.claims}


@workflow.defn(name="Guard")
class RecordingGuard:
    """Not a Guard: records halts, and the claims of orders."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []

    @workflow.run
    async def run(self, start: dict[str, Any]) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.signal
    def halt(self, order: dict[str, Any]) -> None:
        self.orders.append({"order": "halt", **order})

    @workflow.update
    def order(self, claim: SignedClaim) -> dict[str, Any]:
        if claim.reason == "too early":
            return {"accepted": False, "why": "the fault is still there"}
        self.orders.append({"order": claim.action, "claim": claim.model_dump(mode="json")})
        return {"accepted": True, "why": ""}

    @workflow.query
    def view(self) -> list[dict[str, Any]]:
        return self.orders


@dataclass
class PagedPeople:
    """A Notify that records pages; `deaf` refuses them as an unreachable pager would."""

    pages: list[tuple[str, str, str]] = field(default_factory=list)
    deaf: bool = False
    refused: int = 0

    async def tell(self, dedup_key: str, title: str, body: str) -> Told:
        if self.deaf:
            self.refused += 1
            raise Retryable("the pager does not answer")
        self.pages.append((dedup_key, title, body))
        return Told(channel="test", dedup_key=dedup_key, reference="1", at=datetime.now(UTC))


@pytest.fixture(scope="session")
def spans() -> InMemorySpanExporter:
    """Every span that ends in this process."""
    return InMemorySpanExporter()


@pytest.fixture(scope="session")
def metric_reader() -> InMemoryMetricReader:
    """Every measurement of the session's telemetry."""
    return InMemoryMetricReader()


@pytest.fixture(scope="session")
def telemetry(spans: InMemorySpanExporter, metric_reader: InMemoryMetricReader) -> Telemetry:
    """Telemetry with in-memory exporters."""
    return setup(span_exporters=[spans], metric_readers=[metric_reader])


@asynccontextmanager
async def dev_server(port: int | None = None, extra: Sequence[str] = ()) -> AsyncIterator[WorkflowEnvironment]:
    """A Temporal server of its own, on a free port, in memory."""
    binary = shutil.which("temporal", path=str(Path(sys.executable).parent)) or shutil.which("temporal")
    assert binary, "the temporal binary is missing: install the demo extra"
    env = await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter,
        dev_server_existing_path=binary,
        dev_server_log_level="error",
        port=port,
        dev_server_extra_args=extra,
    )
    try:
        yield env
    finally:
        await env.shutdown()


@pytest.fixture(scope="session")
def new_dev_server() -> Callable[..., AbstractAsyncContextManager[WorkflowEnvironment]]:
    """A server that one test may stop."""
    return dev_server


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
async def address() -> AsyncIterator[str]:
    """The address of the session's Temporal server."""
    async with dev_server() as env:
        yield env.client.service_client.config.target_host


@pytest.fixture(scope="session")
async def client(address: str, telemetry: Telemetry) -> AsyncIterator[Client]:
    """A client with our plugin, and a worker that runs the recorders."""
    client = await Client.connect(address, data_converter=pydantic_data_converter, plugins=[telemetry.plugin])
    runner = UnsandboxedWorkflowRunner()
    async with (
        Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[RecordingRemediation],
            activities=[recorder_write],
            workflow_runner=runner,
        ),
        Worker(client, task_queue=guard_queue(), workflows=[RecordingGuard], workflow_runner=runner),
    ):
        yield client


@pytest.fixture(scope="session", name="serve")
def _serve_fixture() -> Callable[[FastAPI], AbstractAsyncContextManager[str]]:
    """Serves an app for the length of a block."""
    return serve


async def until(condition: Callable[[], Any], within_s: float = 15.0) -> Any:
    """Polls until the condition holds and returns its value; fails after the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert loop.time() < deadline, f"did not come true within {within_s} s"
        await asyncio.sleep(0.02)


@dataclass
class Intake:
    """A served intake and everything around it."""

    http: httpx.AsyncClient
    people: PagedPeople
    client: Client
    app: FastAPI

    async def status(self, workflow_id: str) -> dict[str, Any]:
        """What the recorder has seen."""
        found: dict[str, Any] = await self.client.get_workflow_handle(workflow_id).query("status")
        return found


MakeIntake = Callable[..., AbstractAsyncContextManager[Intake]]


@pytest.fixture(scope="session")
def make_intake(telemetry: Telemetry) -> MakeIntake:
    """Serves an intake for a client; keyword arguments go into IntakeSettings and IntakeDeps."""

    @asynccontextmanager
    async def make(
        client: Client, *, deps: dict[str, Any] | None = None, deaf: bool = False, **settings: Any
    ) -> AsyncIterator[Intake]:
        people = PagedPeople(deaf=deaf)
        app = build_intake(
            IntakeDeps(
                client=client,
                notify=people,
                token=SecretStr(TOKEN),
                telemetry=telemetry,
                settings=IntakeSettings(**settings),
                **(deps or {}),
            )
        )
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with serve(app) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as http:
            yield Intake(http, people, client, app)

    return make


@pytest.fixture(scope="session")
async def intake(client: Client, make_intake: MakeIntake) -> AsyncIterator[Intake]:
    """The session's intake, with default settings."""
    async with make_intake(client) as made:
        yield made


@pytest.fixture(autouse=True)
def _fresh_pages(request: pytest.FixtureRequest) -> None:
    if "intake" in request.fixturenames:
        made: Intake = request.getfixturevalue("intake")
        made.people.pages.clear()
        made.people.deaf = False


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`until`, for tests: polls a condition with a deadline."""
    return until
