"""What the control plane's word on a cluster says about a target, in the names of evidence. Pure: state in, values out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from runbooks.cluster import ClusterState, NodeState, PodState, WorkloadState
from runbooks.detection import Target, TargetKind
from runbooks.fleet import Fleet
from runbooks.taxonomy_evidence import Measured

AGENT_SILENT = timedelta(seconds=60)
LATELY = timedelta(minutes=60)
ENDED = ("CrashLoopBackOff", "Error", "OOMKilled", "Completed", "StartError", "ContainerCannotRun")
"""Why a replica waits, by the kubelet, when its engine has ended."""
Values = dict[str, Measured]


def of_cluster(
    state: ClusterState, target: Target, fleet: Fleet, now: datetime, silent: Collection[str] = ()
) -> Values:
    """What can be said; what cannot is not in it. `now`: when the state was read. `silent`: engines that gave no token."""
    nodes = list(state.nodes.values())
    values: Values = {}
    # Many lost nodes are a fault of the cluster, or of a pool with a replica on one of them; of a pool elsewhere they explain
    # nothing. A node or an engine of many is a member of it: that they are one fault is for the domain's Guard to see (G13),
    # and two hundred cases of the domain's class would page as often.
    if nodes and (target.kind is TargetKind.CLUSTER or (target.kind is TargetKind.SERVICE and _on_lost(state, target))):
        lost = sum(not n.ready for n in nodes)
        values |= {"nodes_not_ready": float(lost), "nodes_not_ready_share": lost / len(nodes)}
    if target.kind is TargetKind.CLUSTER:
        return values
    if target.service is None:
        node = state.nodes.get(target.node or "")
        if node is None:
            return values
        values |= {"node_ready": float(node.ready), "on_lost_nodes": float(not node.ready)}
        return values | _gpus([node], fleet, now, target.gpu)
    pods = [p for p in state.of(target.service) if target.endpoint in (None, p.address)]
    # A sick GPU somewhere under a large pool is not what ails it, as long as every replica there serves.
    ailing = pods if target.endpoint is not None else [p for p in pods if not p.ready or p.address in silent]
    homes = [n for n in dict.fromkeys(p.node for p in ailing) if n is not None and n in state.nodes]
    if pods:
        values["on_lost_nodes"] = float(_lost(state, pods))
        values["crash_loops"] = float(sum(_ended(p) for p in pods))
        values |= _gpus([state.nodes[n] for n in homes], fleet, now)
    work = state.workloads.get(target.service)
    return values | (_replicas(state, work, now) if work is not None else {})


def _on_lost(state: ClusterState, target: Target) -> bool:
    return _lost(state, state.of(target.service or "")) > 0


def _lost(state: ClusterState, pods: Sequence[PodState]) -> int:
    return sum(p.node in state.nodes and not _ready(state, p) for p in pods)


def _ready(state: ClusterState, pod: PodState) -> bool:
    return state.nodes[pod.node or ""].ready


def _ended(pod: PodState) -> bool:
    return not pod.ready and not pod.unschedulable and pod.waiting.startswith(ENDED)


def _gpus(nodes: Sequence[NodeState], fleet: Fleet, now: datetime, only: str | None = None) -> Values:
    """By the word of the nodes' agents. One that is silent says nothing, and then there is no number of all of them."""
    if any(n.agent_seen_at is None or now - n.agent_seen_at > AGENT_SILENT for n in nodes):
        return {}
    sick = sum(len([g for g in n.sick_gpus if only in (None, g)]) for n in nodes)
    return {"gpus_sick_here": float(sick), **_off_bus(nodes, fleet, only)}


def _off_bus(nodes: Sequence[NodeState], fleet: Fleet, only: str | None) -> Values:
    gone = 0
    for node in nodes:
        known = fleet.node(node.name)
        if known is None or not known.gpus:
            return {}  # nobody has said how many it has
        seen = {*node.counted_gpus, *node.unknown_gpus}
        gone += sum(only in (None, str(i)) for i in range(known.gpus) if str(i) not in seen)
    return {"gpus_off_bus_here": float(gone)}


def _replicas(state: ClusterState, work: WorkloadState, now: datetime) -> Values:
    pods = state.of(work.pool)
    values: Values = {
        "replicas_desired": float(work.desired),
        "replicas_ready": float(work.ready),
        "unschedulable": float(sum(p.unschedulable for p in pods)),
    }
    newest = next((r for r in work.revisions if r.template == work.template), None)
    if newest is None or len(work.revisions) < 2 or now - newest.created_at > LATELY:
        return values  # no change within the hour
    new = sum(p.ready and p.template == work.template for p in pods)
    minutes = max(0.0, (now - newest.created_at).total_seconds() / 60)
    return values | {"minutes_since_change": round(minutes, 1), "change_unfinished": new < work.desired}
