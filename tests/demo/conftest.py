"""Real simulated engines and a real Envoy in front of them, for the demo's parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from runbooks.fleet import Fleet
from worker.demo.engines import Engines
from worker.demo.processes import ProcessTree, free_ports
from worker.edge import envoy_command, write_edge


async def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until the condition holds; the test fails with `what` when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.05)


class Plant:
    """Engines, their fleet, and the proxy's address."""

    def __init__(self, engines: Engines, fleet: Fleet, url: str, tree: ProcessTree) -> None:
        self.engines, self.fleet, self.url, self.tree = engines, fleet, url, tree


@pytest.fixture(scope="session")
async def plant(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plant]:
    """Two pools of three simulated engines behind Envoy, shared by the tests of this folder."""
    folder: Path = tmp_path_factory.mktemp("demo")
    with ProcessTree(folder) as tree:
        engines = Engines(tree, "simulated")
        fleet = await engines.start()
        admin, listen = free_ports(2)
        bootstrap = write_edge(
            fleet, folder / "edge", admin_port=admin, listen_port=listen, weights={"chat": {"chat-a": 50, "chat-b": 50}}
        )
        envoy = tree.start("envoy", envoy_command(bootstrap))
        async with httpx.AsyncClient(trust_env=False) as http:

            async def live() -> bool:
                try:
                    return (await http.get(f"http://127.0.0.1:{admin}/ready")).status_code == 200
                except httpx.HTTPError:
                    return False

            await tree.ready(envoy, live)
        yield Plant(engines, fleet, f"http://127.0.0.1:{listen}", tree)
