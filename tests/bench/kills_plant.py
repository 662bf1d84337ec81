"""The real processes that a storm of kills goes over: Temporal on a file, intake, worker, one Envoy, and engines.

Server, worker and intake are each kept: whoever ends one, the next is started at once. Envoy and the engines are the world
and are not killed here: Envoy is the witness that counts every act.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal

import httpx
from temporalio.client import Client

from runbooks.fleet import Fleet
from tests import lab as labs
from tests.bench import kills_intake
from tests.bench.kills_faults import Fault, Line, full, small_disk, stopped
from tests.bench.kills_kept import Kept, end, run
from tests.bench.kills_site import READY, engines, fleet_of, intake_settings, port_of, server, write_job
from tests.crash import worker_process
from tests.ports import free_port
from worker.edge import envoy_command, write_edge
from worker.plugin import interlock_plugin

Kind = Literal["worker", "intake", "temporal"]
WARM = 12
"""Requests that each pool must have served before anything is broken: without any, no gate knows the load."""
_COUNTERS = r"cluster\..*\.(update_success|upstream_rq_2xx)"


@dataclass
class Plant:
    """Handles to everything. `lowest`: pool → the fewest endpoints that Envoy ever had in rotation."""

    folder: Path
    fleet: Fleet
    admin: str
    url: str
    client: Client
    http: httpx.AsyncClient
    kept: dict[Kind, Kept]
    ill: Callable[[], AbstractContextManager[None]] = nullcontext
    """While this lasts, the fault that the plant was made for is there."""
    lowest: dict[str, int] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)

    @property
    def domains(self) -> tuple[str, ...]:
        """One pool and one route each."""
        return tuple(p.cluster for p in self.fleet.pools)

    async def counted(self, name: str) -> dict[str, int]:
        """Pool → one of Envoy's counters since it started. `update_success`: changes of its endpoints taken in."""
        text = (await self.http.get(f"{self.admin}/stats", params={"filter": _COUNTERS})).text
        pairs = (line.split(": ") for line in text.splitlines() if ": " in line)
        return {k.split(".")[1]: int(v) for k, v in pairs if k.endswith(f".{name}")}

    async def rotation(self) -> dict[str, int]:
        """Pool → endpoints in rotation, by Envoy's own word."""
        found = (await self.http.get(f"{self.admin}/clusters?format=json")).json()
        pools = {p.name for p in self.fleet.pools}
        return {c["name"]: len(c.get("host_statuses", [])) for c in found["cluster_statuses"] if c["name"] in pools}

    async def hang(self, address: str, hangs: bool) -> None:
        """Begins or ends it: the engine takes requests and makes no token; its metrics can be read."""
        (await self.http.post(f"http://{address}/admin/fault", json={"hang": hangs})).raise_for_status()

    async def up(self) -> bool:
        """The worker polls, Temporal answers, and the intake takes alerts."""
        with contextlib.suppress(httpx.HTTPError):
            taking = (await self.http.get(f"{self.url}/readyz")).status_code == 200
            return taking and self.kept["worker"].running and (self.folder / READY).exists()
        return False


@asynccontextmanager
async def running_plant(folder: Path, domains: int, fault: Fault | None = None) -> AsyncIterator[Plant]:
    """All of it, warm: each pool has served some load, the worker polls, the intake is ready. `fault`: see `Plant.ill`."""
    async with AsyncExitStack() as stack:
        fleet = fleet_of(domains)
        admin, front, url = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        boot = write_edge(
            fleet, folder / "edge", admin_port=port_of(admin), listen_port=port_of(front),
            weights={r.name: {r.pools[0]: 100} for r in fleet.routes}, route_timeout_s=1.5,
        )  # fmt: skip
        envoy = run(envoy_command(boot), folder / "envoy.log", cwd=folder / "edge")
        stack.callback(end, envoy)
        stack.callback(end, run(engines(fleet, front), folder / "engines.log"))
        port = free_port()
        temporal = Kept(lambda: run(server(folder, port), folder / "temporal.log"))
        await _keep(stack, temporal)
        client = await _connected(f"127.0.0.1:{port}")
        kills_intake.warm_up()
        told = port
        ill: Callable[[], AbstractContextManager[None]] = nullcontext
        if fault == "envoy-dead":
            ill = partial(stopped, envoy)
        elif fault == "journal-full":
            stack.enter_context(small_disk(folder / "disk"))
            (folder / "journal.db").symlink_to(folder / "disk" / "journal.db")
            ill = partial(full, folder / "disk")
        elif fault == "slow-temporal":
            line = Line(target=port, port=free_port())
            stack.callback((await line.open()).close)
            told, ill = line.port, line.slow
        job = write_job(folder, fleet, admin, front, f"127.0.0.1:{told}")
        settings = intake_settings(folder, fleet, url, told)
        worker = Kept(lambda: _worker(job, folder))
        intake = Kept(lambda: kills_intake.start(settings, folder / "intake.log"))
        await _keep(stack, worker)
        await _keep(stack, intake)
        http = await stack.enter_async_context(
            httpx.AsyncClient(timeout=15, trust_env=False, limits=httpx.Limits(max_connections=64))
        )
        plant = Plant(
            folder, fleet, admin, url, client, http, {"worker": worker, "intake": intake, "temporal": temporal}, ill
        )
        await labs.until(plant.up, "worker and intake are up", 90)
        await labs.until(lambda: _warm(plant), "every pool has served", 60)
        plant.before = await plant.counted("update_success")
        stack.push_async_callback(_cancelled, asyncio.create_task(_watch(plant)))
        yield plant


async def _connected(address: str) -> Client:
    while True:
        with contextlib.suppress(RuntimeError):  # not there yet
            return await Client.connect(address, plugins=[interlock_plugin()])
        await asyncio.sleep(0.1)


def _worker(job: Path, folder: Path) -> ForkServerProcess:
    (folder / READY).unlink(missing_ok=True)
    return worker_process.start(job, folder / "worker.log")


async def _watch(plant: Plant) -> None:
    """Design 8, invariant 4, looked at all the time."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            for pool, count in (await plant.rotation()).items():
                plant.lowest[pool] = min(plant.lowest.get(pool, count), count)
        await asyncio.sleep(0.2)


async def _warm(plant: Plant) -> bool:
    served = await plant.counted("upstream_rq_2xx")
    return all(served.get(p.name, 0) >= WARM for p in plant.fleet.pools)


async def _keep(stack: AsyncExitStack, one: Kept) -> None:
    stack.callback(one.reap)
    stack.push_async_callback(_cancelled, asyncio.create_task(one.keep()))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    (found,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(found, Exception):
        raise found


__all__ = ["Kind", "Plant", "running_plant"]
