"""Clusters for the contract of the Cluster port: a real control plane whose pods are real engines, and simulated ones.

All have domain `east`: pool-a of two replicas and pool-b of one, one GPU each, on three nodes of two GPUs. The template
has a plain variable and a secret one, pool-a has an autoscaler, and its disruption budget keeps one replica.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from activities.adapters.kube import KubeCluster
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import KubeAccess, from_kubeconfig
from activities.adapters.reading import Clock, utc_now
from activities.adapters.simulated import SimulatedSite
from activities.adapters.simulated_cluster import SimSpec, SimulatedCluster
from activities.ports import Cluster, ClusterSnapshot
from runbooks.facts import Value
from runbooks.fleet import Endpoint, Fleet, Node, Pool, Route, Workload
from tests.adapters.simulated_lab import incident_of
from tests.kube import cluster as kube
from tests.kube.control_plane import ControlPlane

ROLES = Path(__file__).parents[2] / "docs" / "rbac"
DOMAIN, IMAGE = "east", "engine:v1"
SCALER = {"scaleUp": {"stabilizationWindowSeconds": 7, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]}}


class Bench(Protocol):
    """One cluster under test. `nodes` are its three nodes."""

    fleet: Fleet
    nodes: tuple[str, ...]
    variable: tuple[str, str]
    """The plain variable of each template, and its value."""
    agents: bool
    """Whether each node has an agent that tells of its GPUs."""

    def cluster(self, **options: Any) -> Cluster:
        """The adapter, with `clock` or `checkpoint`."""
        ...

    def by_hand(self, key: str, value: Value) -> None:
        """An operator changes one setting past Interlock."""
        ...

    def writes(self) -> int:
        """Writes that reached the settings of the cluster, in all, by Interlock."""
        ...

    def behaviour(self) -> Any:
        """How pool-a's autoscaler may scale, as its owner wrote it or as the freeze left it."""
        ...

    async def heal(self) -> None:
        """As it was at first: for the next test."""
        ...


def fleet_of(nodes: tuple[str, ...], namespace: str, slots: Callable[[str], tuple[str, ...]]) -> Fleet:
    """The inventory; pool-c is in another cluster."""

    def pool(name: str, cluster: str, replicas: int) -> Pool:
        return Pool(
            name=name,
            cluster=cluster,
            dialect="vllm",
            tokens_per_second=100,
            endpoints=tuple(Endpoint(address=a) for a in slots(name)),
            workload=Workload(namespace=namespace, deployment=name, replicas=replicas),
        )

    return Fleet(
        routes=(Route(name="chat", pools=("pool-a", "pool-b")),),
        pools=(pool("pool-a", DOMAIN, 2), pool("pool-b", DOMAIN, 1), pool("pool-c", "west", 1)),
        nodes=tuple(Node(name=n, cluster=DOMAIN, pools=("pool-a", "pool-b"), gpus=2) for n in nodes),
    )


async def settled(cluster: Cluster, deadline_s: float = 40, **replicas: int) -> ClusterSnapshot:
    """Wait until both pools have exactly so many ready replicas of their newest template, and nothing else is left."""
    wanted = {"pool-a": replicas.get("a", 2), "pool-b": replicas.get("b", 1)}

    def so(seen: ClusterSnapshot) -> bool:
        pods = list(seen.state.pods.values())
        for pool, count in wanted.items():
            work, mine = seen.state.workloads[pool], [p for p in pods if p.pool == pool]
            if not work.observed or len(mine) != count or not all(p.ready and not p.deleting for p in mine):
                return False
            if work.ready != count or work.available != count or {p.template for p in mine} != {work.template}:
                return False
        return True

    return await until_read(cluster, so, f"{wanted} serve", deadline_s)


async def until_read(
    cluster: Cluster, so: Callable[[ClusterSnapshot], bool], what: str, deadline_s: float = 40
) -> ClusterSnapshot:
    """Read until it is so; the snapshot that shows it."""
    end = asyncio.get_running_loop().time() + deadline_s
    while True:
        seen = await cluster.read(DOMAIN)
        if so(seen):
            return seen
        assert asyncio.get_running_loop().time() < end, f"not within {deadline_s} s: {what}\n{seen.state}"
        await asyncio.sleep(0.1)


