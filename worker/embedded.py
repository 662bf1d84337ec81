"""Worker and doors in one process: the embedded profile of the demo and of `interlock up`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import uvicorn
from temporalio.client import Client

from activities.adapters.sql import SqlJournal
from activities.ports import Notify
from runbooks.fleet import Fleet
from runbooks.library import load_library
from runbooks.policy import Policy
from worker.commands.worker import envoy_of
from worker.doors import build_doors, notify_of
from worker.plugin import interlock_plugin
from worker.settings import Settings
from worker.telemetry import Telemetry, setup
from worker.telemetry_record import recorder
from worker.temporal import connect, register_search_attributes
from worker.wiring import Parts, running_worker


@dataclass(frozen=True)
class Embedded:
    """What runs. `url` is where detectors and people are served."""

    client: Client
    journal: SqlJournal
    notify: Notify
    telemetry: Telemetry
    url: str


@asynccontextmanager
async def running(settings: Settings, fleet: Fleet, policy: Policy) -> AsyncIterator[Embedded]:
    """Temporal must run already. Everything started here has ended when the block ends, the doors first."""
    async with AsyncExitStack() as stack:
        telemetry = setup(settings.otlp_endpoint)
        stack.callback(telemetry.flush)
        notify = await stack.enter_async_context(notify_of(settings))
        client = await connect(settings.temporal, plugins=[telemetry.plugin, interlock_plugin()])
        await register_search_attributes(client)
        journal = SqlJournal(settings.journal_url)
        stack.callback(journal.dispose)
        folder, admin = envoy_of(settings)
        parts = Parts(
            client=client,
            fleet=fleet,
            policy=policy,
            library=load_library(settings.catalog_dir),
            journal=journal,
            notify=notify,
            claim_key=settings.claim_key(),
            envoy_folder=folder,
            envoy_admin=admin,
            route_urls=settings.route_urls,
            prometheus_url=settings.prometheus_url,
            observe=recorder(telemetry.instruments),
        )
        await stack.enter_async_context(running_worker(parts))
        doors = build_doors(
            settings, client=client, telemetry=telemetry, notify=notify, journal=journal, fleet=fleet, policy=policy
        )
        sock = socket.socket()
        stack.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((settings.intake.host, settings.intake.port))
        config = uvicorn.Config(doors, log_level="warning", access_log=False, lifespan="on")
        await stack.enter_async_context(_serving(uvicorn.Server(config), sock))
        host, port = sock.getsockname()[:2]
        yield Embedded(client, journal, notify, telemetry, f"http://{host}:{port}")


class _Quiet(uvicorn.Server):
    """Leaves signals to the process that embeds it."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@asynccontextmanager
async def _serving(server: uvicorn.Server, sock: socket.socket) -> AsyncIterator[None]:
    quiet = _Quiet(server.config)
    task = asyncio.create_task(quiet.serve(sockets=[sock]))
    while not quiet.started and not task.done():
        await asyncio.sleep(0.01)
    if task.done():
        task.result()
        raise RuntimeError("the doors ended before they were open")
    try:
        yield
    finally:
        quiet.should_exit = True
        await task
