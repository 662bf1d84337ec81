"""HTTPRoutes on a real API server that program a real Envoy: the Envoy lab behind a small Gateway controller.

The controller does what one must: it watches the routes, programs the data plane, waits until that applies the weights,
and only then says Accepted and ResolvedRefs of the generation that it has done.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from activities.adapters import envoy_xds
from activities.adapters.envoy_admin import EnvoyAdmin
from activities.adapters.envoy_document import render
from activities.adapters.envoy_keys import RTDS_FILE, all_keys
from activities.adapters.gateway import GatewayTraffic
from activities.adapters.gateway_api import ROLE
from activities.adapters.gateway_route import API
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import from_kubeconfig
from runbooks.change import weight_key
from runbooks.facts import Settings
from runbooks.fleet import Fleet, Route
from tests.adapters.envoy_lab import WEIGHTS, EnvoyLab, Upstream, until
from tests.kube.control_plane import ControlPlane
from worker.edge import write_edge

GATEWAY, CONTROLLER, ACCOUNT = "edge", "interlock.dev/lab", "interlock"
SHIPPED_ROLE = Path(__file__).parents[2] / "docs" / "rbac" / ROLE
ALL_WEIGHTS = {**WEIGHTS, "draft": {"pool-a": 50, "pool-b": 50}}
JSON_PATCH, MERGE_PATCH = "application/json-patch+json", "application/merge-patch+json"
_numbers = itertools.count(1)


class Controller:
    """Watches the HTTPRoutes of a namespace and programs one Envoy by its RTDS file.

    `awake` cleared: it does nothing until it is set again. `edge` is the Envoy lab's folder.
    """

    def __init__(
        self, client: httpx.AsyncClient, namespace: str, fleet: Fleet, folder: Path, admin: EnvoyAdmin
    ) -> None:
        self.client, self.namespace, self.fleet, self.folder, self.admin = client, namespace, fleet, folder, admin
        self.awake = asyncio.Event()
        self.awake.set()
        self.done: dict[str, int] = {}

    @property
    def routes(self) -> str:
        """Path of the HTTPRoutes."""
        return f"{API}/namespaces/{self.namespace}/httproutes"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """At work until the block ends; an error of its own is raised there."""
        work = asyncio.create_task(self._run())
        try:
            yield
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    async def _run(self) -> None:
        listed = (await self._call("GET", self.routes)).json()
        for route in listed["items"]:
            await self._reconcile(route)
        watch = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with self.client.stream("GET", self.routes, params=watch, timeout=None) as events:
            async for line in events.aiter_lines():
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    await self._reconcile(event["object"])

    async def _reconcile(self, route: dict[str, Any]) -> None:
        name, generation = route["metadata"]["name"], route["metadata"]["generation"]
        if self.done.get(name) == generation:
            return
        await self.awake.wait()
        weights = {b["name"]: b["weight"] for b in route["spec"]["rules"][0]["backendRefs"]}
        missing = [s for s in weights if not await self._has_service(s)]
        if not missing:
            await self._program({weight_key(name, pool): weight for pool, weight in weights.items()})
        resolved = ("False", "BackendNotFound", f"no Service {missing}") if missing else ("True", "ResolvedRefs", "")
        await self._report(route, {"Accepted": ("True", "Accepted", ""), "ResolvedRefs": resolved})
        self.done[name] = generation

    async def _has_service(self, name: str) -> bool:
        path = f"/api/v1/namespaces/{self.namespace}/services/{name}"
        return (await self.client.get(path)).status_code == httpx.codes.OK

    async def _program(self, weights: Settings) -> None:
        keys = [k for k in all_keys(self.fleet) if k.text in weights]
        path = self.folder / RTDS_FILE
        resources = json.loads(path.read_text())["resources"]
        for key in keys:
            envoy_xds.put(resources, key, weights[key.text])
        fresh = self.folder / "programmed"
        fresh.write_bytes(render(resources))
        fresh.rename(path)

        async def applied() -> bool:
            return await self.admin.settings(keys) == weights

        await until(applied, f"Envoy applies {weights}")

    async def _report(self, route: dict[str, Any], said: dict[str, tuple[str, str, str]]) -> None:
        conditions = [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "observedGeneration": route["metadata"]["generation"],
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            for kind, (status, reason, message) in said.items()
        ]
        parents = [
            {"parentRef": ref, "controllerName": CONTROLLER, "conditions": conditions}
            for ref in route["spec"]["parentRefs"]
        ]
        await self._call("PATCH", f"{self.routes}/{route['metadata']['name']}/status", {"status": {"parents": parents}})

    async def _call(self, method: str, path: str, body: Any = None) -> httpx.Response:
        content = None if body is None else json.dumps(body)
        answer = await self.client.request(method, path, content=content, headers={"content-type": MERGE_PATCH})
        answer.raise_for_status()
        return answer


class GatewayLab(EnvoyLab):
    """The Envoy lab's fleet with one more route, `draft`, and its weights on HTTPRoutes in a namespace of their own."""

    def __init__(self, folder: Path, upstreams: list[Upstream], client: httpx.AsyncClient, plane: ControlPlane) -> None:
        super().__init__(folder, upstreams, client)
        draft = Route(name="draft", pools=("pool-a", "pool-b"))
        self.fleet = self.fleet.model_copy(update={"routes": (*self.fleet.routes, draft)})
        admin_port, listen_port = (httpx.URL(u).port or 0 for u in (self.admin_url, self.url))
        self.bootstrap = write_edge(
            self.fleet, folder, admin_port=admin_port, listen_port=listen_port, weights=ALL_WEIGHTS
        )
        self.plane, self.namespace = plane, f"gateway-{next(_numbers)}"
        self.kube = plane.async_client()
        admin = EnvoyAdmin(client, self.admin_url, timeout_s=1.0)
        self.controller = Controller(self.kube, self.namespace, self.fleet, folder, admin)
        self.lay_down()
        token = plane.service_account_token(self.namespace, ACCOUNT)
        self.kubeconfig = plane.kubeconfig_of(f"{self.namespace}-{ACCOUNT}", token)
        self.api = KubeApi(from_kubeconfig(self.kubeconfig))

    async def close(self) -> None:
        """Take the routes away and close the connections."""
        self.plane.api.delete(f"/api/v1/namespaces/{self.namespace}")
        await self.api.close()
        await self.kube.aclose()

    def path(self, route: str) -> str:
        """Path of an HTTPRoute."""
        return f"{self.controller.routes}/{route}"

    def lay_down(self) -> None:
        """Namespace, account with its role, gateway, Services and routes."""
        for manifest in manifests(self.fleet, self.namespace):
            self.plane.apply(manifest)

    async def updates(self, key: str) -> int:
        """Changes of the spec since the route was made, counted by the API server itself."""
        return int(self.plane.api.get(self.path(key.split("/")[1]))["metadata"]["generation"]) - 1

    async def hand_edit(self, settings: Settings) -> None:
        """What a person does with kubectl edit: no fence, no test."""
        for name in {k.split("/")[1] for k in settings}:
            route = self.plane.api.get(self.path(name))
            for backend in route["spec"]["rules"][0]["backendRefs"]:
                backend["weight"] = settings.get(weight_key(name, backend["name"]), backend["weight"])
            self.plane.api.merge(self.path(name), {"spec": {"rules": route["spec"]["rules"]}})
        await self.accepted(settings)

    async def accepted(self, settings: Settings) -> None:
        """Wait until the gateway serves these weights, by its own word."""
        traffic = self.traffic()

        async def applied() -> bool:
            return await traffic.effective(list(settings)) == settings

        await until(applied, f"the controller accepts {settings}")

    def traffic(self, **options: Any) -> GatewayTraffic:  # type: ignore[override]
        """A Traffic port on these routes."""
        return GatewayTraffic(self.fleet, self.api, namespace=self.namespace, **options)


