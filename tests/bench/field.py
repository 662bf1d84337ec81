"""The engines of the benchmark in one process, on a port each or one at several addresses, and the steady load that users make.

    python -m tests.bench.field --ports 7001,127.1.0.1:7002 --front http://127.0.0.1:P --routes r0,r1 --per-route 5

Each is `worker.engine`'s own app: real HTTP, a real queue, real metrics, and a hang by POST /admin/fault {"hang": true}.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import uvicorn
from starlette.types import Receive, Scope, Send

from tests.bench.wire import Connection
from worker.engine import EngineApp
from worker.engine_core import Simulation

TOKENS_PER_SECOND, SLOTS, MODEL = 400.0, 16, "smollm2"
"""Fast and wide: sixteen callers that hang in an engine must not stop the next probe from being accepted."""
BODY = json.dumps({"model": MODEL, "prompt": "Count: one,", "max_tokens": 2}).encode()


async def _load(front: str, route: str, per_second: float, offset: float) -> None:
    place = urlsplit(front)
    await asyncio.sleep(offset)

    async def one() -> None:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            async with asyncio.timeout(3), Connection(place.hostname or "", place.port or 0) as connection:
                await connection.ask("POST", "/v1/completions", BODY, f"x-route: {route}\r\nconnection: close\r\n")

    running = set[asyncio.Task[None]]()
    while True:
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(1 / per_second)


async def _main(places: Sequence[tuple[str, int]], front: str, routes: Sequence[str], per_route: float) -> None:
    apps = {p: EngineApp(Simulation(TOKENS_PER_SECOND, SLOTS), MODEL, "vllm").asgi for _, p in places}

    async def by_port(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[scope["server"][1]](scope, receive, send)

    sockets = []
    for place in places:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        sockets.append(listening)
    config = uvicorn.Config(by_port, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    loads = [asyncio.create_task(_load(front, r, per_route, n / len(routes))) for n, r in enumerate(routes)]
    await uvicorn.Server(config).serve(sockets=sockets)
    for load in loads:
        load.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ports", required=True)
    parser.add_argument("--front", required=True)
    parser.add_argument("--routes", required=True)
    parser.add_argument("--per-route", type=float, default=5.0)
    told = parser.parse_args()
    places = [p.rpartition(":") for p in told.ports.split(",")]
    asyncio.run(
        _main(
            [(host or "127.0.0.1", int(port)) for host, _, port in places],
            told.front,
            told.routes.split(","),
            told.per_route,
        )
    )
