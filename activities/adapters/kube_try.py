"""One extra replica on a node that takes none, to see whether it serves: beside the scheduler and every controller."""

from __future__ import annotations

from copy import deepcopy

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_errors import Exists, Json, NotFound
from activities.adapters.kube_read import APPS, CORE
from activities.adapters.kube_state import address, ready
from activities.adapters.kube_values import labels, selects
from activities.errors import Refused
from runbooks.fleet import Workload

CHECK, POOL = "interlock.dev/check", "interlock.dev/pool"
ROLE = "rebalance_nodes.yaml"
LIVES_S = 2400
"""Longer than all attempts of a check together."""
CORDON = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}


async def try_node(api: KubeApi, workload: Workload, node: str, pool: str, name: str) -> str | None:
    """See `Cluster.try_node`. Refused: a pod of this name is there and is not this check."""
    path = f"{CORE}/namespaces/{workload.namespace}/pods"
    try:
        pod = await api.get(f"{path}/{name}")
    except NotFound:
        deployment = await api.get(f"{APPS}/namespaces/{workload.namespace}/deployments/{workload.deployment}")
        try:
            pod = await api.create(path, replica(deployment, node, pool, name), role=ROLE)
        except Exists:
            pod = await api.get(f"{path}/{name}")
    if not _ours(pod, pool) or pod["spec"].get("nodeName") != node:
        raise Refused(f"pod {name} in {workload.namespace} is there already and is no check of {pool} on {node}")
    return address(pod) if ready(pod) and "deletionTimestamp" not in pod["metadata"] else None


async def end_try(api: KubeApi, workload: Workload, pool: str, name: str) -> None:
    """See `Cluster.end_try`. Refused: the pod of this name is not a check of ours."""
    path = f"{CORE}/namespaces/{workload.namespace}/pods/{name}"
    try:
        pod = await api.get(path)
        if not _ours(pod, pool):
            raise Refused(f"pod {name} in {workload.namespace} is no check of {pool}: it stays")
        await api.delete(path, role=ROLE, uid=pod["metadata"]["uid"], grace_s=0)
    except NotFound:
        return


def replica(deployment: Json, node: str, pool: str, name: str) -> Json:
    """A pod of the present template, bound to the node, that no controller, Service or budget takes for its own."""
    template = deepcopy(deployment["spec"]["template"])
    marks = {CHECK: "true", POOL: pool}
    if selects(deployment["spec"]["selector"], marks):
        raise Refused(f"the selector of {pool} takes every pod that is labelled {marks}: a check would be counted")
    spec = template["spec"]
    # Bound here and not by the scheduler: a cordon is no obstacle, and the node's kubelet still counts its GPUs.
    spec |= {"nodeName": node, "restartPolicy": "Never", "tolerations": [*(spec.get("tolerations") or []), CORDON]}
    # When everybody who knows of it dies, the kubelet ends it: a GPU must not be held by what nobody owns.
    spec["activeDeadlineSeconds"] = LIVES_S
    about = {"name": name, "labels": marks, "annotations": (template.get("metadata") or {}).get("annotations") or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}


def _ours(pod: Json, pool: str) -> bool:
    return labels(pod).get(CHECK) == "true" and labels(pod).get(POOL) == pool
