"""The fleet of an incident file: how large things are and how fast they are, in the words of whoever runs one.

Everything gets its name from here. Replicas of pool `chat-east` are the endpoints `chat-east-0:8000`, `chat-east-1:8000`, …;
nodes of cluster `east` are `east-n1`, `east-n2`, …; GPUs of a node are `0`, `1`, …. So the targets of detections are
`east`, `east/service/chat-east`, `east/service/chat-east/endpoint/chat-east-0:8000`, `east/node/east-n1` and
`east/node/east-n1/gpu/0`. What the numbers do is in docs/simulated-fleet.md.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Share
from runbooks.incident_time import Span

PORT = 8000
Count = int


class ApiSpec(Model):
    """The Kubernetes API of a cluster, as load on a capacity, both in the same arbitrary unit.

    Over its capacity it answers late and then not at all, and whatever is written through it waits.
    """

    capacity: float = Field(default=100.0, gt=0, description="What it can carry.")
    load: float = Field(default=30.0, ge=0, description="In normal times, without what the next three fields add.")
    per_replica: float = Field(default=0.2, ge=0, description="Load of each replica that runs.")
    per_start: float = Field(default=2.0, ge=0, description="Load of each replica while it starts.")
    per_request: float = Field(
        default=0.0,
        ge=0,
        description="Load per request/s that the cluster serves: where serving leans on the API or on its DNS.",
    )


class ClusterSpec(Model):
    """One cluster: its nodes, its API, and what its levers lean on."""

    name: Name = Field(description="Its name; its nodes are NAME-n1, NAME-n2, …")
    nodes: Count = Field(ge=1, le=2000, description="How many. More than its pools need are free.")
    gpus_per_node: Count = Field(default=8, ge=1, le=16, description="On each.")
    quota_gpus: Count | None = Field(
        default=None, ge=0, description="GPUs that its pools may have in all. None: no quota."
    )
    api: ApiSpec = Field(default=ApiSpec(), description="Its Kubernetes API.")
    traffic_runs_on: tuple[str, ...] = Field(
        default=(),
        description="Ids of targets without which its traffic cannot be steered (G11). Empty: an edge outside of the fleet.",
    )
    cluster_runs_on: tuple[str, ...] = Field(
        default=(), description="The same for what is written through its Kubernetes API, beside that API itself."
    )


class PoolSpec(Model):
    """One model pool: equal replicas of one engine. Rates are per replica."""

    name: Name = Field(description="Its name; its replicas are the endpoints NAME-0:8000, NAME-1:8000, …")
    cluster: Name = Field(description="Where it runs.")
    replicas: Count = Field(ge=1, le=2000, description="In normal times, all serving.")
    gpus_per_replica: Count = Field(default=1, ge=0, le=16, description="A replica never spans two nodes.")
    tokens_per_second: float = Field(default=1000.0, gt=0, description="Generated tokens/s that ONE replica can serve.")
    slots: Count = Field(default=64, ge=1, description="Requests that one replica runs at once; more of them wait.")
    kv_tokens: float = Field(
        default=400_000.0, gt=0, description="Tokens (prompt and generated) that the KV cache of one replica holds."
    )
    cold_start: Span = Field(
        default=120.0, description="From a place on a node until the first token: image, weights, warm-up."
    )
    most_replicas: Count | None = Field(
        default=None, ge=1, description="Addresses there are for it. None: twice its replicas, and four."
    )
    model: Name = Field(default="default", description="Which model it serves.")
    dialect: Literal["vllm", "llamacpp"] = Field(default="vllm", description="How its engines name their metrics.")
    version: Name = Field(default="v1", description="What it runs in normal times; a `change` fault brings another.")
    residency: str = Field(default="", description="Where its requests may be served, e.g. eu. Empty: not declared.")
    tenants: tuple[Name, ...] = Field(default=(), description="Whose requests it may serve. Empty: everybody's.")
    min_available: Count | None = Field(default=None, ge=0, description="Of its disruption budget. None: it has none.")
    autoscaler_max: Count | None = Field(
        default=None, ge=1, description="Replicas that its autoscaler may go up to. None: no autoscaler."
    )
    depends_on: tuple[Name, ...] = Field(default=(), description="Names of `dependencies` that each replica loads.")

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address that its replicas may get; the first `replicas` of them serve in normal times."""
        most = self.most_replicas or 2 * self.replicas + 4
        return tuple(f"{self.name}-{n}:{PORT}" for n in range(max(most, self.replicas)))


