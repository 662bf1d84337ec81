"""The whole of Interlock with its outer doors open: Temporal's UI and HTTP API, and our intake on a real port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import uvicorn
from fastapi import FastAPI
from temporalio.testing import WorkflowEnvironment

from tests import lab as labs


@dataclass(frozen=True)
class Ports:
    """Where the dev server of this suite listens, beside gRPC."""

    ui: str
    http: str


@pytest.fixture(scope="session")
def ports() -> Ports:
    """Two addresses, host:port."""
    return Ports(f"127.0.0.1:{labs.free_port()}", f"127.0.0.1:{labs.free_port()}")


@pytest.fixture(scope="session")
async def open_server(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkflowEnvironment]:
    """A dev server of this suite's own, with UI and HTTP API."""
    http_port, ui_port = (int(a.rpartition(":")[2]) for a in (ports.http, ports.ui))
    folder = tmp_path_factory.mktemp("temporal-open")
    async with labs.temporal_server(folder, "--http-port", str(http_port), ui_port=ui_port) as running:
        yield running


@pytest.fixture
async def lab(
    _fleet: labs.Lab, open_server: WorkflowEnvironment, request: pytest.FixtureRequest
) -> AsyncIterator[labs.Lab]:
    """The engines and the Envoy of the session, under the dev server with the open doors."""
    await _fleet.heal()
    opened = replace(_fleet, client=open_server.client, server=open_server)
    yield opened
    await _fleet.heal()
    if labs.failed(request):
        await opened.tidy()


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The app on a free port of 127.0.0.1, by uvicorn. Its address, host:port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none"))
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        task = asyncio.create_task(server.serve(sockets=[listener]))

        async def started() -> bool:
            return server.started or task.done()

        await labs.until(started, "the app is served")
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
