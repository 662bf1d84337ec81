"""Many servers asked through one client: none waits for another."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx

from activities.adapters.origins import PerOrigin
from activities.adapters.probe import HttpProber
from activities.adapters.scrape import ScrapeSource
from activities.adapters.watch import PoolWatcher
from runbooks.fleet import Endpoint, Fleet, Pool
from tests.bench.contestant import until
from tests.bench.wire import serve
from worker.demo.processes import free_ports

MOST = 100
"""Connections of one pool of httpx."""


async def test_a_hung_server_takes_no_connection_from_another() -> None:
    """A hundred requests that hang at one server, and the next server is asked at once, over a connection that is kept."""
    hung, well = free_ports(2)
    inside, over = 0, asyncio.Event()
    open_ones: set[Any] = set()

    async def hang(method: str, path: str, body: bytes) -> tuple[int, Any]:
        nonlocal inside
        inside += 1
        await over.wait()
        return 200, "late"

    async def answer(method: str, path: str, body: bytes) -> tuple[int, Any]:
        return 200, "at once"

    http = httpx.AsyncClient(trust_env=False, timeout=30, transport=PerOrigin())
    async with await serve(hung, hang), await serve(well, answer), http:
        waiting = [asyncio.create_task(http.get(f"http://127.0.0.1:{hung}/")) for _ in range(MOST)]

        async def all_hang() -> bool:
            return inside == MOST

        assert await until(all_hang, 30)
        for _ in range(2):
            found = await http.get(f"http://127.0.0.1:{well}/", timeout=httpx.Timeout(30, pool=5))
            assert found.json() == "at once"
            open_ones.add(found.extensions["network_stream"].get_extra_info("client_addr"))
        over.set()
        assert {(await one).json() for one in waiting} == {"late"}

    assert len(open_ones) == 1


async def test_an_engine_that_serves_in_many_pools_is_looked_at_once_a_beat() -> None:
    """Looks are real generations: twenty pools of one engine must not be twenty probes a second."""
    (port,) = free_ports(1)
    probed: list[float] = []

    async def engine(method: str, path: str, body: bytes) -> tuple[int, Any]:
        if method == "POST":
            probed.append(time.monotonic())
        return 200, {"choices": [{"text": "one"}], "usage": {"completion_tokens": 1}}

    address = f"127.0.0.1:{port}"
    one = {"cluster": "c", "dialect": "vllm", "tokens_per_second": 10, "endpoints": (Endpoint(address=address),)}
    fleet = Fleet(routes=(), pools=tuple(Pool.model_validate({"name": f"p{n}", **one}) for n in range(20)))
    async with await serve(port, engine), httpx.AsyncClient(trust_env=False, transport=PerOrigin()) as http:
        prober = HttpProber(fleet, http, {})
        async with PoolWatcher(fleet, prober, ScrapeSource(http), period_s=0.5):

            async def thrice() -> bool:
                return len(probed) >= 3

            assert await until(thrice, 30)

    assert probed[2] - probed[0] > 0.9