def shipped_role(namespace: str) -> list[dict[str, Any]]:
    """Role and binding of docs/rbac, moved into a namespace with their account."""
    role, binding = yaml.safe_load_all(SHIPPED_ROLE.read_text())
    role["metadata"]["namespace"] = binding["metadata"]["namespace"] = namespace
    for subject in binding["subjects"]:
        subject["namespace"] = namespace
    return [role, binding]


def manifests(fleet: Fleet, namespace: str) -> list[dict[str, Any]]:
    """All that a namespace needs, in order: the account has the role that we ship, and no other."""
    gateway, here = "gateway.networking.k8s.io", {"namespace": namespace}
    found: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, **here}},
        *shipped_role(namespace),
        {
            "apiVersion": f"{gateway}/v1",
            "kind": "Gateway",
            "metadata": {"name": GATEWAY, **here},
            "spec": {
                "gatewayClassName": "lab",
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        },
    ]
    for pool in fleet.pools:
        spec = {"selector": {"app": pool.name}, "ports": [{"port": 8000}]}
        found.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": pool.name, **here}, "spec": spec})
    for route in fleet.routes:
        weights = ALL_WEIGHTS[route.name]
        backends = [{"name": pool, "port": 8000, "weight": weights[pool]} for pool in route.pools]
        found.append(
            {
                "apiVersion": f"{gateway}/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": route.name, **here},
                "spec": {"parentRefs": [{"name": GATEWAY}], "rules": [{"backendRefs": backends}]},
            }
        )
    return found


