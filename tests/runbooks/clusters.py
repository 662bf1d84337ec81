"""A small cluster to plan against: two pools of one route on two nodes of four GPUs, all of it well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runbooks.cluster import ClusterState, NodeState, PodState, Revision, WorkloadState
from runbooks.facts import Settings
from runbooks.fleet import Dependency, Endpoint, Fleet, Node, Pool, Route, Workload, outside

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def ago(minutes: float) -> datetime:
    """A moment before now."""
    return NOW - timedelta(minutes=minutes)


def pool(name: str, replicas: int, addresses: int, tps: float = 30.0, **more: Any) -> Pool:
    """A pool that a cluster runs: its pods may get any of the addresses."""
    endpoints = tuple(Endpoint(address=f"{name}-{n}:8000") for n in range(addresses))
    work = {"namespace": "models", "deployment": name, "replicas": replicas, **more}
    return Pool(
        name=name, cluster="west", dialect="vllm", endpoints=endpoints, tokens_per_second=tps,
        workload=Workload.model_validate(work),
    )  # fmt: skip


FLEET = Fleet(
    routes=(Route(name="chat", pools=("big", "small"), tiers=("batch", "interactive")),),
    pools=(pool("big", 3, 6, depends_on=("registry",)), pool("small", 1, 2)),
    nodes=(
        Node(name="n1", cluster="west", pools=("big", "small"), gpus=4),
        Node(name="n2", cluster="west", pools=("big",), gpus=4),
    ),
    dependencies=(Dependency(name="registry", headroom="registry_room"),),
    controls=outside("west"),
)
"""Three replicas of `big` (90 tokens/s) and one of `small` (30): three quarters and one quarter of the route."""


def node(name: str, used: int = 2, **more: Any) -> NodeState:
    """Ready, four GPUs, its agent has spoken."""
    base = {
        "name": name, "ready": True, "cordoned": False, "gpus": 4, "gpus_used": used, "boot_id": f"boot-{name}",
        "agent_seen_at": NOW,
    }  # fmt: skip
    return NodeState.model_validate({**base, **more})


def pod(name: str, on: str | None = "n1", of: str = "big", age: float = 60.0, **more: Any) -> PodState:
    """Serving for an hour."""
    base = {
        "name": name, "uid": f"uid-{name}", "pool": of, "node": on, "ready": True, "deleting": False,
        "address": f"{name}:8000", "created_at": ago(age), "template": "v1",
    }  # fmt: skip
    return PodState.model_validate({**base, **more})


def revision(template: str, number: int, minutes: float) -> Revision:
    """Made so many minutes ago."""
    return Revision(template=template, number=number, created_at=ago(minutes), image=f"engine:{template}")


def work(name: str, desired: int, **more: Any) -> WorkloadState:
    """Settled: one revision, all replicas ready, one disruption allowed."""
    base = {
        "pool": name, "desired": desired, "ready": desired, "updated": desired, "available": desired, "observed": True,
        "paused": False, "template": "v1", "revisions": (revision("v1", 1, 600),), "gpus_per_replica": 1,
        "image": "engine:v1", "disruptions_allowed": 1, "max_unavailable": 0,
    }  # fmt: skip
    return WorkloadState.model_validate({**base, **more})


def state(
    nodes: tuple[NodeState, ...] | None = None,
    pods: tuple[PodState, ...] | None = None,
    big: WorkloadState | None = None,
    small: WorkloadState | None = None,
) -> ClusterState:
    """big-0 and small-0 on n1, big-1 and big-2 on n2; or parts of it otherwise."""
    nodes = nodes if nodes is not None else (node("n1"), node("n2"))
    if pods is None:
        pods = (pod("big-0"), pod("small-0", of="small"), pod("big-1", "n2"), pod("big-2", "n2"))
    return ClusterState(
        nodes={n.name: n for n in nodes},
        pods={p.name: p for p in pods},
        workloads={"big": big or work("big", 3), "small": small or work("small", 1)},
    )


SETTINGS: Settings = {
    "cordon/n1": "off", "cordon/n2": "off", "replicas/big": 3, "replicas/small": 1, "image/big": "engine:v1",
    "image/small": "engine:v1", "env/big/FLAG": "old", "env/small/FLAG": "old", "template/big": "v1",
    "template/small": "v1", "paused/big": "off", "paused/small": "off", "autoscale/big": "on", "boot/n1": "boot-n1",
    "gpu/n1/0": 0, "gpu/n1/1": 4,
}  # fmt: skip
"""As the cluster adapter would read the state above."""
