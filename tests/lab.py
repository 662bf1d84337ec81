"""A whole Interlock on loopback for tests: real Temporal, real Envoy, engines that are processes, our worker and doors.

Nothing is faked but the model inside the engines. Every child is ended by its own process object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.sql import SqlJournal
from activities.adapters.webhook import LogNotify
from activities.errors import Refused
from runbooks.claims import Action
from runbooks.detection import Detection, Target, guard_id, summary_of
from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from runbooks.guard_memory import Memory
from runbooks.library import Library, load_library
from runbooks.people import Ordered
from runbooks.policy import ClassPolicy, LeverPolicy, Policy, Timing
from tests.ports import free_port as free_port
from tests.unbounded import UNBOUNDED
from worker.commands.undo import take_back
from worker.edge import envoy_command, write_edge
from worker.identity import Person, claim_for
from worker.plugin import interlock_plugin
from worker.temporal import DEV_SERVER_ARGS, register_search_attributes
from worker.wiring import Parts, running_worker

CLUSTER = "lab"
CLAIM_KEY = b"k" * 32


FAILED = pytest.StashKey[bool]()
"""Set by tests/conftest.py for each test that failed."""


def failed(request: pytest.FixtureRequest) -> bool:
    """Whether the test of this fixture has failed."""
    return bool(request.node.stash.get(FAILED, False))


async def until(condition: Callable[[], Awaitable[Any]], what: str, deadline_s: float = 30.0) -> Any:
    """Polls until the condition is true and returns its value; fails with `what` at the deadline."""
    end = time.monotonic() + deadline_s
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.05)


def quick(library: Library) -> Library:
    """The shipped catalogue with short soaks: what is tested is the spine, not patience."""

    def faster(step: Any) -> Any:
        if step.verify is None:
            return step
        verify = step.verify.model_copy(update={"soak_s": 1.0, "every_s": 0.5, "deadline_s": 15.0, "min_samples": 2})
        restore = step.restore.model_copy(update={"clear_for_s": 1.0, "every_s": 0.5})
        return step.model_copy(update={"verify": verify, "restore": restore})

    runbooks = {
        name: book.model_copy(update={"steps": tuple(faster(s) for s in book.steps)})
        for name, book in library.runbooks.items()
    }
    return library.model_copy(update={"runbooks": runbooks})


def policy(**classes: ClassPolicy) -> Policy:
    """A policy for tests: hang auto; crash asks, and takes unverified decisions as the demo does."""
    ask = ClassPolicy(mode="ask", accept_unverified=True, approval_ttl_s=60)
    return Policy(
        name="lab",
        classes={
            "engine.hang": ClassPolicy(mode="auto"),
            "engine.crash": ask,
            "engine.timeout": ClassPolicy(mode="auto"),
            "engine.exhaustion": ClassPolicy(mode="auto"),
            **{k.replace("__", "."): v for k, v in classes.items()},
        },
        levers={
            "reroute_traffic": LeverPolicy(largest_increment=0.5, max_acts_per_hour=1000, attempts=1000),
            "shed_load": LeverPolicy(largest_increment=1.0, max_acts_per_hour=1000, attempts=1000),
            "isolate_endpoint": LeverPolicy(max_endpoints_down=1, max_acts_per_hour=1000, attempts=1000),
            "recycle_connections": LeverPolicy(max_acts_per_hour=1000, attempts=1000),
        },
        domain=UNBOUNDED,
        min_answering=0.34,
        timing=Timing(scrape_period_s=2.5, settle_s=0.2, hold_s=0.5, hold_limit_s=8, linger_s=0),
        groups={"sre-oncall": ("ana", "bo")},
    )


@dataclass
class Engine:
    """One simulated engine process."""

    port: int
    pool: str
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Hangs it: accepts, answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Ends the hang."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends the process: connections are refused."""
        self.process.kill()
        self.process.wait(10)


