"""Interlock's processes as they are shipped, but for one thing: the write to Envoy tells the benchmark's sink.

    python -m tests.bench.product embedded|worker     (the intake of the production profile is `interlock intake` itself)

The call to the sink is made where the act is: after permit, fence and the last look, right behind the move of the file into
place. Nobody else's action is preceded by so much. Before the move it would be the announcement of an act: a worker that was
killed between the two had told the sink of one that was never made, and of the one that its successor made after reading back.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

import httpx
import uvicorn
from temporalio.client import Client

from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.envoy_files import FENCE_FILE, EdgeFolder
from activities.adapters.sql import SqlJournal
from activities.ports import Notify, Snapshot
from runbooks.change import Change, Permit
from runbooks.fleet import Fleet
from worker.doors import build_doors, fleet_of, notify_of, policy_of
from worker.leave import leave
from worker.parts import parts_of
from worker.plugin import interlock_plugin
from worker.serving import door, serving
from worker.settings import Settings, load
from worker.telemetry import Telemetry, setup
from worker.temporal import connect, register_search_attributes
from worker.wiring import Parts, running_worker

_doing: ContextVar[tuple[Change, Permit]] = ContextVar("doing")


class SinkFolder(EdgeFolder):
    """Envoy's files, whose moves are told to the sink. Runs in a worker thread, as all file work does."""

    def __init__(self, path: Path, sink_port: int) -> None:
        super().__init__(path)
        self._port = sink_port

    def commit(self, name: str) -> None:
        """The act, and one HTTP call about it. The fence is a file too, but nothing outside reads it: it is no act."""
        super().commit(name)
        if name == FENCE_FILE:
            return
        change, permit = _doing.get()
        ((key, value),) = change.after.items()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        body = json.dumps({"key": f"{key}={value}", "what": permit.id})
        connection.request("POST", "/act", body, {"content-type": "application/json"})
        connection.getresponse().read()
        connection.close()


class SinkTraffic(EnvoyTraffic):
    """Envoy, observed."""

    def __init__(self, fleet: Fleet, folder: Path, admin_url: str, client: httpx.AsyncClient, sink_port: int) -> None:
        super().__init__(fleet, folder, admin_url, client)
        self._folder = SinkFolder(folder, sink_port)

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """As Envoy's."""
        _doing.set((change, permit))
        return await super().swap(change, permit)


@asynccontextmanager
async def watched(
    settings: Settings, client: Client, journal: SqlJournal, notify: Notify, telemetry: Telemetry
) -> AsyncIterator[Parts]:
    """The shipped parts, with the traffic that tells the sink."""
    parts = parts_of(settings, client=client, journal=journal, notify=notify, telemetry=telemetry)
    if parts.envoy_folder is None:
        raise SystemExit("INTERLOCK_ENVOY__FOLDER is not set")
    async with httpx.AsyncClient(timeout=5, trust_env=False) as admin:
        sink_port = int(os.environ["BENCH_SINK_PORT"])
        traffic = SinkTraffic(parts.fleet, parts.envoy_folder, parts.envoy_admin, admin, sink_port)
        yield replace(parts, routes=traffic)


async def serve(settings: Settings, doors: bool) -> None:
    """As worker/demo/embedded.py; without doors as `interlock worker`."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    telemetry = setup(settings.otlp_endpoint, service="interlock" if doors else "interlock-worker")
    async with AsyncExitStack() as stack:
        notify = await stack.enter_async_context(notify_of(settings))
        client = await connect(settings.temporal, plugins=[telemetry.plugin, interlock_plugin()])
        await register_search_attributes(client)
        journal = SqlJournal(settings.journal_url)
        stack.callback(journal.dispose)
        stack.callback(telemetry.flush)
        parts = await stack.enter_async_context(watched(settings, client, journal, notify, telemetry))
        await stack.enter_async_context(running_worker(parts))
        logging.getLogger(__name__).info("polling %s", parts.task_queue)
        if not doors:
            await stop.wait()
            return
        app = build_doors(
            settings, client=client, telemetry=telemetry, notify=notify, journal=journal,
            fleet=fleet_of(settings), policy=policy_of(settings),
        )  # fmt: skip
        place = settings.intake
        if not stop.is_set():
            await uvicorn.Server(door(app, place.host, place.port)).serve()


def main() -> None:
    """As the embedded profile's."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    leave(lambda: serving(serve(load(), doors=sys.argv[1] == "embedded")))


if __name__ == "__main__":
    main()
