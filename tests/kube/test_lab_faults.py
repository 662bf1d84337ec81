"""Faults on the lab: nodes that fail, are silent or reboot, engines that die, an API server that sleeps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import httpx

from tests.kube import manifests
from tests.kube.cluster import Cluster, PoolSpec

NewCluster = Callable[..., Cluster]


async def test_a_node_that_fails_loses_its_pods_and_the_watcher_sees_it(new_cluster: NewCluster) -> None:
    """NotReady for longer than the toleration: the pods are deleted and replaced elsewhere. The minimum watcher records
    the moment at which too few served, and the node takes pods again when it is healed."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=2, budget=2), nodes={"gpu-a": 1, "gpu-b": 1, "gpu-c": 1})
    victim, node = next(iter(cluster.placement("chat-a").items()))
    with cluster.watch_minimum() as minimum:
        cluster.kubelet.fail_node(node, reason="GPUFailed", message="Xid 79")
        await cluster.until_node(node, ready=False)
        await cluster.until(lambda: victim not in cluster.placement("chat-a"), "the pod is evicted", 30)
        await cluster.until_serving("chat-a", 2)
    assert node not in cluster.placement("chat-a").values()
    assert {v.by for v in minimum.violations} >= {"pods"}
    assert minimum.least["chat-a"] == 1
    cluster.kubelet.heal_node(node)
    await cluster.until(lambda: manifests.node_ready(cluster.world.node(node)), "it takes pods again")


async def test_a_silent_node_keeps_its_pods_terminating(new_cluster: NewCluster) -> None:
    """Nobody confirms the end of a pod on a node that is away; when it is back the pod goes."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=1), nodes={"gpu-a": 1, "gpu-b": 1})
    victim, node = next(iter(cluster.placement("chat-a").items()))
    cluster.kubelet.fail_node(node, silent=True)
    await cluster.until(
        lambda: len(cluster.world.serving("chat-a")) == 1 and victim not in cluster.placement("chat-a"), "it moved"
    )
    assert victim in {p["metadata"]["name"] for p in cluster.world.of_pool("chat-a")}
    cluster.kubelet.heal_node(node)
    await cluster.until_serving("chat-a", 1)


async def test_a_reboot_changes_the_boot_id_and_starts_the_pods_anew(new_cluster: NewCluster) -> None:
    """Containers end and start again, in the same pods."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=1), nodes={"gpu-a": 1})
    before = cluster.world.node("gpu-a")["status"]["nodeInfo"]["bootID"]
    pod = cluster.kubelet.pods("chat-a")[0]
    boot_id = cluster.kubelet.reboot_node("gpu-a")
    assert boot_id != before
    await cluster.until(
        lambda: cluster.world.node("gpu-a")["status"]["nodeInfo"]["bootID"] == boot_id, "the boot id is read back"
    )
    await cluster.until(lambda: pod.state.restarts >= 1, "the container has been restarted")
    await cluster.until_serving("chat-a", 1)
    assert set(cluster.placement("chat-a")) == {pod.name}


async def test_a_server_that_is_stopped_answers_nothing_and_goes_on_after(new_cluster: NewCluster) -> None:
    """What tests of a slow API server stand on: questions time out, and nothing is lost when it goes on."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=1), nodes={"gpu-a": 1})
    plane = cluster.control_plane
    with plane.client() as client:
        plane.pause_component("apiserver")
        try:
            timed_out = False
            try:
                client.get("/readyz", timeout=0.5)
            except httpx.TimeoutException:
                timed_out = True
        finally:
            plane.resume_component("apiserver")
        assert timed_out
        assert client.get("/readyz").text == "ok"
    await cluster.until_serving("chat-a", 1)


async def test_a_killed_engine_is_restarted_in_its_pod(new_cluster: NewCluster) -> None:
    """The container's end is told with its status, and it serves again at the same address."""
    cluster = new_cluster(PoolSpec("chat-a", replicas=1), nodes={"gpu-a": 1})
    pod = cluster.kubelet.pods("chat-a")[0]
    assert pod.process is not None
    first = pod.process.pid
    os.kill(first, signal.SIGKILL)
    await cluster.until(lambda: not cluster.serving("chat-a"), "its end is seen")
    await cluster.until_serving("chat-a", 1)
    status = cluster.world.of_pool("chat-a")[0]["status"]["containerStatuses"][0]
    assert status["restartCount"] == 1
    assert status["lastState"]["terminated"]["exitCode"] == 137
    assert pod.process.pid != first
    assert cluster.serving("chat-a") == {pod.address}