class RouteSpec(Model):
    """What users ask for: one model, served by pools that may stand in for each other."""

    name: Name = Field(description="Its name, e.g. of the model.")
    pools: tuple[Name, ...] = Field(min_length=1, description="They may stand in for each other.")
    weights: dict[Name, int] = Field(
        default_factory=dict, description="By pool, 0 to 100. Empty: by what the pools can serve."
    )
    requests_per_second: float = Field(gt=0, description="In normal times; a `demand` fault changes it.")
    tokens_per_request: float = Field(default=200.0, gt=0, description="That one request generates.")
    prompt_tokens: float = Field(default=800.0, ge=0, description="That one request brings.")
    deadline: Span = Field(default=60.0, gt=0, description="A request that is not answered by then has failed.")
    retries: float = Field(
        default=0.5, ge=0, le=10, description="How often clients send a failed request again, on average, at most."
    )
    tiers: dict[Name, Share] = Field(
        default_factory=lambda: {"batch": 0.3, "paid": 0.7},
        description="Share of the requests by tier, the tier that is refused first at the top. The shares add up to 1.",
    )
    target_utilisation: Share = Field(default=0.8, description="A receiving pool is never planned above this.")
    error_budget_left: Share | None = Field(default=None, description="None: the route has no error budget (G15).")

    @model_validator(mode="after")
    def _whole(self) -> RouteSpec:
        if self.tiers and abs(sum(self.tiers.values()) - 1) > 0.001:
            raise ValueError(f"tiers: the shares add up to {sum(self.tiers.values()):g}; make them add up to 1")
        for pool in self.weights:
            if pool not in self.pools:
                raise ValueError(f"weights: {pool!r} is not one of this route's pools {sorted(self.pools)}")
        return self


class DependencySpec(Model):
    """A database, a registry, an authentication service: load on a capacity, in the same arbitrary unit.

    Over its capacity new replicas cannot start, and (with `serves`) requests of the pools that lean on it fail.
    """

    name: Name = Field(description="Its name.")
    capacity: float = Field(gt=0, description="What it can carry.")
    load: float = Field(ge=0, description="In normal times, without the replicas.")
    per_replica: float = Field(default=0.0, ge=0, description="Load of each replica that leans on it.")
    per_start: float = Field(default=0.0, ge=0, description="Load of each such replica while it starts.")
    serves: bool = Field(default=False, description="True: requests need it too, not only starting replicas.")


class FleetSpec(Model):
    """How large things are and how fast. Small is fine: what counts is load against capacity."""

    clusters: tuple[ClusterSpec, ...] = Field(min_length=1, description="Domains of change control.")
    pools: tuple[PoolSpec, ...] = Field(min_length=1, description="Replicas of one engine in one cluster.")
    routes: tuple[RouteSpec, ...] = Field(min_length=1, description="What users ask for.")
    dependencies: tuple[DependencySpec, ...] = Field(default=(), description="What pools lean on beside their cluster.")

    @model_validator(mode="after")
    def _fits(self) -> FleetSpec:
        clusters = _unique("clusters", [c.name for c in self.clusters])
        pools = _unique("pools", [p.name for p in self.pools])
        _unique("routes", [r.name for r in self.routes])
        dependencies = _unique("dependencies", [d.name for d in self.dependencies])
        for pool in self.pools:
            _known(f"pools.{pool.name}.cluster", [pool.cluster], clusters, "cluster")
            _known(f"pools.{pool.name}.depends_on", pool.depends_on, dependencies, "dependency")
        served: dict[str, str] = {}
        for route in self.routes:
            _known(f"routes.{route.name}.pools", route.pools, pools, "pool")
            for name in route.pools:
                if (other := served.setdefault(name, route.name)) != route.name:
                    raise ValueError(
                        f"routes: pool {name!r} is on {other} and on {route.name}; give each route its own pools"
                    )
        if lost := sorted(pools - served.keys()):
            raise ValueError(f"routes: no route uses pool {lost[0]!r}; add it to the `pools` of a route")
        for cluster in self.clusters:
            _places(cluster, [p for p in self.pools if p.cluster == cluster.name])
        return self


def _places(cluster: ClusterSpec, pools: list[PoolSpec]) -> None:
    """A replica never spans two nodes."""
    if not pools:
        raise ValueError(f"clusters.{cluster.name}: no pool is in it; take the cluster out or give it a pool")
    nodes = 0.0
    for pool in pools:
        if pool.gpus_per_replica > cluster.gpus_per_node:
            raise ValueError(
                f"pools.{pool.name}.gpus_per_replica: {pool.gpus_per_replica} GPUs do not fit on a node of {cluster.name}, "
                f"which has {cluster.gpus_per_node}"
            )
        if pool.gpus_per_replica:
            nodes += pool.replicas / (cluster.gpus_per_node // pool.gpus_per_replica)
    if nodes > cluster.nodes:
        raise ValueError(
            f"clusters.{cluster.name}.nodes: its pools need {nodes:.1f} nodes of {cluster.gpus_per_node} GPUs and it has "
            f"{cluster.nodes}; give it more nodes or its pools fewer replicas"
        )


def _unique(field: str, names: list[str]) -> set[str]:
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ValueError(f"{field}: the name {twice[0]!r} is given twice; give each its own")
    return set(names)


def _known(field: str, names: tuple[str, ...] | list[str], known: set[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{field}: there is no {what} {name!r}; there are {', '.join(sorted(known)) or 'none'}")
