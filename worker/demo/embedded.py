"""Interlock in one process, doors and worker together, as `interlock up` and the demo run it: eager starts need that.

A process of its own: what the demo measures must not wait for the demo's load and screen. Settings by INTERLOCK_….
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack

import uvicorn

from activities.adapters.sql import SqlJournal
from worker.doors import build_doors, fleet_of, notify_of, policy_of
from worker.leave import leave
from worker.parts import parts_of
from worker.plugin import interlock_plugin
from worker.serving import door, serving
from worker.settings import Settings, load
from worker.telemetry import setup
from worker.temporal import connect, register_search_attributes
from worker.wiring import running_worker


async def serve(settings: Settings) -> None:
    """Doors and worker until SIGTERM; the doors open once the worker polls."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    fleet, policy = fleet_of(settings), policy_of(settings)
    telemetry = setup(settings.otlp_endpoint, service="interlock")
    async with AsyncExitStack() as stack:
        notify = await stack.enter_async_context(notify_of(settings))
        client = await connect(settings.temporal, plugins=[telemetry.plugin, interlock_plugin()])
        await register_search_attributes(client)
        journal = SqlJournal(settings.journal_url)
        stack.callback(journal.dispose)
        stack.callback(telemetry.flush)
        parts = parts_of(settings, client=client, journal=journal, notify=notify, telemetry=telemetry)
        await stack.enter_async_context(running_worker(parts))
        doors = build_doors(
            settings, client=client, telemetry=telemetry, notify=notify, journal=journal, fleet=fleet, policy=policy
        )
        if not stop.is_set():
            server = uvicorn.Server(door(doors, settings.intake.host, settings.intake.port))
            await server.serve()  # takes the signals over while it serves, and gives them back to us


def main() -> None:
    """Serves until it is told to stop, and ends the process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs URLs, and a webhook's URL is a secret
    leave(lambda: serving(serve(load())))


if __name__ == "__main__":
    main()
