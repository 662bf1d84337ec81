"""A cluster to test on: a control plane, GPU nodes, a namespace, pools with budgets, and a real process per pod."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from tests.kube import manifests
from tests.kube.addresses import Range
from tests.kube.control_plane import ControlPlane
from tests.kube.edge import Edge, running_edge
from tests.kube.kubelet import Kubelet
from tests.kube.members import address_of
from tests.kube.minimum import Minimum
from tests.kube.pod_run import Probing
from tests.kube.world import World


@dataclass(frozen=True)
class PoolSpec:
    """One pool. `budget` is the PDB's minAvailable: by default one less than the replicas, and at least one."""

    name: str
    replicas: int = 2
    gpus: int = 1
    image: str = "engine:v1"
    args: tuple[str, ...] = ()
    budget: int | None = None
    slots: int = 6
    """Addresses of the pool in the fleet; replicas, a surge and what is still ending must fit."""

    @property
    def min_available(self) -> int:
        """Of its PodDisruptionBudget."""
        return self.budget if self.budget is not None else max(1, self.replicas - 1)


class Cluster:
    """Everything of one test, on a control plane that may outlive it. A context manager, or `start` and `stop`.

    `nodes` is node name to GPUs; names are unique on a control plane. `folder` gets the engines' logs and Envoy's files.
    `name` is the domain (the fleet's cluster). `stop` removes nodes, pods and namespace.
    """

    def __init__(
        self,
        control_plane: ControlPlane,
        folder: Path,
        pools: tuple[PoolSpec, ...],
        nodes: dict[str, int],
        *,
        name: str = "lab",
        namespace: str | None = None,
        probing: Probing | None = None,
    ) -> None:
        self.control_plane = control_plane
        self.folder = folder
        self.pools = tuple(pools)
        self.nodes = dict(nodes)
        self.name = name
        self.namespace = namespace or f"lab-{uuid.uuid4().hex[:6]}"
        self.addresses = Range()
        self.world = World(control_plane, self.namespace)
        self.kubelet = Kubelet(control_plane, self.namespace, self.addresses, folder / "engines", probing)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, deadline_s: float = 90.0) -> None:
        """Returns when every replica of every pool serves and every budget has been judged."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.addresses.close)
            self._start(stack, deadline_s)
            self._running = stack.pop_all()

    def stop(self) -> None:
        """Ends the processes and removes what the cluster has put on the control plane."""
        self._running.close()

    def add_node(self, name: str, gpus: int) -> None:
        """One more node for this cluster's pods, returned when it takes them."""
        self.nodes[name] = gpus
        self.control_plane.add_node(name, gpus, {manifests.HOME: self.namespace})

    def _start(self, stack: contextlib.ExitStack, deadline_s: float) -> None:
        api = self.control_plane.api
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        for pool in self.pools:
            self.addresses.ip(pool.name, 1)  # numbers the pools in this order
        self.kubelet.start()
        stack.callback(self.kubelet.stop)
        self.world.start()
        stack.callback(self.world.stop)
        stack.callback(self._clean)
        for name, gpus in tuple(self.nodes.items()):
            self.add_node(name, gpus)
        for pool in self.pools:
            api.apply(self.deployment(pool))
            api.apply(manifests.budget(pool.name, self.namespace, pool.min_available))
        for pool in self.pools:
            self.world.wait(partial(self._whole, pool), f"pool {pool.name} serves", deadline_s)

    def _clean(self) -> None:
        self.control_plane.resume_all()
        api, space = self.control_plane.api, f"namespaces/{self.namespace}"
        # Their makers first, or they would be made again.
        api.delete(f"/apis/apps/v1/{space}/deployments")
        api.delete(f"/apis/apps/v1/{space}/replicasets")
        api.delete(f"/apis/policy/v1/{space}/poddisruptionbudgets")
        api.delete(f"/api/v1/{space}/pods", gracePeriodSeconds=0)
        for name in self.nodes:
            api.delete(f"/api/v1/nodes/{name}")
        api.delete(f"/api/v1/{space}")

    def deployment(self, pool: PoolSpec) -> dict[str, Any]:
        """The Deployment of a pool as `start` applies it."""
        return manifests.deployment(
            pool.name, self.namespace, pool.replicas, pool.gpus, pool.image, self.addresses.port, pool.args
        )

    def path(self, pool: str, subresource: Literal["", "/scale", "/status"] = "") -> str:
        """Of a pool's Deployment at the API server."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{pool}{subresource}"

    def fleet(self, route: str = "chat", tokens_per_second: float = 200, tiers: tuple[str, ...] = ("batch",)) -> Fleet:
        """The inventory: every slot of every pool is an endpoint, all pools serve one route."""
        pools = tuple(
            Pool(
                name=p.name,
                cluster=self.name,
                dialect="vllm",
                model="smollm2",
                tokens_per_second=tokens_per_second,
                endpoints=tuple(Endpoint(address=a) for a in self.addresses.slots(p.name, p.slots)),
            )
            for p in self.pools
        )
        return Fleet(
            routes=(Route(name=route, pools=tuple(p.name for p in pools), tiers=tiers),),
            pools=pools,
            controls=outside(self.name),
        )

    @contextlib.contextmanager
    def edge(self, fleet: Fleet | None = None, route_timeout_s: float = 1.5) -> Iterator[Edge]:
        """A real Envoy over the pools whose endpoints follow readiness, and which pods that go wait for. Enter it on the
        main thread."""
        with running_edge(self.world, fleet or self.fleet(), self.folder / "edge", route_timeout_s) as edge:
            self.kubelet.proxy = edge.admin
            try:
                yield edge
            finally:
                self.kubelet.proxy = None

    def watch_minimum(self, **needed: int) -> Minimum:
        """A context manager that judges every event. Pools not named need what their budget says; dashes of a pool's
        name are underscores here."""
        floors = {p.name: p.min_available for p in self.pools}
        return Minimum(self.world, floors | {k.replace("_", "-"): n for k, n in needed.items()})

    def serving(self, pool: str) -> set[str]:
        """Addresses of the pool's pods that are Ready and not being deleted."""
        return {a for p in self.world.serving(pool) if (a := address_of(p)) is not None}

    def placement(self, pool: str) -> dict[str, str]:
        """Pod name to node, "" while it has none; without those being deleted."""
        pods = [p for p in self.world.of_pool(pool) if "deletionTimestamp" not in p["metadata"]]
        return {p["metadata"]["name"]: p["spec"].get("nodeName", "") for p in pods}

    async def until(self, condition: Callable[[], Any], what: str, deadline_s: float = 30.0) -> Any:
        """Wait for a condition on `world`, asked at each event of the watch; its value."""
        return await asyncio.to_thread(self.world.wait, condition, what, deadline_s)

    async def until_serving(self, pool: str, replicas: int, deadline_s: float = 30.0) -> None:
        """Wait until exactly so many pods of the pool serve and no other pod of it is left."""
        await self.until(
            lambda: len(self.world.serving(pool)) == len(self.world.of_pool(pool)) == replicas,
            f"{replicas} of {pool} serve",
            deadline_s,
        )

    async def until_node(self, name: str, ready: bool, deadline_s: float = 30.0) -> None:
        """Wait until the node's condition Ready is so."""
        await self.until(
            lambda: manifests.condition(self.world.node(name), "Ready") == ready, f"{name} Ready={ready}", deadline_s
        )

    def cordon(self, name: str, unschedulable: bool = True) -> None:
        """As an operator does it."""
        self.control_plane.api.merge(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": unschedulable}})

    def evict(self, pod: str, dry_run: bool = False) -> int:
        """The Eviction subresource as the admin; the server's status code: 201, 429 by a budget, 404."""
        metadata = {"name": pod, "namespace": self.namespace}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        params = {"dryRun": "All"} if dry_run else {}
        return self.control_plane.api.http.post(path, json=body, params=params).status_code

    def _whole(self, pool: PoolSpec) -> bool:
        budgets = [b for b in tuple(self.world.budgets.values()) if b["metadata"]["name"] == pool.name]
        judged = any(b.get("status", {}).get("currentHealthy") == pool.replicas for b in budgets)
        return judged and len(self.world.serving(pool.name)) == pool.replicas
