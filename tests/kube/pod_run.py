"""The life of one pod on its node: a real engine process, restarted when it dies, Ready only while it gives tokens."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.kube.api import STRATEGIC
from tests.kube.behaviour import Behaviour, behaviour_of
from tests.kube.children import ending_with_us
from tests.kube.engine_probe import EngineProbe
from tests.kube.manifests import condition, pool_of
from tests.kube.pod_status import PodState, now

AGAIN_S = 0.2
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.2, 5.0
PRE_STOP_S, PRE_STOP_AT_MOST_S = 0.3, 10.0
"""Between the deletion and SIGTERM: the proxy is told at the same moment, and as a preStop hook does we wait until it has heard."""


@dataclass(frozen=True)
class Probing:
    """How the kubelet asks, seconds. `failures` in a row make a Ready pod not Ready."""

    starting_s: float = 0.1
    every_s: float = 0.4
    timeout_s: float = 2.0
    failures: int = 2


@dataclass(frozen=True)
class Host:
    """What a pod needs of its kubelet. `down(node)`: its machine is off or frozen; `mute(node)`: its kubelet is silent."""

    client: httpx.AsyncClient
    probe: EngineProbe
    probing: Probing
    folder: Path
    down: Callable[[str], bool]
    mute: Callable[[str], bool]
    note: Callable[[PodRun, str, str], None]
    fronted: Callable[[str], Awaitable[bool]]
    """Whether a proxy may still send requests to this address."""


class PodRun:
    """One pod. Everything runs on the kubelet's loop but `signal`."""

    def __init__(self, thing: dict[str, Any], ip: str, host: Host) -> None:
        self.thing = thing
        self.host = host
        self.state = PodState(ip)
        self.process: subprocess.Popen[bytes] | None = None
        self.ending = False
        self.container: dict[str, Any] = thing["spec"]["containers"][0]
        self._posting = asyncio.Lock()

    @property
    def name(self) -> str:
        """Of the pod."""
        return str(self.thing["metadata"]["name"])

    @property
    def pool(self) -> str:
        """Its label `app`."""
        return pool_of(self.thing)

    @property
    def node(self) -> str:
        """Where it is bound."""
        return str(self.thing["spec"]["nodeName"])

    @property
    def address(self) -> str:
        """host:port of its engine; the port is the containerPort."""
        return f"{self.state.ip}:{self.container['ports'][0]['containerPort']}"

    @property
    def path(self) -> str:
        """At the API server."""
        return f"/api/v1/namespaces/{self.thing['metadata']['namespace']}/pods/{self.name}"

    def signal(self, number: signal.Signals) -> None:
        """To its process, when it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    async def live(self) -> None:
        """Until it is cancelled: start, attend, restart with back-off."""
        row, backoff = behaviour_of(self.container), FIRST_BACKOFF_S
        if row is None:
            self.state.waiting = "ImagePullBackOff"
            self.host.note(self, "no image", str(self.container["image"]))
            await self.post()
            return
        while True:
            await self._node_up()
            self._start(row)
            await self.post()
            code = await self._attend(row)
            self.state.set_ready(False)
            self.state.running, self.state.waiting = False, "CrashLoopBackOff"
            self.state.last_exit, self.state.finished_at = code, now()
            self.state.restarts += 1
            self.host.note(self, "died", f"exit status {code}")
            await self.post()
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_S)

    async def end(self, grace_s: float) -> None:
        """The pod is deleted: its process is asked to end, then made to, and the object is removed."""
        self.host.note(self, "ending", f"grace {grace_s:g} s")
        if grace_s > 0:
            await self._pre_stop()
        await self._node_up()
        self.signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        while self.process is not None and loop.time() < deadline:
            if self.process.poll() is not None:
                break
            await asyncio.sleep(0.02)
        self.kill()
        await self._remove()

    def kill(self) -> None:
        """SIGKILL and reap; nothing when it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    async def _pre_stop(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PRE_STOP_AT_MOST_S
        await asyncio.sleep(PRE_STOP_S)
        while await self.host.fronted(self.address):
            if loop.time() > end:
                self.host.note(self, "still fronted", f"after {PRE_STOP_AT_MOST_S:g} s")
                return
            await asyncio.sleep(0.05)

    async def observed(self, thing: dict[str, Any]) -> None:
        """The object as the server has it now. What others wrote about its readiness is put right."""
        self.thing = thing
        if condition(thing, "Ready") != self.state.ready:
            await self.post()

    async def froze(self) -> None:
        """Its machine froze: it is not Ready until it gives a token again."""
        if self.state.set_ready(False):
            self.host.note(self, "not ready", "its node failed")
            await self.post()

    async def post(self) -> None:
        """Say what is true, until the server has taken it or knows no such pod. Says nothing while the kubelet is mute."""
        async with self._posting:
            while not self.host.mute(self.node):
                body = json.dumps(self.state.patch(self.thing))
                if await self._asked("PATCH", f"{self.path}/status", body, STRATEGIC):
                    return
                await asyncio.sleep(AGAIN_S)

    def _start(self, row: Behaviour) -> None:
        ip, _, port = self.address.rpartition(":")
        argv = [sys.executable, "-m", "worker.engine", "--host", ip, "--port", port, *row.args]
        if row.exit_code is not None:
            argv = [sys.executable, "-c", f"raise SystemExit({row.exit_code})"]
        with (self.host.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(ending_with_us(argv), stdout=log, stderr=log)
        self.state.running, self.state.started_at = True, now()
        self.host.note(self, "started", f"pid {self.process.pid} on {self.address}")

    async def _attend(self, row: Behaviour) -> int:
        """Ask again and again; the exit status when the process has ended."""
        assert self.process is not None
        probing, given, failed = self.host.probing, False, 0
        while (code := self.process.poll()) is None:
            ask = self.host.probe.health if given and row.readiness == "health" else self.host.probe.token
            answered = await ask(self.address)
            if self.host.mute(self.node):
                await asyncio.sleep(probing.starting_s)
                continue
            if answered and not given:
                given = await self._first_token(row)
            failed = 0 if answered else failed + 1
            lasts = answered or (self.state.ready and failed < probing.failures)
            ready = given and lasts and not self.host.down(self.node)
            if self.state.set_ready(ready):
                self.host.note(self, "ready" if ready else "not ready", "")
                await self.post()
            await asyncio.sleep(probing.every_s if given else probing.starting_s)
        return code

    async def _first_token(self, row: Behaviour) -> bool:
        """False when the engine died before its fault could be switched on: then it starts anew."""
        try:
            if row.fault:
                await self.host.probe.fault(self.address, row.fault)
        except httpx.HTTPError:
            return False
        return True

    async def _node_up(self) -> None:
        while True:
            if not self.host.mute(self.node) and (self.ending or not self.host.down(self.node)):
                return
            await asyncio.sleep(0.05)

    async def _remove(self) -> None:
        uid = self.thing["metadata"]["uid"]
        body = json.dumps({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
        while True:
            if await self._asked("DELETE", self.path, body, "application/json"):
                return
            await asyncio.sleep(AGAIN_S)

    async def _asked(self, method: str, path: str, body: str, kind: str) -> bool:
        """True when the server has answered it for good; gone (404) and another pod of this name (409) are answers."""
        try:
            answer = await self.host.client.request(method, path, content=body, headers={"content-type": kind})
        except httpx.HTTPError:
            return False
        if answer.is_success or answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT):
            return True
        if answer.status_code in (httpx.codes.BAD_REQUEST, httpx.codes.UNPROCESSABLE_ENTITY):
            raise RuntimeError(f"the API server refuses what the kubelet says: {answer.text[:500]}")
        return False
