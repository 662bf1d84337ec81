"""`interlock worker`: runs the workflows and activities. Run as many as you like against one Temporal."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack

import typer

from activities.adapters.sql import SqlJournal
from worker.clusters import clusters_of
from worker.doors import fleet_of, notify_of
from worker.parts import parts_of
from worker.plugin import interlock_plugin
from worker.settings import Settings, load
from worker.telemetry import setup
from worker.temporal import connect, register_search_attributes
from worker.wiring import running_worker

app = typer.Typer()


@app.command()
def worker() -> None:
    """Run the workflows and activities until SIGTERM or Ctrl-C; what is under way goes on in another worker."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs URLs, and a webhook's URL is a secret
    asyncio.run(_run(load()))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    telemetry = setup(settings.otlp_endpoint, service="interlock-worker")
    async with AsyncExitStack() as stack:
        notify = await stack.enter_async_context(notify_of(settings))
        client = await connect(settings.temporal, plugins=[telemetry.plugin, interlock_plugin()])
        await register_search_attributes(client)
        journal = SqlJournal(settings.journal_url)
        stack.callback(journal.dispose)
        stack.callback(telemetry.flush)
        clusters = await stack.enter_async_context(clusters_of(settings.kubernetes, fleet_of(settings)))
        parts = parts_of(
            settings, client=client, journal=journal, notify=notify, telemetry=telemetry, clusters=clusters
        )
        async with running_worker(parts):
            logging.getLogger(__name__).info("polling %s on %s", parts.task_queue, settings.temporal.address)
            await stop.wait()
