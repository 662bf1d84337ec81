"""Interlock as a contestant: embedded in one process, or as in production with intake and worker apart.

The demo's policy, every gate, facts over HTTP, the Guard, a real Envoy and a real Temporal server on a file.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from tests.bench.alerts import Alert
from tests.bench.contestant import CannotRun, SinkView, Target, kill_all, until
from tests.bench.field import MODEL, TOKENS_PER_SECOND
from tests.bench.sender import Door, Sent, send
from tests.bench.wire import Connection
from worker.demo.interlock import write_policy
from worker.demo.plant import start_temporal, temporal_ready
from worker.demo.processes import Child, ProcessTree, free_ports
from worker.edge import envoy_command, write_edge
from worker.identity import ensure_claim_key
from worker.settings import CATALOG

BUILD = ("interlock", "bench")
"""Worker deployment and build of the production profile."""
SHOWN_S = 4.0
"""A fault is there this long before its alert: three failed generations of a detector, and two looks of the watcher."""
SETTLED_S = 150.0


class Interlock:
    """One profile. `domains` clusters of three engines each; a fault is in one engine of a cluster at a time."""

    per_route = 5.0
    """Requests/s that users make on each route."""

    def __init__(self, tree: ProcessTree, *, production: bool, domains: int, otlp: str = "") -> None:
        self.tree, self._production, self._otlp = tree, production, otlp
        self.name = "Interlock, production" if production else "Interlock, embedded"
        self.version = _version()
        ports = free_ports(3 * domains)
        self.targets = [Target(f"c{n // 3}", f"p{n // 3}", f"127.0.0.1:{port}") for n, port in enumerate(ports)]
        self.settings: tuple[str, ...] = (
            "policy of the demo; soak 2 s and restore after 2 s clear (shipped: 6 s, 20 s), both after the act",
            f"{domains} domains of 3 engines, each with 5 requests/s of load through Envoy",
            "Temporal dev server, SQLite WAL, synchronous=normal",
            "intake and worker as two processes, no eager start, worker versioning (cases pinned)"
            if production
            else "one process, eager start",
        )
        self._children: list[Child] = []
        self._armed: set[str] = set()
        self._turns: dict[str, int] = {}
        self._ready: asyncio.Queue[Target] = asyncio.Queue()
        self._jobs: set[asyncio.Task[None]] = set()

    async def start(self, sink: int) -> None:
        """Temporal, engines, Envoy, and then its own processes."""
        self._sink = SinkView(sink)
        tree, folder = self.tree, self.tree.folder
        temporal, address, ui = start_temporal(tree)
        fleet = self._fleet()
        admin, front, self._port = free_ports(3)
        routes = [r.name for r in fleet.routes]
        ports = ",".join(self._listens())
        argv = ["-m", "tests.bench.field", "--ports", ports, "--front", f"http://127.0.0.1:{front}"]
        argv += ["--per-route", str(self.per_route)]
        tree.start("field", [sys.executable, *argv, "--routes", ",".join(routes)])
        weights = {r.name: dict.fromkeys(r.pools, 100) for r in fleet.routes}
        boot = write_edge(
            fleet, folder / "edge", admin_port=admin, listen_port=front, weights=weights, route_timeout_s=1.5
        )
        envoy = tree.start("envoy", envoy_command(boot))
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            await temporal_ready(tree, temporal, ui, http)
            await tree.ready(envoy, lambda: _answers(http, f"http://127.0.0.1:{admin}/ready"))
        (folder / "fleet.yaml").write_text(yaml.safe_dump(fleet.model_dump(mode="json"), sort_keys=False))
        write_policy(folder / "policy.yaml", "demo")
        _catalogue(folder / "catalog")
        token = secrets.token_urlsafe(16)
        self.door = Door(self._port, "/v1/alerts/alertmanager", f"authorization: Bearer {token}\r\n")
        self.address, self.journal = address, folder / "journal.db"
        self._env = {
            "INTERLOCK_TEMPORAL__ADDRESS": address,
            "INTERLOCK_TEMPORAL__EAGER": "false" if self._production else "true",
            "INTERLOCK_INTAKE__PORT": str(self._port),
            "INTERLOCK_INTAKE__TOKEN": token,
            "INTERLOCK_CLAIM_KEY_FILE": str(ensure_claim_key(folder / "claim.key")),
            "INTERLOCK_ENVOY__FOLDER": str(folder / "edge"),
            "INTERLOCK_ENVOY__ADMIN_URL": f"http://127.0.0.1:{admin}",
            "INTERLOCK_ROUTE_URLS": json.dumps(dict.fromkeys(routes, f"http://127.0.0.1:{front}")),
            "INTERLOCK_FLEET_FILE": str(folder / "fleet.yaml"),
            "INTERLOCK_POLICY_FILE": str(folder / "policy.yaml"),
            "INTERLOCK_CATALOG_DIR": str(folder / "catalog"),
            "INTERLOCK_JOURNAL_URL": f"sqlite:///{self.journal}",
            "INTERLOCK_PAGES_FILE": str(folder / "pages.log"),
            "BENCH_SINK_PORT": str(sink),
            **(
                {"INTERLOCK_TEMPORAL__DEPLOYMENT": BUILD[0], "INTERLOCK_TEMPORAL__BUILD_ID": BUILD[1]}
                if self._production
                else {}
            ),
            **({"INTERLOCK_OTLP_ENDPOINT": self._otlp} if self._otlp else {}),
        }
        await self.again()

    async def again(self) -> None:
        """Its own processes; what they depend on runs already."""
        part = "worker" if self._production else "embedded"
        self._children = [self.tree.start(part, [sys.executable, "-m", "tests.bench.product", part], env=self._env)]
        if self._production:
            argv = [sys.executable, "-m", "worker", "intake"]
            env = {k: v for k, v in self._env.items() if not k.startswith("BENCH_")}
            self._children.append(self.tree.start("intake", argv, env=env))
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            url = f"http://127.0.0.1:{self._port}/readyz"
            await self.tree.ready(self._children[-1], lambda: _answers(http, url), timeout_s=90)

            async def polls() -> bool:
                return "polling" in self._children[0].log.read_text()

            await self.tree.ready(self._children[0], polls, timeout_s=90)
        if self._production:
            await promoted(self.address)

    def kill(self) -> None:
        """Worker and intake at once. Temporal and the journal's file stay, as they would on other machines."""
        for child in self._children:
            kill_all(child, self.tree)

    async def next(self) -> Target:
        """The engine that has been sick the longest; each domain has its next one as soon as its last case is closed."""
        for domain in dict.fromkeys(t.cluster for t in self.targets):
            if domain not in self._armed:
                self._armed.add(domain)
                self._spawn(self._arm(domain))
        return await asyncio.wait_for(self._ready.get(), SETTLED_S)

    async def _arm(self, domain: str) -> None:
        mine = [t for t in self.targets if t.cluster == domain]
        turn = self._turns[domain] = self._turns.get(domain, -1) + 1
        target = mine[turn % len(mine)]
        await self._fault(target, hang=True)
        await asyncio.sleep(SHOWN_S)
        await self._ready.put(target)

    async def over(self, target: Target, alert: Alert) -> None:
        """Goes on by itself: the engine heals, the alert resolves, the case restores and closes; then the domain is idle."""
        self._spawn(self._end(target, alert))

    async def _end(self, target: Target, alert: Alert) -> None:
        before, cases = time.monotonic(), await asyncio.to_thread(self._cases, target.endpoint)
        await self._fault(target, hang=False)
        await asyncio.sleep(4.0)  # the case verifies
        async with Connection("127.0.0.1", self._port) as connection:
            over = Alert(alert.cluster, alert.pool, alert.endpoint, alert.fingerprint, "resolved", alert.started)
            await send(connection, self.door, over)
        back = f"endpoint/{target.pool}/{target.endpoint}=in"
        await self._sink.first(back, before, SETTLED_S, every_s=0.5)

        async def closed() -> bool:
            return await asyncio.to_thread(self._cases, target.endpoint) > cases

        if await until(closed, SETTLED_S, 0.5):
            await self._arm(target.cluster)

    def act_of(self, alert: Alert) -> str:
        """The write that takes the endpoint out."""
        return f"endpoint/{alert.pool}/{alert.endpoint}=out"

    def storm(self, count: int) -> list[Alert]:
        """Alerts about every engine in turn: one in three of them hangs."""
        return [self.targets[n % len(self.targets)].alert() for n in range(count)]

    async def hang_one_of_each(self) -> None:
        """The faults of a storm: the first engine of every domain. The others only look sick to the detector."""
        firsts = [t for t in self.targets if t == next(x for x in self.targets if x.cluster == t.cluster)]
        await asyncio.gather(*(self._fault(t, hang=True) for t in firsts))
        self.sick = firsts
        await asyncio.sleep(SHOWN_S)

    async def due(self, accepted: Sequence[Sent]) -> dict[str, str]:
        """One act per engine that really hangs."""
        told = {s.alert.endpoint for s in accepted}
        return {f"endpoint/{t.pool}/{t.endpoint}=out": t.endpoint for t in self.sick if t.endpoint in told}

    def stop(self) -> None:
        """All of it is in the tree; what still waits for a case to close is let go."""
        for job in self._jobs:
            job.cancel()

    async def kept(self, accepted: Sequence[Sent]) -> tuple[int, str]:
        """Each fingerprint is looked for in the history that its answer named, until all are there or for half a minute: what came
        while a workflow task was with a worker that was killed is durable at once, and in the history when that task has timed
        out, ten seconds after it began."""
        client = await Client.connect(self.address)
        found: set[str] = set()

        async def all_of_them() -> bool:
            texts: dict[tuple[str, str], str] = {}
            for sent in accepted:
                result = json.loads(sent.answer)["results"][0]
                name = (result["workflow_id"], result["run_id"])
                if name not in texts:
                    history = await client.get_workflow_handle(name[0], run_id=name[1] or None).fetch_history()
                    texts[name] = history.to_json()
                    texts[name] += "".join(_payloads(json.loads(texts[name])))
                if sent.alert.fingerprint in texts[name]:
                    found.add(sent.alert.fingerprint)
            return len(found) == len({s.alert.fingerprint for s in accepted})

        await until(all_of_them, 30.0, 1.0)
        return sum(s.alert.fingerprint in found for s in accepted), "fingerprints found in workflow histories"

    def _cases(self, endpoint: str) -> str:
        """When a case of an engine closed last, read from the journal's file: asking the worker would be load on it."""
        with contextlib.closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as db:
            query = "select max(closed_at) from cases where workflow_id like ?"
            return str(db.execute(query, (f"%/endpoint/{endpoint}",)).fetchone()[0] or "")

    async def _fault(self, target: Target, *, hang: bool) -> None:
        host, _, port = target.endpoint.rpartition(":")
        async with Connection(host, int(port)) as connection:
            await connection.ask("POST", "/admin/fault", json.dumps({"hang": hang}).encode(), "connection: close\r\n")

    def _listens(self) -> list[str]:
        """Where engines are heard: one engine for each port."""
        return [t.endpoint.rpartition(":")[2] for t in self.targets]

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    def _fleet(self) -> Fleet:
        names = dict.fromkeys((t.cluster, t.pool) for t in self.targets)
        return Fleet(
            routes=tuple(Route(name=f"r-{pool}", pools=(pool,)) for _, pool in names),
            pools=tuple(
                Pool(
                    name=pool,
                    cluster=cluster,
                    dialect="vllm",
                    model=MODEL,
                    tokens_per_second=TOKENS_PER_SECOND,
                    endpoints=tuple(Endpoint(address=t.endpoint) for t in self.targets if t.pool == pool),
                )
                for cluster, pool in names
            ),
            controls=outside(*(cluster for cluster, _ in names)),
        )


