"""What a site can measure of a cluster: its API, its names, its nodes."""

from __future__ import annotations

from collections.abc import Iterator

from activities.adapters.fluid_world import FluidWorld

Numbers = dict[str, float | bool | str]


def cluster_measures(world: FluidWorld, cluster: str) -> Numbers:
    """Nothing when it is gone: whoever would measure it is in it."""
    nodes = [world.worlds[cluster].nodes[n] for n in world.nodes_of(cluster)]
    down = sum(1 for n in nodes if n.failed)
    found: Numbers = {"nodes_not_ready": float(down), "nodes_not_ready_share": down / len(nodes)}
    api = world.apis[cluster]
    if api.gone:
        return {}
    used = api.load / api.capacity if api.capacity else 2.0
    found["apiserver_load"] = used
    found["apiserver_latency_p99"] = 0.1 / (1 - used) if used < 0.99 else min(60.0, 10 * used)
    found["apiserver_error_share"] = api.failing
    found["dns_error_share"] = world.levels.api_serves.get(cluster, 0.0) if api.over else 0.0
    return found


def node_measures(world: FluidWorld, cluster: str, of_cluster: Numbers) -> Iterator[tuple[str, Numbers]]:
    """By target id; none when the cluster is gone."""
    if not of_cluster:
        return
    for name in world.nodes_of(cluster):
        node = world.worlds[cluster].nodes[name]
        lost: Numbers = {"gpus_lost": float(len(node.lost))} if node.lost else {}
        share = of_cluster["nodes_not_ready_share"]
        yield (
            f"{cluster}/node/{name}",
            {"node_ready": 0.0 if node.failed else 1.0, "nodes_not_ready_share": share, **lost},
        )