@asynccontextmanager
async def serving(count: int) -> AsyncIterator[list[Upstream]]:
    """So many replicas that answer, closed with the block."""
    upstreams = [Upstream() for _ in range(count)]
    servers = [await u.start() for u in upstreams]
    try:
        yield upstreams
    finally:
        for server in servers:
            server.close()
        for writer in [w for u in upstreams for w in u.open]:
            writer.close()
        for server in servers:
            await server.wait_closed()


@asynccontextmanager
async def gateway_lab(folder: Path, plane: ControlPlane) -> AsyncIterator[GatewayLab]:
    """Routes that serve through a running edge; everything but the control plane is ended with the block."""
    async with serving(4) as upstreams, httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        lab = GatewayLab(folder, upstreams, client, plane)
        try:
            await lab.start()
            async with lab.controller.running():
                for route, weights in ALL_WEIGHTS.items():
                    await lab.accepted({weight_key(route, pool): weight for pool, weight in weights.items()})
                yield lab
        finally:
            lab.stop()
            await lab.close()


class Relay:
    """A wire to a server that can break: it carries bytes and understands none of them. `lost` counts lost answers."""

    def __init__(self, host: str, port: int) -> None:
        self._server_at = (host, port)
        self._losing = False
        self._writers: list[asyncio.StreamWriter] = []
        self.lost = 0
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Relay]:
        """A relay to the server of this URL, gone with the block."""
        parts = httpx.URL(url)
        relay = cls(parts.host, parts.port or 443)
        server = await asyncio.start_server(relay._carry, "127.0.0.1", 0)
        relay.url = f"{parts.scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield relay
        finally:
            server.close()
            for writer in relay._writers:
                writer.close()
            await server.wait_closed()

    def lose_next_answer(self) -> None:
        """The next bytes from the server are dropped, and their connection is closed."""
        self._losing = True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._server_at)
        self._writers += [writer, back]
        await asyncio.gather(self._copy(reader, back, answers=False), self._copy(there, writer, answers=True))

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if answers and self._losing:
                    self._losing, self.lost = False, self.lost + 1
                    break
                sink.write(data)
                await sink.drain()
        sink.close()
