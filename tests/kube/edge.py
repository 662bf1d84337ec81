"""A real Envoy in front of the pools. Start it from the main thread: it ends with the thread that started it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from runbooks.fleet import Fleet
from tests.kube.members import Members
from tests.kube.world import World
from tests.lab import free_port
from worker.edge import envoy_command, write_edge


@dataclass(frozen=True)
class Edge:
    """Where it is. `folder` holds its xDS files."""

    folder: Path
    admin: str
    front: str
    members: Members
    process: subprocess.Popen[bytes]

    def rotation(self, pool: str) -> set[str]:
        """Addresses that Envoy itself counts as endpoints of the pool."""
        found = httpx.get(f"{self.admin}/clusters?format=json", trust_env=False).json()
        hosts = [h for c in found["cluster_statuses"] if c["name"] == pool for h in c.get("host_statuses", [])]
        sockets = [h["address"]["socket_address"] for h in hosts]
        return {f"{s['address']}:{s['port_value']}" for s in sockets}


@contextmanager
def running_edge(world: World, fleet: Fleet, folder: Path, route_timeout_s: float) -> Iterator[Edge]:
    """Envoy on the fleet's slots, with only the addresses of Ready pods in its endpoints; weights are equal at first."""
    admin, front = free_port(), free_port()
    weights = {r.name: dict.fromkeys(r.pools, 50) for r in fleet.routes}
    boot = write_edge(
        fleet, folder, admin_port=admin, listen_port=front, weights=weights, route_timeout_s=route_timeout_s
    )
    members = Members(world, fleet, folder)
    members.start()
    with (folder / "envoy.log").open("ab") as log:
        process = subprocess.Popen(envoy_command(boot), stderr=log, cwd=folder)
    try:
        _until_live(f"http://127.0.0.1:{admin}", process, folder)
        yield Edge(folder, f"http://127.0.0.1:{admin}", f"http://127.0.0.1:{front}", members, process)
    finally:
        process.kill()
        process.wait(10)
        members.stop()


def _until_live(admin: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{admin}/ready", trust_env=False).text.strip() == "LIVE":
                return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"Envoy is not live: {(folder / 'envoy.log').read_text()[-1000:]}")
        time.sleep(0.05)
