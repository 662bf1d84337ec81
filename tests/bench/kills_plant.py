"""The real processes that a storm of kills goes over: Temporal on a file, intake, worker, one Envoy, and engines.

Server, worker and intake are each kept: whoever ends one, the next is started at once. Envoy and the engines are the world
and are not killed here: Envoy is the witness that counts every act.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal

import httpx
from temporalio.client import Client

from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from runbooks.policy import ClassPolicy
from tests import lab as labs
from tests.bench import kills_intake
from tests.bench.field import MODEL, TOKENS_PER_SECOND
from tests.bench.kills_faults import Fault, Line, full, small_disk, stopped
from tests.bench.kills_kept import Kept, end, run
from tests.crash import worker_process
from tests.crash.cases import story
from tests.crash.worker_process import Job
from tests.ports import free_port
from worker.edge import envoy_command, write_edge
from worker.identity import ensure_claim_key
from worker.plugin import interlock_plugin
from worker.temporal import SEARCH_ATTRIBUTES

Kind = Literal["worker", "intake", "temporal"]
TOKEN = "storm-of-kills-detector-token"
PER_POOL = 3
READY = "worker.ready"
UNANSWERED_S = 5.0
"""Until an approval that nobody gives has expired."""
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
        fleet = _fleet(domains)
        admin, front, url = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        boot = write_edge(
            fleet, folder / "edge", admin_port=_port(admin), listen_port=_port(front),
            weights={r.name: {r.pools[0]: 100} for r in fleet.routes}, route_timeout_s=1.5,
        )  # fmt: skip
        envoy = run(envoy_command(boot), folder / "envoy.log", cwd=folder / "edge")
        stack.callback(end, envoy)
        stack.callback(end, run(_field(fleet, front), folder / "engines.log"))
        port = free_port()
        temporal = Kept(lambda: run(_server(folder, port), folder / "temporal.log"))
        await _keep(stack, temporal)
        client = await _connected(f"127.0.0.1:{port}")
        kills_intake.warm_up()
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
            port, ill = line.port, line.slow
        job = _job(folder, fleet, admin, front, f"127.0.0.1:{port}")
        settings = _settings(folder, fleet, url, port)
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


def _field(fleet: Fleet, front: str) -> list[str]:
    ports = ",".join(str(_port(e.address)) for p in fleet.pools for e in p.endpoints)
    routes = ",".join(r.name for r in fleet.routes)
    return [sys.executable, "-m", "tests.bench.field", "--ports", ports, "--front", front, "--routes", routes]


def _server(folder: Path, port: int) -> list[str]:
    words = ["--port", str(port), "--headless", "--log-level", "error", "--db-filename", str(folder / "temporal.db")]
    words += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"]
    words += ["--dynamic-config-value", 'history.timerProcessorMaxTimeShift="10ms"']
    for name in SEARCH_ATTRIBUTES:
        words += ["--search-attribute", f"{name}=Keyword"]
    return [str(Path(sys.executable).parent / "temporal"), "server", "start-dev", *words]


async def _connected(address: str) -> Client:
    while True:
        with contextlib.suppress(RuntimeError):  # not there yet
            return await Client.connect(address, plugins=[interlock_plugin()])
        await asyncio.sleep(0.1)


def _job(folder: Path, fleet: Fleet, admin: str, front: str, temporal: str) -> Path:
    one = story("isolate_endpoint")
    # Noise about a pool with a hung engine is classified as well, and nobody is here to approve what it leads to.
    soon = ClassPolicy(mode="ask", approval_ttl_s=UNANSWERED_S)
    classes = {b.failure_class: soon for b in one.library.runbooks.values()} | {"engine.hang": ClassPolicy(mode="auto")}
    job = Job(
        temporal=temporal,
        task_queue="interlock",
        fleet=fleet,
        policy=one.policy.model_copy(update={"classes": classes}),
        library=one.library,
        folder=folder,
        envoy_admin=admin,
        front=front,
        ready=folder / READY,
    )
    path = folder / "job.json"
    path.write_text(job.model_dump_json(by_alias=True))
    return path


def _settings(folder: Path, fleet: Fleet, url: str, temporal: int) -> dict[str, str]:
    (folder / "fleet.yaml").write_text(fleet.model_dump_json())
    (folder / "token").write_text(TOKEN)
    ours = {
        "TEMPORAL__ADDRESS": f"127.0.0.1:{temporal}",
        "INTAKE__PORT": str(_port(url)),
        "INTAKE__TOKEN_FILE": str(folder / "token"),
        "FLEET_FILE": str(folder / "fleet.yaml"),
        "JOURNAL_URL": f"sqlite:///{folder}/journal.db",
        "PAGES_FILE": str(folder / "pages.jsonl"),
        "CLAIM_KEY_FILE": str(ensure_claim_key(folder / "claim.key")),
    }
    return {f"INTERLOCK_{k}": v for k, v in ours.items()}


def _worker(job: Path, folder: Path) -> ForkServerProcess:
    (folder / READY).unlink(missing_ok=True)
    return worker_process.start(job, folder / "worker.log")


def _fleet(domains: int) -> Fleet:
    """A domain, a pool and a route each: what one does is not measured in another."""
    pools = tuple(
        Pool(
            name=f"pool-{n}",
            cluster=f"domain-{n}",
            dialect="vllm",
            model=MODEL,
            tokens_per_second=TOKENS_PER_SECOND,
            endpoints=tuple(Endpoint(address=f"127.0.0.1:{free_port()}") for _ in range(PER_POOL)),
        )
        for n in range(domains)
    )
    routes = tuple(Route(name=f"route-{p.name}", pools=(p.name,)) for p in pools)
    return Fleet(routes=routes, pools=pools, controls=outside(*(p.cluster for p in pools)))


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


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


async def _keep(stack: AsyncExitStack, one: Kept) -> None:
    stack.callback(one.reap)
    stack.push_async_callback(_cancelled, asyncio.create_task(one.keep()))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    (found,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(found, Exception):
        raise found


__all__ = ["PER_POOL", "TOKEN", "Kind", "Plant", "running_plant"]
