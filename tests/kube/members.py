"""Keeps Envoy's endpoint files equal to the Ready pods: an address is in the file only while its pod is Ready.

It writes when a pod's readiness *changes*, and only that address: what Interlock has taken out of rotation stays out
until the pod behind it changes. It takes the adapter's own lock and leaves the record of who wrote as it is.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activities.adapters.envoy_document import render, version
from activities.adapters.envoy_files import EdgeFolder
from activities.adapters.envoy_keys import Key
from activities.adapters.envoy_xds import put
from runbooks.fleet import Fleet
from tests.kube.manifests import pod_serves, pool_of
from tests.kube.watching import Event
from tests.kube.world import World

LOCK_WAIT_S = 30.0


@dataclass(frozen=True)
class Moved:
    """An address that went "in" or "out". `at` is seconds since the epoch, after the file was in place."""

    at: float
    pool: str
    address: str
    to: str


class Members:
    """One writer of the endpoint files that `worker.edge.write_edge` laid down in `folder` for `fleet`."""

    def __init__(self, world: World, fleet: Fleet, folder: Path) -> None:
        self.world = world
        self.record: list[Moved] = []
        self._folder = EdgeFolder(folder)
        self._slots = {e.address: p.name for p in fleet.pools for e in p.endpoints}
        self._serving: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._work = asyncio.Event()

    def start(self) -> None:
        """Returns when the files say what is true now: slots without a Ready pod are out."""
        self.world.subscribe(self._saw)
        self.world.loop.call(self._write_all())

        async def go() -> None:
            self.world.loop.spawn(self._run())

        self.world.loop.call(go())

    def stop(self) -> None:
        """Hears of nothing any more; the files stay as they are."""
        self.world.unsubscribe(self._saw)

    def rotation(self, pool: str) -> set[str]:
        """Addresses that it has put in."""
        return {a for a, to in self._told.items() if to == "in" and self._slots[a] == pool}

    def _saw(self, kind: str, event: Event) -> None:
        # A pod of no pool is no member: a check of a node under load serves nobody.
        if kind != "pods" or not pool_of(event.thing):
            return
        uid, address = event.thing["metadata"]["uid"], address_of(event.thing)
        if event.kind != "DELETED" and address is not None and pod_serves(event.thing):
            if self._slots.get(address) != pool_of(event.thing):
                raise RuntimeError(f"{address} of pool {pool_of(event.thing)} is no slot of the fleet: list more slots")
            self._serving[uid] = address
        else:
            self._serving.pop(uid, None)
        self._work.set()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            await self._write_all()

    async def _write_all(self) -> None:
        serving = set(self._serving.values())
        wanted = {address: "in" if address in serving else "out" for address in self._slots}
        news = {a: to for a, to in wanted.items() if self._told.get(a) != to}
        for pool in {self._slots[a] for a in news}:
            await self._write(pool, {a: to for a, to in news.items() if self._slots[a] == pool})

    async def _write(self, pool: str, news: dict[str, str]) -> None:
        keys = [Key(f"endpoint/{pool}/{a}", "endpoint", pool, a) for a in news]
        async with self._folder.lock(LOCK_WAIT_S, lambda: False):
            document = self._folder.load(keys[0].file)
            resources: list[Any] = document.resources
            for key in keys:
                put(resources, key, news[key.item])
            raw = render(resources, version(document.writers))
            if raw != document.raw:
                self._folder.replace(document.name, raw)
        self._told.update(news)
        self.record += [Moved(time.time(), pool, a, to) for a, to in news.items()]


def address_of(pod: dict[str, Any]) -> str | None:
    """host:port of a pod, None before it has an IP."""
    ip = pod["status"].get("podIP")
    return f"{ip}:{pod['spec']['containers'][0]['ports'][0]['containerPort']}" if ip else None
