"""A real Envoy edge with tiny upstream servers in this process, for tests of the Traffic port."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from activities.adapters import envoy_xds
from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.envoy_keys import all_keys
from runbooks.facts import Settings
from runbooks.fleet import Endpoint, Fleet, Pool, Route
from tests.ports import free_port as free_port
from worker.edge import envoy_command, write_edge
from worker.edge_bootstrap import ENDPOINT_HEADER, POOL_HEADER, ROUTE_HEADER, TIER_HEADER

ROUTE_TIMEOUT_S = 1.5
WEIGHTS = {"chat": {"pool-a": 100, "pool-b": 0}, "code": {"pool-c": 100}}


async def until(condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float = 10.0) -> None:
    """Poll a condition; an assertion error names what did not come true."""
    end = time.monotonic() + deadline_s
    while not await condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.01)


@contextmanager
def running(bootstrap: Path) -> Iterator[None]:
    """An Envoy process, killed at the end. Enter it in the main thread: Envoy ends with the thread that started it."""
    with (bootstrap.parent / "envoy.log").open("ab") as log:
        envoy = subprocess.Popen(envoy_command(bootstrap), stderr=log)
    try:
        yield
    finally:
        envoy.kill()
        envoy.wait()


class Upstream:
    """One replica: answers every GET, unless it hangs. `open` holds its connections, `accepted` counts them."""

    def __init__(self) -> None:
        self.open: set[asyncio.StreamWriter] = set()
        self.accepted = 0
        self.hanging = False
        self.address = ""

    async def start(self) -> asyncio.Server:
        """Listen on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        self.accepted += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if not self.hanging:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the other side closed it, which is what some tests wait for
        finally:
            self.open.discard(writer)
            writer.close()


class EnvoyLab:
    """Two routes, three pools, two domains; `chat` has tiers `batch` and `paid`."""

    def __init__(self, folder: Path, upstreams: list[Upstream], client: httpx.AsyncClient) -> None:
        self.folder, self.client = folder, client
        self.upstreams = {u.address: u for u in upstreams}
        a1, a2, b1, c1 = (Endpoint(address=u.address) for u in upstreams)
        self.fleet = Fleet(
            routes=(
                Route(name="chat", pools=("pool-a", "pool-b"), tiers=("batch", "paid")),
                Route(name="code", pools=("pool-c",), tiers=("batch",)),
            ),
            pools=(
                Pool(name="pool-a", cluster="east", dialect="vllm", endpoints=(a1, a2), tokens_per_second=100),
                Pool(name="pool-b", cluster="east", dialect="vllm", endpoints=(b1,), tokens_per_second=100),
                Pool(name="pool-c", cluster="west", dialect="vllm", endpoints=(c1,), tokens_per_second=100),
            ),
        )
        self.admin_url = f"http://127.0.0.1:{(admin := free_port())}"
        self.url = f"http://127.0.0.1:{(listen := free_port())}"
        self.bootstrap = write_edge(
            self.fleet,
            folder,
            admin_port=admin,
            listen_port=listen,
            weights=WEIGHTS,
            route_timeout_s=ROUTE_TIMEOUT_S,
        )
        self._running: ExitStack | None = None

    async def start(self) -> None:
        """Start Envoy and wait until every pool serves."""
        self._running = ExitStack()
        self._running.enter_context(running(self.bootstrap))
        await until(self._ready, f"Envoy serves; see {self.folder}/envoy.log")

    def stop(self) -> None:
        """Kill Envoy, as a crash would."""
        if self._running is not None:
            self._running.close()

    async def _ready(self) -> bool:
        try:
            return (await self.request()).status_code < 500
        except httpx.TransportError:
            return False

    async def request(self, tier: str | None = None, route: str = "chat") -> httpx.Response:
        """One request through Envoy."""
        tiers = {TIER_HEADER: tier} if tier else {}
        return await self.client.get(f"{self.url}/v1/models", headers={ROUTE_HEADER: route, **tiers})

    async def served(self, count: int, tier: str | None = None) -> Counter[tuple[int, str, str]]:
        """(status, pool, endpoint) of `count` requests to `chat`, one after another."""
        found: Counter[tuple[int, str, str]] = Counter()
        for _ in range(count):
            reply = await self.request(tier)
            found[reply.status_code, reply.headers.get(POOL_HEADER, ""), reply.headers.get(ENDPOINT_HEADER, "")] += 1
        return found

    async def updates(self, key: str) -> int:
        """How many files of this key's kind Envoy has taken since it started."""
        family, owner = key.split("/")[:2]
        scope = {"endpoint": f"cluster.{owner}", "connections": "cluster_manager.cds"}.get(family, "runtime")
        return await self.stat(f"{scope}.update_success")

    async def stat(self, name: str) -> int:
        """One statistic of Envoy."""
        reply = await self.client.get(f"{self.admin_url}/stats", params={"format": "json", "filter": f"^{name}$"})
        return int(next(s["value"] for s in reply.json()["stats"] if s.get("name") == name))

    async def hand_edit(self, settings: Settings) -> None:
        """Change files as a person with an editor would: no lock, no fence, the same version_info."""
        for key in (k for k in all_keys(self.fleet) if k.text in settings):
            path = self.folder / key.file
            body = json.loads(path.read_text())
            envoy_xds.put(body["resources"], key, settings[key.text])
            fresh = self.folder / "edited"
            fresh.write_text(json.dumps(body))
            fresh.rename(path)
        traffic = self.traffic()

        async def applied() -> bool:
            return await traffic.effective(list(settings)) == settings

        await until(applied, f"Envoy applies the hand edit {settings}")

    def traffic(self, **options: object) -> EnvoyTraffic:
        """A Traffic port on this edge."""
        return EnvoyTraffic(self.fleet, self.folder, self.admin_url, self.client, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def envoy_lab(folder: Path) -> AsyncIterator[EnvoyLab]:
    """A running edge in `folder`; everything is ended with the block."""
    upstreams = [Upstream() for _ in range(4)]
    servers = [await u.start() for u in upstreams]
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        lab = EnvoyLab(folder, upstreams, client)
        try:
            await lab.start()
            yield lab
        finally:
            lab.stop()
            for server in servers:
                server.close()
            for writer in [w for u in upstreams for w in u.open]:
                writer.close()
            for server in servers:
                await server.wait_closed()
