"""`interlock worker`: runs the workflows and activities. Run as many as you like against one Temporal."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import typer

from activities.adapters.sql import SqlJournal
from runbooks.detection import node_queue
from worker.clusters import clusters_of, say_what_is_missing
from worker.doors import fleet_of, notify_of
from worker.node import actuator_of, node_of
from worker.parts import parts_of
from worker.plugin import interlock_plugin
from worker.serving import serving
from worker.settings import BadSettings, Settings, load
from worker.telemetry import setup
from worker.temporal import connect, metrics_runtime, register_search_attributes
from worker.versions import say_whether_current
from worker.wiring import running_node_worker, running_worker

app = typer.Typer()


@app.command()
def worker(
    node: Annotated[
        str, typer.Option(help="Be the hands of this node of the fleet: run it on the node itself, one per node.")
    ] = "",
    bmc: Annotated[
        bool, typer.Option("--bmc", help="With --node: restart it by its BMC (Redfish), from any machine.")
    ] = False,
) -> None:
    """Run the workflows and activities until SIGTERM or Ctrl-C; what is under way goes on in another worker."""
    if bmc and not node:
        raise typer.BadParameter("--bmc goes with --node")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs URLs, and a webhook's URL is a secret
    if node:
        asyncio.run(_run(load(), node, bmc))  # its hands run commands, which uvloop does otherwise (worker/serving.py)
    else:
        serving(_run(load(), node, bmc))


async def _run(settings: Settings, node: str, bmc: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    telemetry = setup(settings.otlp_endpoint, service="interlock-worker")
    async with AsyncExitStack() as stack:
        if node:
            polled = await stack.enter_async_context(_node_worker(settings, node, bmc))
            logging.getLogger(__name__).info("polling %s on %s", polled, settings.temporal.address)
            await stop.wait()
            return
        fleet = fleet_of(settings)  # files first: a mistake in one is not hidden by a server that is away
        clusters = await stack.enter_async_context(clusters_of(settings.kubernetes, fleet))
        notify = await stack.enter_async_context(notify_of(settings))
        client = await connect(
            settings.temporal,
            plugins=[telemetry.plugin, interlock_plugin()],
            runtime=metrics_runtime(settings.temporal),
        )
        await register_search_attributes(client)
        journal = SqlJournal(settings.journal_url)
        stack.callback(journal.dispose)
        stack.callback(telemetry.flush)
        await say_what_is_missing(clusters, fleet)
        parts = parts_of(
            settings, client=client, journal=journal, notify=notify, telemetry=telemetry, clusters=clusters
        )
        async with running_worker(parts):
            logging.getLogger(__name__).info("polling %s on %s", parts.task_queue, settings.temporal.address)
            await say_whether_current(client, parts.version)
            await stop.wait()


@asynccontextmanager
async def _node_worker(settings: Settings, name: str, bmc: bool) -> AsyncIterator[str]:
    """The hands of one node; gives the queue that is polled."""
    fleet = fleet_of(settings)
    node = node_of(fleet, name)
    async with AsyncExitStack() as stack:
        clusters = await stack.enter_async_context(clusters_of(settings.kubernetes, fleet))
        if clusters.apis is None or node.cluster not in clusters.apis:
            raise BadSettings(f"INTERLOCK_KUBERNETES__KUBECONFIGS has no {node.cluster}: the node's own cluster")
        api = clusters.apis[node.cluster]
        actuator = await stack.enter_async_context(actuator_of(settings, fleet, node, api, bmc))
        client = await connect(
            settings.temporal, plugins=[interlock_plugin()], runtime=metrics_runtime(settings.temporal)
        )
        journal = SqlJournal(settings.journal_url)
        stack.callback(journal.dispose)
        await stack.enter_async_context(running_node_worker(client, name, actuator, journal))
        yield node_queue(name)