class _Lab(kube.Cluster):
    """Deployments with variables in their template."""

    def deployment(self, pool: kube.PoolSpec) -> dict[str, Any]:
        found = super().deployment(pool)
        found["spec"]["template"]["spec"]["containers"][0]["env"] = [
            {"name": "LEVEL", "value": "1"},
            {"name": "HF_TOKEN", "value": "hush"},
        ]
        return found


class KubeBench:
    """The real one; the adapter runs as the ServiceAccount and under the roles of docs/rbac."""

    variable = ("LEVEL", "1")
    agents = False

    def __init__(self, lab: _Lab) -> None:
        self.lab = lab
        self.plane = lab.control_plane
        self.nodes = tuple(lab.nodes)
        self.fleet = fleet_of(self.nodes, lab.namespace, lambda p: lab.addresses.slots(p, 6))
        self._apis: list[KubeApi] = []

    def access(self, account: str = "interlock") -> KubeAccess:
        """As one of the ServiceAccounts in namespace interlock."""
        token = self.plane.service_account_token("interlock", account)
        return from_kubeconfig(self.plane.kubeconfig_of(f"{account}-{uuid.uuid4().hex[:6]}", token))

    def api(self, account: str = "interlock", timeout_s: float = 10) -> KubeApi:
        """A client that ends with the bench."""
        self._apis.append(KubeApi(self.access(account), timeout_s=timeout_s))
        return self._apis[-1]

    def cluster(self, **options: Any) -> Cluster:
        api = self.api(timeout_s=options.pop("timeout_s", 10))
        return KubeCluster(self.fleet, api, **options)

    def apply_roles(self) -> None:
        """Every manifest, for this bench's namespace."""
        for name in ("fence", *sorted(p.stem for p in ROLES.glob("*.yaml") if p.stem != "fence")):
            self.plane.apply(self.manifest(name))

    def manifest(self, name: str) -> str:
        """As shipped, but for the namespace of the pools."""
        text = (ROLES / f"{name}.yaml").read_text(encoding="utf-8")
        return text.replace("namespace: inference", f"namespace: {self.lab.namespace}")

    def by_hand(self, key: str, value: Value) -> None:
        family, owner, *_ = key.split("/")
        if family == "cordon":
            self.lab.cordon(owner, value == "on")
        elif family == "replicas":
            self.plane.api.merge(self.lab.path(owner, "/scale"), {"spec": {"replicas": value}})
        elif family == "paused":
            self.plane.api.merge(self.lab.path(owner), {"spec": {"paused": value == "on"}})
        elif family == "image":
            spec = {"containers": [{"name": "engine", "image": value}]}
            self.plane.api.request(
                "PATCH",
                self.lab.path(owner),
                {"spec": {"template": {"spec": spec}}},
                "application/strategic-merge-patch+json",
            )
        else:
            raise AssertionError(key)

    def writes(self) -> int:
        mine = self.plane.writes(user="system:serviceaccount:interlock:interlock")
        return len([w for w in mine if w.applied and w.resource != "configmaps"])

    def behaviour(self) -> Any:
        return self.plane.api.get(self.scaler)["spec"].get("behavior")

    @property
    def scaler(self) -> str:
        """Path of pool-a's autoscaler."""
        return f"/apis/autoscaling/v2/namespaces/{self.lab.namespace}/horizontalpodautoscalers/pool-a"

    async def heal(self) -> None:
        """As it was at first: for the next test."""
        self.plane.resume_all()
        api, about = (
            self.plane.api,
            {"metadata": {"annotations": {"interlock.dev/epoch": None, "interlock.dev/permit": None}}},
        )
        api.merge("/api/v1/namespaces/interlock/configmaps/interlock-fence", {"data": None})
        for node in self.nodes:
            api.merge(f"/api/v1/nodes/{node}", about | {"spec": {"unschedulable": None}})
        for pool in self.lab.pools:
            wanted = self.lab.deployment(pool)
            api.merge(self.lab.path(pool.name), about | {"spec": {"paused": None}})
            api.apply(wanted)
        api.delete(self.scaler)
        api.apply(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "pool-a", "namespace": self.lab.namespace},
                "spec": {
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "pool-a"},
                    "minReplicas": 1,
                    "maxReplicas": 4,
                    "metrics": [
                        {
                            "type": "Resource",
                            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                        }
                    ],
                    "behavior": SCALER,
                },
            }
        )
        await settled(self.cluster())

    async def close(self) -> None:
        """Ends the clients."""
        for api in self._apis:
            await api.close()


