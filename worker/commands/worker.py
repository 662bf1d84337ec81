"""`interlock worker`: runs the workflows and activities. Run as many as you like against one Temporal."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import typer

from activities.adapters.sql import SqlJournal
from runbooks.library import load_library
from worker.doors import fleet_of, notify_of, policy_of
from worker.plugin import interlock_plugin
from worker.settings import BadSettings, Settings, load
from worker.telemetry import setup
from worker.telemetry_record import recorder
from worker.temporal import connect, register_search_attributes
from worker.wiring import Parts, running_worker

app = typer.Typer()


@app.command()
def worker() -> None:
    """Run the workflows and activities until SIGTERM or Ctrl-C; what is under way goes on in another worker."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs URLs, and a webhook's URL is a secret
    asyncio.run(_run(load()))


def envoy_of(settings: Settings) -> tuple[Path, str]:
    """Folder and admin URL of the edge. BadSettings when one is missing: there is no default place to change traffic."""
    if settings.envoy.folder is None:
        raise BadSettings("INTERLOCK_ENVOY__FOLDER is not set: name the folder of Envoy's xDS files")
    if settings.envoy.admin_url is None:
        raise BadSettings("INTERLOCK_ENVOY__ADMIN_URL is not set: acts are read back there")
    return settings.envoy.folder, settings.envoy.admin_url


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
        folder, admin = envoy_of(settings)
        parts = Parts(
            client=client,
            fleet=fleet_of(settings),
            policy=policy_of(settings),
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
        async with running_worker(parts):
            logging.getLogger(__name__).info("polling %s on %s", parts.task_queue, settings.temporal.address)
            await stop.wait()