def _payloads(value: Any) -> list[str]:
    """Every payload of a history as text: they are base64 in its JSON."""
    if isinstance(value, dict):
        own = [base64.b64decode(value["data"]).decode(errors="replace")] if isinstance(value.get("data"), str) else []
        return own + [t for v in value.values() for t in _payloads(v)]
    return [t for v in value for t in _payloads(v)] if isinstance(value, list) else []


_SHORTER = {
    "soak_s: 6": "soak_s: 2",
    "every_s: 2": "every_s: 1",
    "clear_for_s: 20": "clear_for_s: 2",
    "every_s: 5": "every_s: 1",
}


async def promoted(address: str) -> None:
    """Makes the bench's build current: refused until its worker has polled."""
    client = await Client.connect(address)
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=BUILD[0], build_id=BUILD[1]
    )

    async def made() -> bool:
        try:
            await client.workflow_service.set_worker_deployment_current_version(request)
        except RPCError:
            return False
        return True

    if not await until(made, 60, 0.5):
        raise CannotRun("its build could not be made current")


def _catalogue(folder: Path) -> None:
    """The shipped one with shorter waits after the act, so that a domain is idle again soon."""
    shutil.copytree(CATALOG, folder)
    path = folder / "runbooks" / "engine_hang.yaml"
    text = path.read_text()
    for old, new in _SHORTER.items():
        if old not in text:
            raise ValueError(f"{path.name} has no {old!r} any more: look at what is to be shortened now")
        text = text.replace(old, new)
    path.write_text(text)


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx.HTTPError:
        return False


def _version() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"commit {found.stdout.strip()}" if found.returncode == 0 else "unknown commit"
