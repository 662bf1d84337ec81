"""The inventory that Interlock is told: routes, pools and endpoints of each cluster. What is not in it is not touched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from runbooks.base import Model, Name, Share
from runbooks.detection import Target


class Endpoint(Model):
    """One replica: `address` is host:port, and the name of the endpoint everywhere."""

    address: Name
    node: Name | None = None


class Workload(Model):
    """The Deployment that runs a pool. The pool's `endpoints` then list every address that its pods may get."""

    namespace: Name
    deployment: Name
    replicas: int = Field(ge=1, description="Replicas in normal times: shares and minimums are of these.")
    depends_on: tuple[Name, ...] = Field(default=(), description="Names of `dependencies` that more replicas lean on.")


class Dependency(Model):
    """Something that more replicas load: a database, a registry, a quota of somebody else."""

    name: Name
    headroom: str = Field(min_length=1, description="PromQL of one number: how many more replicas it can take.")
    serves: bool = Field(
        default=False,
        description="True: load that is moved to a pool leans on it as well, not only replicas that start: a database that "
        "every request asks, or the Kubernetes API of a cluster whose pools scale with their load. Counted in replicas' worth.",
    )


class Node(Model):
    """A machine with GPUs. `pools` run on it; the first of them proves that it serves."""

    name: Name
    cluster: Name
    pools: tuple[Name, ...] = Field(min_length=1)
    gpus: int = Field(default=0, ge=0)
    bmc: str = Field(default="", description="Base URL of its Redfish service, when it is rebooted that way.")


class Pool(Model):
    """A model pool (a `service` target)."""

    name: Name
    cluster: Name
    dialect: Literal["vllm", "llamacpp"]
    endpoints: tuple[Endpoint, ...] = Field(min_length=1)
    tokens_per_second: float = Field(gt=0, description="What ONE endpoint can serve, tokens/s, as measured.")
    model: str = "default"
    residency: str = ""
    tenants: tuple[str, ...] = ()
    workload: Workload | None = None

    @property
    def size(self) -> int:
        """Endpoints in normal times."""
        return self.workload.replicas if self.workload is not None else len(self.endpoints)


class Route(Model):
    """The pools that serve the same model, among which traffic may move. `tiers` from first to be refused to last."""

    name: Name
    pools: tuple[Name, ...] = Field(min_length=1)
    tiers: tuple[Name, ...] = ()
    target_utilisation: Share = Field(default=0.8, description="A receiving pool is never planned above this.")
    error_budget: str = Field(
        default="", description="PromQL of one number: the share of the error budget that is left, 0 to 1 (G15)."
    )


class ControlPlane(Model):
    """What one kind of lever works through in a cluster, and what that needs itself (G11).

    traffic: the proxy or its routes. cluster: the Kubernetes API. node: the nodes' own agents, or their BMCs.
    """

    cluster: Name
    kind: Literal["traffic", "cluster", "node"]
    runs_on: tuple[str, ...] = Field(
        default=(),
        description="Ids of the targets without which it does not work: `east`, `east/node/cp-1`. "
        "Empty: it is outside of everything in this fleet.",
    )

    @field_validator("runs_on")
    @classmethod
    def _ids(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for target in value:
            try:
                Target.of(target)
            except ValueError:
                raise ValueError(f"{target!r} is no target id; write a cluster or CLUSTER/node/NAME") from None
        return value


class Fleet(Model):
    """Everything Interlock may touch."""

    routes: tuple[Route, ...]
    pools: tuple[Pool, ...]
    nodes: tuple[Node, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    controls: tuple[ControlPlane, ...] = Field(
        default=(), description="A kind of lever that is not declared here for a cluster is not moved there (G11)."
    )

    @model_validator(mode="after")
    def _names(self) -> Fleet:
        known = {p.name for p in self.pools}
        if len(known) != len(self.pools):
            raise ValueError("pools: two pools have the same name; give each pool its own")
        for route in self.routes:
            for name in route.pools:
                if name not in known:
                    raise ValueError(f"routes.{route.name}.pools: there is no pool {name!r}; pools are {sorted(known)}")
        clusters = {p.name: p.cluster for p in self.pools}
        for node in self.nodes:
            for name in node.pools:
                if clusters.get(name) != node.cluster:
                    raise ValueError(
                        f"nodes.{node.name}.pools: {name!r} is not a pool of cluster {node.cluster}; "
                        f"name pools of the node's own cluster"
                    )
        named = {d.name for d in self.dependencies}
        for pool in self.pools:
            for name in pool.workload.depends_on if pool.workload else ():
                if name not in named:
                    raise ValueError(
                        f"pools.{pool.name}.workload.depends_on: there is no dependency {name!r}; "
                        f"dependencies are {sorted(named)}"
                    )
        return self

    def control(self, cluster: str, kind: str) -> ControlPlane | None:
        """What levers of this kind work through in this cluster, or None when nobody has declared it."""
        return next((c for c in self.controls if (c.cluster, c.kind) == (cluster, kind)), None)

    def node(self, name: str) -> Node | None:
        """The node, or None when the inventory has none of this name."""
        return next((n for n in self.nodes if n.name == name), None)

    def pool(self, name: str) -> Pool | None:
        """The pool, or None when the inventory has none of this name."""
        return next((p for p in self.pools if p.name == name), None)

    def route(self, name: str) -> Route | None:
        """The route, or None."""
        return next((r for r in self.routes if r.name == name), None)

    def route_of(self, pool: str) -> Route | None:
        """The first route that the pool serves, or None."""
        return next((r for r in self.routes if pool in r.pools), None)

    def has(self, target: Target) -> bool:
        """True when the target names something of this inventory."""
        if target.node is not None and target.service is None:
            node = self.node(target.node)
            if node is None or node.cluster != target.cluster:
                return False
            gpu = target.gpu or ""  # a GPU may also be named by its uuid; an index must be one that the node has
            return not (node.gpus and gpu.isdigit() and int(gpu) >= node.gpus)
        if target.service is None:
            return any(p.cluster == target.cluster for p in self.pools)
        pool = self.pool(target.service)
        if pool is None or pool.cluster != target.cluster:
            return False
        return target.endpoint is None or any(e.address == target.endpoint for e in pool.endpoints)

    def domains(self) -> tuple[str, ...]:
        """All domains of change control, sorted."""
        return tuple(sorted({p.cluster for p in self.pools}))


def homes_of(key: str, fleet: Fleet) -> set[str]:
    """Domains in which a setting of `runbooks/change.py` lies. Empty: the fleet does not know what it is of."""
    family, _, rest = key.partition("/")
    first = rest.split("/")[0]
    if family in ("weight", "admit"):
        route = fleet.route(first)
        names = route.pools if route is not None else ()
        return {p.cluster for n in names if (p := fleet.pool(n)) is not None}
    if family in ("cordon", "boot", "gpu"):
        node = fleet.node(first)
        return {node.cluster} if node is not None else set()
    pool = fleet.pool(first)
    return {pool.cluster} if pool is not None else set()


def outside(*clusters: str) -> tuple[ControlPlane, ...]:
    """Controls of clusters whose levers work through nothing that is in this fleet."""
    kinds: tuple[Literal["traffic", "cluster", "node"], ...] = ("traffic", "cluster", "node")
    return tuple(ControlPlane(cluster=c, kind=k) for c in clusters for k in kinds)