@asynccontextmanager
async def kube_bench(plane: ControlPlane, folder: Path) -> AsyncIterator[KubeBench]:
    """One for several tests: `heal` before each."""
    nodes = {f"n-{uuid.uuid4().hex[:5]}-{i}": 2 for i in range(3)}
    pools = (kube.PoolSpec("pool-a", 2), kube.PoolSpec("pool-b", 1, budget=1))
    lab = await asyncio.to_thread(lambda: _Lab(plane, folder, pools, nodes, name=DOMAIN))
    lab.start()
    bench = KubeBench(lab)
    try:
        bench.apply_roles()
        await bench.heal()
        yield bench
    finally:
        await bench.close()
        lab.stop()


class SimulatedBench:
    """The simulated one, in real time and quick."""

    variable = ("LEVEL", "1")
    agents = False

    def __init__(self) -> None:
        self.nodes: tuple[str, ...] = ("n-0", "n-1", "n-2")
        self.fleet = fleet_of(self.nodes, "sim", lambda p: tuple(f"{p}:{8000 + i}" for i in range(6)))
        self.build()

    def build(self) -> None:
        """A new world."""
        env = {"LEVEL": "1"}
        pools = {
            "pool-a": SimSpec(IMAGE, env, min_available=1, autoscaler_max=4),
            "pool-b": SimSpec(IMAGE, env, min_available=1),
        }
        self.simulated = SimulatedCluster(self.fleet, DOMAIN, pools, start_s=0.1, end_s=0.05)

    def cluster(self, **options: Any) -> Cluster:
        self.simulated.clock = options.get("clock", utc_now)
        self.simulated.checkpoint = options.get("checkpoint", lambda _: None)
        return self.simulated

    def by_hand(self, key: str, value: Value) -> None:
        self.simulated.by_hand(key, value)

    def writes(self) -> int:
        return self.simulated.writes

    def behaviour(self) -> Any:
        return self.simulated.world.workloads["pool-a"].behaviour

    async def heal(self) -> None:
        self.build()
        await settled(self.cluster())


class SiteBench:
    """The cluster of a simulated site: the same behind the load of its API, moved on by the fluid model."""

    variable = ("FLAG", "none")
    agents = True
    nodes: tuple[str, ...] = ("east-n1", "east-n2", "east-n3")

    def __init__(self) -> None:
        self._clock: Clock = utc_now
        self.build()

    def build(self) -> None:
        """A new site."""
        common = {"cold_start": "0.1s", "version": IMAGE, "min_available": 1, "most_replicas": 6}
        pools = [
            {"name": "pool-a", "cluster": DOMAIN, "replicas": 2, "autoscaler_max": 4, **common},
            {"name": "pool-b", "cluster": DOMAIN, "replicas": 1, **common},
            {"name": "pool-c", "cluster": "west", "replicas": 1, **common},
        ]
        routes = [
            {"name": "chat", "pools": ["pool-a", "pool-b"], "requests_per_second": 1.0},
            {"name": "code", "pools": ["pool-c"], "requests_per_second": 1.0},
        ]
        clusters = [{"name": DOMAIN, "nodes": 3, "gpus_per_node": 2}, {"name": "west", "nodes": 1, "gpus_per_node": 2}]
        self.site = SimulatedSite(
            incident_of({"clusters": clusters, "pools": pools, "routes": routes}), lambda: self._clock()
        )
        self.fleet = self.site.fleet

    def cluster(self, **options: Any) -> Cluster:
        self._clock = options.get("clock", utc_now)
        self.site.world.clusters[DOMAIN].checkpoint = options.get("checkpoint", lambda _: None)
        return self.site.cluster

    def by_hand(self, key: str, value: Value) -> None:
        assert isinstance(value, str | int)
        self.site.set_by_hand({key: value})

    def writes(self) -> int:
        return self.site.world.clusters[DOMAIN].writes

    def behaviour(self) -> Any:
        return self.site.world.workload("pool-a").behaviour

    async def heal(self) -> None:
        self.build()
        await settled(self.cluster())
