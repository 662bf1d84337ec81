"""Causes below the engine: nodes, GPUs, network, control plane, capacity, deployment. Levers: mission taxonomy, column levers."""

from __future__ import annotations

from worker.synthetic_story import Scene, Story, fault

NEEDS_RESET = (48, 62, 64, 95, 119, 120, 140)
"""XIDs whose immediate action is a reset of the GPU (R: NVIDIA's catalogue, by the mission's evidence)."""
NEEDS_APP = (13, 31, 94)
"""XIDs whose immediate action is a restart of the application (R)."""
OFF_THE_BUS = 79


def node_down(scene: Scene) -> Story:
    """A node is gone, or a GPU of it fell off the bus."""
    bus = scene.draw.happens(0.3) and scene.pool.gpus_per_replica > 0
    count = min(scene.cluster.nodes, 1 + scene.harder)
    broken = (
        fault("gpu", scene.begins, node=scene.node, gpu=0, xid=OFF_THE_BUS, reset_cures=False)
        if bus
        else fault("node_down", scene.begins, cluster=scene.cluster.name, nodes=count)
    )
    return Story(
        faults=(broken,),
        target=f"{scene.cluster.name}/node/{scene.node}",
        allowed=("reroute_traffic", "rebalance_nodes", "reboot_node", "isolate_endpoint"),
        did=("rebalance_nodes", "reboot_node"),
        words=f"{scene.node} {'lost a GPU from the bus' if bus else 'was not ready'}; its replicas had to go elsewhere.",
        said=("a machine is gone, its pods are Terminating", "errors, and one node is grey on the dashboard"),
        symptom="errors",
        lasts=scene.lasts(25, 45),
    )  # fmt: skip


def gpu_fault(scene: Scene) -> Story:
    """A GPU that needs a reset."""
    code = scene.draw.one(NEEDS_RESET)
    return Story(
        faults=(fault("gpu", scene.begins, node=scene.node, gpu=0, xid=code),),
        target=f"{scene.cluster.name}/node/{scene.node}/gpu/0",
        allowed=("rebalance_nodes", "reset_gpu", "isolate_endpoint", "reroute_traffic"),
        did=("rebalance_nodes", "reset_gpu"),
        words=f"GPU 0 of {scene.node} reported XID {code}; it had to be drained and reset.",
        said=("one pod of the pool fails, its GPU shows errors in the kernel log",),
        symptom="errors",
        lasts=scene.lasts(25, 45),
    )


def gpu_app_fault(scene: Scene) -> Story:
    """A GPU error whose application has to be started again, and no more."""
    code = scene.draw.one(NEEDS_APP)
    return Story(
        faults=(fault("gpu", scene.begins, node=scene.node, gpu=0, xid=code),),
        target=f"{scene.cluster.name}/node/{scene.node}/gpu/0",
        allowed=("restart_engine", "isolate_endpoint", "reroute_traffic"),
        did=("restart_engine",),
        words=f"GPU 0 of {scene.node} reported XID {code}: the engine on it had to be started again.",
        said=("one pod fails with CUDA errors",),
        symptom="errors",
        lasts=scene.lasts(20, 40),
    )


def network(scene: Scene) -> Story:
    """Many nodes of a cluster lose their network together."""
    share = min(1.0, scene.draw.between(0.4, 0.9) + 0.2 * scene.harder)
    return Story(
        faults=(fault("network", scene.begins, cluster=scene.cluster.name, share=share),),
        target=scene.cluster.name,
        allowed=("freeze_changes", "reroute_traffic"),
        did=("freeze_changes", "rollout_hotfix") if scene.hotfix else ("freeze_changes", "reroute_traffic"),
        words=f"{share:.0%} of the nodes of {scene.cluster.name} lost their network together; nobody reached their replicas.",
        said=("half of the nodes do not answer, they cannot all be broken",),
        symptom="cannot connect",
        lasts=scene.lasts(25, 45),
    )


def control_plane(scene: Scene) -> Story:
    """The Kubernetes API is overloaded; with it some of the name resolution."""
    load = scene.draw.between(120, 300) * (1 + scene.harder)
    needs = scene.draw.between(0.1, 0.5)
    return Story(
        faults=(fault("api_load", scene.begins, cluster=scene.cluster.name, load=load, serving_needs_it=needs),),
        target=scene.cluster.name,
        allowed=("freeze_changes", "reroute_traffic"),
        did=("freeze_changes", "rollout_hotfix") if scene.hotfix else ("freeze_changes", "reroute_traffic"),
        words=f"The API of {scene.cluster.name} got {load:.0f} of load more than is usual; {needs:.0%} of the requests that the "
        "cluster serves failed to resolve names.",
        said=("kubectl times out", "nothing can be deployed, and names do not resolve"),
        symptom="cannot connect",
        lasts=scene.lasts(25, 45),
    )  # fmt: skip


def cluster_gone(scene: Scene) -> Story:
    """A whole cluster is gone."""
    return Story(
        faults=(fault("cluster_gone", scene.begins, cluster=scene.cluster.name),),
        target=scene.service,
        allowed=("shed_load", "reroute_traffic", "increase_capacity"),
        did=("reroute_traffic", "shed_load"),
        words=f"All of {scene.cluster.name} was gone, and no GPU could be had in it.",
        said=("the zone is down", "everything in that region fails"),
        symptom="cannot connect",
        lasts=scene.lasts(25, 45),
    )


def allocation_late(scene: Scene) -> Story:
    """More replicas are wanted than there are GPUs for: they stay pending while the load has come already."""
    wanted = scene.pool.replicas + scene.draw.whole(2, 4)
    factor = scene.draw.between(1.45, 1.9) + 0.3 * scene.harder
    return Story(
        faults=(
            fault("by_hand", scene.begins, by="capacity plan", sets={f"replicas/{scene.pool.name}": wanted}),
            fault("demand", scene.begins + 60, route=scene.route.name, factor=factor, ramp=180.0),
        ),
        target=scene.service,
        allowed=("shed_load", "reroute_traffic", "increase_capacity"),
        did=("shed_load", "increase_capacity"),
        words=f"{scene.pool.name} was to have {wanted} replicas for a load {factor:.2f} times as high; no GPU was free and "
        "they stayed pending.",
        said=("our new replicas are Pending for half an hour", "requests are slow, the scale-up does not come"),
        symptom="slow",
        lasts=scene.lasts(25, 50),
    )  # fmt: skip


def deployment(scene: Scene) -> Story:
    """A deployment whose replicas never come up."""
    name = f"v{scene.draw.whole(2, 9)}"
    fixed = f"{name}.1" if scene.hotfix else None
    return Story(
        faults=(
            fault("change", scene.begins, pools=(scene.pool.name,), version=name, never_ready=True, fixed_by=fixed,
                  per_minute=scene.draw.between(1, 4)),
        ),
        target=scene.service,
        allowed=(
            *("rollback_change", "freeze_changes", "reroute_traffic", "isolate_endpoint"),
            *(("rollout_hotfix",) if scene.hotfix else ()),
        ),
        did=("rollout_hotfix",) if scene.hotfix else ("rollback_change",),
        words=f"{name} was deployed to {scene.pool.name} with a wrong deployment; its replicas never became ready.",
        said=("the deployment is stuck, pods are not ready", "since the rollout there are fewer and fewer replicas"),
        symptom="errors",
        lasts=scene.lasts(30, 60),
    )  # fmt: skip
