"""Objects that the lab puts on the control plane, and how their states are read."""

from __future__ import annotations

import uuid
from typing import Any

NOT_READY = "node-not-ready.stage.kwok.x-k8s.io"
"""The label under which kwok posts a node as NotReady."""
GPU = "nvidia.com/gpu"
HOME = "lab.interlock.invalid/namespace"
"""Label of a node that says whose it is. Pods of a namespace go to its own nodes: clusters of tests share a scheduler."""


def node(name: str, gpus: int, labels: dict[str, str]) -> dict[str, Any]:
    """A GPU node. kwok keeps it Ready."""
    amount = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU: str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "status": {
            "capacity": amount,
            "allocatable": amount,
            "nodeInfo": {
                **dict.fromkeys(("architecture", "containerRuntimeVersion", "kernelVersion", "osImage"), "lab"),
                **dict.fromkeys(("kubeProxyVersion", "machineID", "systemUUID"), ""),
                "kubeletVersion": "v1.37.2",
                "operatingSystem": "linux",
                "bootID": str(uuid.uuid4()),
            },
        },
    }


def deployment(
    name: str, namespace: str, replicas: int, gpus: int, image: str, port: int, args: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A pool: label `app` is its name, a rollout never takes a replica away before its successor is Ready."""
    container: dict[str, Any] = {
        "name": "engine",
        "image": image,
        "args": list(args),
        "ports": [{"containerPort": port}],
        "resources": {"limits": {GPU: str(gpus)}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 20,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "terminationGracePeriodSeconds": 2,
                    "nodeSelector": {HOME: namespace},
                    "containers": [container],
                },
            },
        },
    }


def budget(name: str, namespace: str, min_available: int) -> dict[str, Any]:
    """The PodDisruptionBudget of a pool."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"minAvailable": min_available, "selector": {"matchLabels": {"app": name}}},
    }


def condition(thing: dict[str, Any], kind: str) -> bool:
    """True when the condition is there and True."""
    return any(c["type"] == kind and c["status"] == "True" for c in thing.get("status", {}).get("conditions", []))


def node_ready(thing: dict[str, Any]) -> bool:
    """Ready, and no taint that keeps pods away (a cordon is a taint too)."""
    return condition(thing, "Ready") and not thing["spec"].get("taints")


def pod_serves(thing: dict[str, Any]) -> bool:
    """Ready and not on its way out: what a PodDisruptionBudget counts as healthy."""
    return condition(thing, "Ready") and "deletionTimestamp" not in thing["metadata"]


def pool_of(thing: dict[str, Any]) -> str:
    """The label `app`, empty when there is none."""
    return str(thing["metadata"].get("labels", {}).get("app", ""))
