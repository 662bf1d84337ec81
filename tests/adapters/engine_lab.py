"""Real simulated engines as child processes, on free ports, ended by their own pid; and a fleet made of them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

from activities.ports import Snapshot
from runbooks.change import endpoint_key
from runbooks.fleet import Endpoint, Fleet, Pool, Route
from tests.ports import free_port as free_port

ROOT = Path(__file__).resolve().parents[2]


def wait_http(url: str, process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Returns once `url` answers 200; fails when the process ends or the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        try:
            if httpx.get(url, timeout=1.0).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{url} did not answer within {seconds} s")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Polls until the condition holds; fails when the time is up."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, f"still not so after {seconds} s"
        await asyncio.sleep(0.05)


class Engine:
    """One engine process."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self._options = options
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "worker.engine", "--port", str(self.port), *self._options]
        return subprocess.Popen(command, cwd=ROOT)

    def ready(self) -> Engine:
        """Waits until it serves."""
        wait_http(f"{self.url}/health", self.process)
        return self

    def fault(self, **fault: object) -> None:
        """Switches a fault on; no arguments heal."""
        httpx.post(f"{self.url}/admin/fault", json=fault, timeout=5.0).raise_for_status()

    def freeze(self) -> None:
        """SIGSTOP: the process is there, its port takes connections, nothing answers."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, which ends a stopped process too."""
        self.process.kill()
        self.process.wait(10)

    def restart(self) -> None:
        """After a kill: the same port, empty counters."""
        self.process = self._start()
        self.ready()


@contextmanager
def engines(count: int, *options: str) -> Iterator[list[Engine]]:
    """So many engines, started side by side."""
    started = [Engine(*options) for _ in range(count)]
    try:
        yield [engine.ready() for engine in started]
    finally:
        for engine in started:
            engine.kill()


def fleet_of(pools: dict[str, list[Engine]], dialect: str = "vllm", cluster: str = "c1", tps: float = 30.0) -> Fleet:
    """A fleet with one route `chat` over the pools."""
    return Fleet.model_validate(
        {
            "routes": [Route(name="chat", pools=tuple(pools))],
            "pools": [
                Pool.model_validate(
                    {
                        "name": name,
                        "cluster": cluster,
                        "dialect": dialect,
                        "tokens_per_second": tps,
                        "endpoints": [Endpoint(address=e.address) for e in members],
                    }
                )
                for name, members in pools.items()
            ],
        }
    )


def declared(fleet: Fleet, out: tuple[str, ...] = ()) -> Snapshot:
    """Settings with every endpoint in rotation but those in `out`."""
    settings = {
        endpoint_key(p.name, e.address): "out" if e.address in out else "in" for p in fleet.pools for e in p.endpoints
    }
    return Snapshot(settings=dict(settings), observed_at=datetime.now(UTC), epoch=1, permit_id="p")