def start_engine(port: int, log: Path) -> subprocess.Popen[bytes]:
    """A simulated engine on a port."""
    argv = [sys.executable, "-m", "worker.engine", "--port", str(port), "--tokens-per-second", "200", "--slots", "4"]
    with log.open("ab") as out:
        return subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT)


@dataclass
class Lab:
    """Handles to everything. `folder` holds Envoy's files, the journal and the pages."""

    client: Client
    server: WorkflowEnvironment
    folder: Path
    fleet: Fleet
    engines: dict[str, Engine]
    admin: str
    front: str
    http: httpx.AsyncClient
    envoy: subprocess.Popen[bytes]
    task_queue: str = "interlock"
    failures: list[float] = field(default_factory=list)
    served: int = 0

    @property
    def journal_url(self) -> str:
        """SQLite file of this lab."""
        return f"sqlite:///{self.folder / 'journal.db'}"

    def parts(self, rules: Policy | None = None, **more: Any) -> Parts:
        """What a worker of this lab is made of."""
        return Parts(
            client=self.client,
            fleet=self.fleet,
            policy=rules or policy(),
            library=quick(load_library(None)),
            journal=SqlJournal(self.journal_url),
            notify=LogNotify(self.folder / "pages.jsonl"),
            claim_key=CLAIM_KEY,
            envoy_folder=self.folder / "edge",
            envoy_admin=self.admin,
            route_urls={"chat": self.front},
            watch_period_s=0.5,
            probe_timeout_s=0.5,
            **more,
        )

    def endpoint(self, engine: Engine) -> Target:
        """The engine as a target."""
        return Target(cluster=CLUSTER, service=engine.pool, endpoint=engine.address)

    def pool(self, name: str) -> Target:
        """A pool as a target."""
        return Target(cluster=CLUSTER, service=name)

    def hang(self, engine: Engine, **more: Any) -> Detection:
        """What the detector says about a hung engine."""
        now = datetime.now(UTC)
        told: dict[str, Any] = {
            "alert": "EngineHang",
            "target": self.endpoint(engine),
            "severity": "critical",
            "evidence": {"generations_failed": 3, "generations_ok": 0, "siblings_ok": 2, "tokens_rising": False},
            "started_at": now,
            "observed_at": now,
            "detector": "lab",
        }
        return Detection.model_validate({**told, **more})

    def lost(self, pool: str, answering: int, **more: Any) -> Detection:
        """What the detector says about a pool that lost engines."""
        now = datetime.now(UTC)
        total = len([e for e in self.engines.values() if e.pool == pool])
        told: dict[str, Any] = {
            "alert": "PoolEnginesLost",
            "target": self.pool(pool),
            "severity": "critical",
            "evidence": {"endpoints": total, "answering": answering},
            "started_at": now,
            "observed_at": now,
            "detector": "lab",
        }
        return Detection.model_validate({**told, **more})

    async def start(self, detection: Detection) -> WorkflowHandle[Any, Any]:
        """Starts or tells the Remediation as the intake does."""
        return await self.client.start_workflow(
            "Remediation",
            detection,
            id=detection.workflow_id,
            static_summary=summary_of(detection.target),
            task_queue=self.task_queue,
            start_signal="detect",
            start_signal_args=[detection],
        )

    async def resolve(self, detection: Detection) -> None:
        """The detector says that it is over."""
        now = datetime.now(UTC)
        over = detection.model_copy(update={"status": "resolved", "observed_at": now})
        await self.client.get_workflow_handle(detection.workflow_id).signal("detect", over)

    async def tidy(self) -> None:
        """After a test that failed half way: its cases are ended and what they left is taken back, or each test after it
        would fail for it."""
        running = 'WorkflowType = "Remediation" AND ExecutionStatus = "Running"'
        async for case in self.client.list_workflows(running):
            with contextlib.suppress(RPCError):  # it may have closed since
                await self.client.get_workflow_handle(case.id).terminate("tidied after a failed test")
        journal = SqlJournal(self.journal_url)
        traffic = EnvoyTraffic(self.fleet, self.folder / "edge", self.admin, self.http)
        for receipt in reversed(await journal.standing(CLUSTER)):
            with contextlib.suppress(Refused):  # taken back already, or never applied
                await take_back(traffic, receipt)
            await journal.settle(receipt.id, "undone", "tidied after a failed test")
        journal.dispose()
        await self.forget()

    async def forget(self, domain: str = CLUSTER) -> None:
        """The domain's next Guard remembers nothing, whatever this one still has under way. Only tests want that."""
        with contextlib.suppress(RPCError):  # there is none
            await self.client.get_workflow_handle(guard_id(domain)).terminate("end of the test")
        journal = SqlJournal(self.journal_url)
        # What the Guard had under way may come between; after this it comes too late.
        number, nothing = 0, Memory(domain=domain).model_dump_json()
        while (kept := await journal.remember(domain, number + 1, nothing)) != number + 1:
            number = kept
        journal.dispose()

    async def status(self, handle: WorkflowHandle[Any, Any]) -> dict[str, Any]:
        """The case's own word."""
        found: dict[str, Any] = await handle.query("status")
        return found

    async def order(self, action: Action, domain: str = CLUSTER, who: str = "ana") -> Ordered:
        """Resume or reset_breaker, as our API sends it for a verified person; what the Guard made of it."""
        claim = claim_for(Person(who, ()), CLAIM_KEY, case=guard_id(domain), action=action, reason="test")
        handle = self.client.get_workflow_handle(guard_id(domain))
        ordered: Ordered = await handle.execute_update("order", claim, result_type=Ordered)
        return ordered

    async def in_state(self, handle: WorkflowHandle[Any, Any], state: str, deadline_s: float = 30.0) -> dict[str, Any]:
        """Waits until the case is in a state."""
        last: dict[str, Any] = {}

        async def there() -> bool:
            last.update(await self.status(handle))
            return bool(last["state"] == state)

        try:
            await until(there, f"state {state}", deadline_s)
        except AssertionError as error:
            lines = "\n".join(f"{e['at'][11:23]} {e['what']}: {e['text']}" for e in last.get("timeline", []))
            raise AssertionError(f"{error}; it is {last.get('state')}:\n{lines}") from None
        return last

    async def envoy_counts(self) -> dict[str, int]:
        """Acts as Envoy counts them: updates that it took in, by file."""
        wanted = "runtime.load_success|cluster_manager.cluster_modified|cluster\\..*\\.update_success"
        text = (await self.http.get(f"{self.admin}/stats", params={"filter": wanted})).text
        pairs = (line.split(": ") for line in text.splitlines() if ": " in line)
        return {k: int(v) for k, v in pairs}

    async def rotation(self, pool: str) -> set[str]:
        """Addresses that Envoy itself counts as endpoints of the pool."""
        found = (await self.http.get(f"{self.admin}/clusters?format=json")).json()
        out = set()
        for cluster in found["cluster_statuses"]:
            if cluster["name"] == pool:
                for host in cluster.get("host_statuses", []):
                    a = host["address"]["socket_address"]
                    out.add(f"{a['address']}:{a['port_value']}")
        return out

    def pages(self) -> list[dict[str, Any]]:
        """What people were told."""
        path = self.folder / "pages.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def heal(self) -> None:
        """All engines alive and going, for the next test."""
        for engine in self.engines.values():
            if engine.process.poll() is None:
                engine.go_on()
            else:
                engine.process = start_engine(engine.port, self.folder / f"engine-{engine.port}.log")
        for engine in self.engines.values():
            await until(lambda e=engine: answers(self.http, e), f"engine {engine.address} answers")  # type: ignore[misc]


