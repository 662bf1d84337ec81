"""Alerts that our own changes cause: a drained node goes NotReady, an evicted replica's address falls silent. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from runbooks.cluster import ClusterState
from runbooks.detection import Detection, Target
from runbooks.facts import GuardView, StandingReceipt
from runbooks.fleet import Fleet


def explained(
    target: Target,
    detections: Sequence[Detection],
    view: GuardView,
    state: ClusterState | None,
    workflow_id: str,
    fleet: Fleet,
) -> str:
    """Which standing change of another case makes this target look sick, in words; empty when none does.

    Only what surely follows from the change counts: a node that is out (its own alerts, its GPUs', its replicas'), and an
    address of a pool of that node that no replica has meanwhile. A node that takes replicas again explains nothing, even
    where the books still say that it is out: what people own may stand in them for ever.
    """
    if state is None:
        return ""
    for standing in view.standing:
        if standing.case.startswith(workflow_id + "#"):
            continue
        for node in standing.nodes:
            why = _of_node(target, detections, node, state, fleet)
            if why:
                return f"{why}, by {_named(standing)}"
    return ""


def _named(standing: StandingReceipt) -> str:
    return f"{standing.lever} on {standing.target_id} (case {standing.case})"


def _of_node(target: Target, detections: Sequence[Detection], node: str, state: ClusterState, fleet: Fleet) -> str:
    found = state.nodes.get(node)
    if found is not None and not found.cordoned:
        return ""
    # One alert that names the node does not explain the others of the same target.
    firing = [d for d in detections if d.status == "firing"]
    if target.node == node or (firing and all(d.labels.get("node") == node for d in firing)):
        return f"node {node} is out"
    pool, of = fleet.pool(target.service or ""), fleet.node(node)
    if target.endpoint is None or pool is None or pool.workload is None:
        return ""
    holders = [p for p in state.pods.values() if p.address == target.endpoint]
    if any(p.node == node for p in holders):
        return f"{target.endpoint} is on node {node}, which is out"
    # Its replica was moved: the address is nobody's. Known only from a full reading of the cluster.
    moved = not holders and of is not None and pool.name in of.pools
    return f"{target.endpoint} belonged to a replica that was moved off node {node}" if moved else ""
