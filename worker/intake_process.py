"""The intake's own process: the doors over HTTP until SIGTERM, without a worker beside them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal

import uvicorn

from activities.adapters.sql import SqlJournal
from worker.doors import build_doors, fleet_of, notify_of, policy_of
from worker.errors import OperatorError
from worker.serving import door
from worker.settings import load
from worker.telemetry import setup
from worker.temporal import connect


async def serve_doors() -> None:
    """Serves until it is told to stop. OperatorError when its port cannot be listened on."""
    settings = load()
    fleet, policy = fleet_of(settings), policy_of(settings)
    telemetry = setup(settings.otlp_endpoint, service="interlock-intake")
    # Lazy: the intake must be there, and page, exactly when Temporal is not.
    client = await connect(settings.temporal, plugins=[telemetry.plugin], lazy=True)
    journal = SqlJournal(settings.journal_url)
    try:
        async with notify_of(settings) as notify:
            doors = build_doors(
                settings,
                client=client,
                telemetry=telemetry,
                notify=notify,
                journal=journal,
                fleet=fleet,
                policy=policy,
            )
            server = uvicorn.Server(door(doors, settings.intake.host, settings.intake.port))
            # uvicorn would raise the signal once more when it is done, and so kill us before the last spans are sent.
            server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, functools.partial(setattr, server, "should_exit", True))
            await server.serve()
            if not server.started:
                raise OperatorError(f"port {settings.intake.port} of {settings.intake.host} cannot be listened on")
    finally:
        journal.dispose()
        telemetry.flush()
