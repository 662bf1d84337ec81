"""From one picture to the cluster's state, in the words of levers and gates. Pure."""

from __future__ import annotations

from pydantic import Field, ValidationError

from activities.adapters.kube_errors import Json
from activities.adapters.kube_read import Picture
from activities.adapters.kube_values import (
    HASH,
    asked,
    condition,
    count,
    labels,
    moment,
    name,
    notes,
    said,
)
from activities.adapters.kube_workload import find, replicasets, workload_state
from runbooks.base import Model, Time
from runbooks.cluster import ClusterState, NodeState, PodState
from runbooks.fleet import Workload

HEALTH = "interlock.dev/gpu-health"
"""Annotation of a Node: what its agent found wrong with its GPUs, and when it looked."""
GPU = "nvidia.com/gpu"


class GpuHealth(Model):
    """What a node's agent publishes, by GPU index: what is wrong, and what it could not tell."""

    seen: Time
    sick: dict[str, str] = Field(default_factory=dict)
    unknown: dict[str, str] = Field(default_factory=dict)
    gpus: tuple[str, ...] = Field(default=(), description="Every GPU that it counted.")


def state(picture: Picture, workloads: dict[str, Workload], gpu: str = GPU) -> ClusterState:
    """All nodes, the pods of the fleet's Deployments, and the Deployments themselves."""
    found = {pool: workload_state(pool, workload, picture, gpu) for pool, workload in workloads.items()}
    held: dict[str, int] = {}
    for pod in picture.pods:
        if node := pod["spec"].get("nodeName"):
            held[node] = held.get(node, 0) + asked(pod["spec"], gpu)
    return ClusterState(
        nodes={name(n): _node(n, held.get(name(n), 0), gpu) for n in picture.nodes},
        pods={p.name: p for p in _pods(picture, workloads)},
        workloads={pool: one for pool, one in found.items() if one is not None},
    )


def gpu_health(node: Json) -> GpuHealth | None:
    """What the node's agent said; None: no agent, or words that nobody can read."""
    try:
        return GpuHealth.model_validate_json(notes(node)[HEALTH])
    except (KeyError, ValidationError):
        return None


def _node(node: Json, held: int, gpu: str) -> NodeState:
    status, ready, health = node.get("status") or {}, condition(node, "Ready"), gpu_health(node)
    up = ready.get("status") == "True"
    return NodeState(
        name=name(node),
        ready=up,
        cordoned=bool(node["spec"].get("unschedulable")),
        gpus=count((status.get("allocatable") or {}).get(gpu, 0)),
        gpus_used=held,
        boot_id=(status.get("nodeInfo") or {}).get("bootID", ""),
        reason="" if up else said(ready) or "it has never said that it is ready",
        sick_gpus=health.sick if health is not None else {},
        counted_gpus=health.gpus if health is not None else (),
        unknown_gpus=health.unknown if health is not None else {},
        agent_seen_at=health.seen if health is not None else None,
    )


def _pods(picture: Picture, workloads: dict[str, Workload]) -> list[PodState]:
    """Deployment → ReplicaSet → Pod by owner, never by label: a label says what somebody wanted."""
    pools: dict[str, tuple[str, str]] = {}
    for pool, workload in workloads.items():
        deployment = find(picture.deployments, workload.namespace, workload.deployment)
        for one in replicasets(picture, deployment) if deployment is not None else ():
            pools[one["metadata"]["uid"]] = (pool, labels(one).get(HASH, ""))
    found = []
    for pod in picture.pods:
        owner = next((o["uid"] for o in pod["metadata"].get("ownerReferences") or [] if o.get("controller")), "")
        if owner in pools:
            found.append(_pod(pod, *pools[owner]))
    return found


def _pod(pod: Json, pool: str, template: str) -> PodState:
    placed = condition(pod, "PodScheduled")
    refused = placed.get("status") == "False"
    return PodState(
        name=name(pod),
        uid=pod["metadata"]["uid"],
        pool=pool,
        node=pod["spec"].get("nodeName"),
        ready=ready(pod),
        deleting="deletionTimestamp" in pod["metadata"],
        address=address(pod),
        created_at=moment(pod["metadata"]["creationTimestamp"]),
        template=template,
        waiting=said(placed) if refused else _waiting(pod),
        unschedulable=refused and placed.get("reason") == "Unschedulable",
    )


def ready(pod: Json) -> bool:
    """By its own condition."""
    return bool(condition(pod, "Ready").get("status") == "True")


def address(pod: Json) -> str | None:
    """podIP:port of the first container port; None before it has both."""
    ip = (pod.get("status") or {}).get("podIP")
    ports = [p["containerPort"] for c in pod["spec"]["containers"] for p in c.get("ports") or []]
    if not ip or not ports:
        return None
    return f"[{ip}]:{ports[0]}" if ":" in ip else f"{ip}:{ports[0]}"


def _waiting(pod: Json) -> str:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        for kind in ("waiting", "terminated"):
            if about := (container.get("state") or {}).get(kind):
                return said(about)
    return ""
