"""`interlock intake`: serves the doors. Stateless: run as many as you like."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal

import typer

from worker.errors import OperatorError
from worker.settings import load

app = typer.Typer()


@app.command()
def intake() -> None:
    """Serve the HTTP doors: alerts of detectors, and decisions of people when INTERLOCK_PEOPLE__… is set."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs URLs, and a webhook's URL is a secret
    asyncio.run(_serve())


async def _serve() -> None:
    # Here and not above: these cost more than a second, which `interlock approve` must not pay.
    import uvicorn

    from activities.adapters.sql import SqlJournal
    from worker.doors import build_doors, fleet_of, notify_of, policy_of
    from worker.telemetry import setup
    from worker.temporal import connect

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
            config = uvicorn.Config(
                doors, host=settings.intake.host, port=settings.intake.port, log_level="warning", access_log=False
            )
            server = uvicorn.Server(config)
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