async def answers(http: httpx.AsyncClient, engine: Engine) -> bool:
    """True when the engine is up."""
    try:
        return (await http.get(f"http://{engine.address}/health", timeout=1)).status_code == 200
    except httpx.HTTPError:
        return False


@asynccontextmanager
async def temporal_server(folder: Path, *more: str, ui_port: int | None = None) -> AsyncIterator[WorkflowEnvironment]:
    """A real dev server on a file, with our search attributes and timers that fire on time; with the UI on `ui_port`."""
    server = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sys.executable).parent / "temporal"),
        dev_server_log_level="error",
        dev_server_database_filename=str(folder / "temporal.db"),
        dev_server_extra_args=[*DEV_SERVER_ARGS, *more],
        ui=ui_port is not None,
        ui_port=ui_port,
        plugins=[interlock_plugin()],
    )  # fmt: skip
    try:
        await register_search_attributes(server.client)
        yield server
    finally:
        await server.shutdown()


@asynccontextmanager
async def running_lab(
    folder: Path, server: WorkflowEnvironment, per_pool: int = 3, load: float = 10.0
) -> AsyncIterator[Lab]:
    """The lab with a steady load through Envoy, `load` requests per second."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        engines: dict[str, Engine] = {}
        for pool in ("chat-a", "chat-b"):
            for n in range(per_pool):
                port = free_port()
                process = start_engine(port, folder / f"engine-{port}.log")
                engine = Engine(port, pool, process)
                stack.callback(_end, engine)
                engines[f"{pool[-1]}{n}"] = engine
        fleet = Fleet(
            routes=(Route(name="chat", pools=("chat-a", "chat-b"), tiers=("batch", "paid")),),
            pools=tuple(
                Pool(
                    name=pool,
                    cluster=CLUSTER,
                    dialect="vllm",
                    model="smollm2",
                    tokens_per_second=200,
                    endpoints=tuple(Endpoint(address=e.address) for e in engines.values() if e.pool == pool),
                )
                for pool in ("chat-a", "chat-b")
            ),
            controls=outside(CLUSTER),
        )
        admin_port, front_port = free_port(), free_port()
        boot = write_edge(
            fleet,
            folder / "edge",
            admin_port=admin_port,
            listen_port=front_port,
            weights={"chat": {"chat-a": 50, "chat-b": 50}},
            route_timeout_s=1.5,
        )
        with (folder / "envoy.log").open("ab") as out:
            envoy = subprocess.Popen(envoy_command(boot), stderr=out, cwd=folder / "edge")
        stack.callback(_end_process, envoy)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))
        lab = Lab(
            client=server.client,
            server=server,
            folder=folder,
            fleet=fleet,
            engines=engines,
            admin=f"http://127.0.0.1:{admin_port}",
            front=f"http://127.0.0.1:{front_port}",
            http=http,
            envoy=envoy,
        )
        await lab.heal()

        async def ready() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return bool((await http.get(f"{lab.admin}/ready")).text.strip() == "LIVE")
            return False

        await until(ready, "Envoy is live")
        task = asyncio.create_task(_load(lab, load))
        try:
            yield lab
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _end(engine: Engine) -> None:
    if engine.process.poll() is None:
        engine.process.kill()
    engine.process.wait(10)


def _end_process(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait(10)


async def _load(lab: Lab, per_second: float) -> None:
    body = {"model": "smollm2", "prompt": "hello", "max_tokens": 4}
    running: set[asyncio.Task[None]] = set()

    async def one() -> None:
        try:
            answer = await lab.http.post(f"{lab.front}/v1/completions", json=body, timeout=3)
            ok = answer.status_code == 200
        except httpx.HTTPError:
            ok = False
        lab.served += ok
        if not ok:
            lab.failures.append(time.time())

    while True:
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(1 / per_second)


__all__ = [
    "CLAIM_KEY",
    "CLUSTER",
    "Engine",
    "Lab",
    "policy",
    "running_lab",
    "running_worker",
    "temporal_server",
    "until",
]
