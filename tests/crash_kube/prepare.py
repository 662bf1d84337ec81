"""What stands on the cluster before the case of a lever begins, done by an administrator."""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from typing import Any

from activities.adapters.kube_settings import RESETS
from activities.adapters.kube_state import HEALTH, GpuHealth
from tests.crash_kube.hands import WANTS_RESET
from tests.crash_kube.lane import Lane
from tests.nvml.standin import SONAME, Node

SCALER = {"scaleUp": {"stabilizationWindowSeconds": 7, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]}}


async def prepare(lane: Lane) -> None:
    """Returns when it is so."""
    match lane.story.lever:
        case "rollback_change":
            await _changed(lane)
        case "freeze_changes":
            await asyncio.to_thread(_scaled, lane)
        case "reset_gpu" | "reboot_node":
            await asyncio.to_thread(_drained, lane)
        case _:
            pass


async def _changed(lane: Lane) -> None:
    """A change of the pool, rolled out in full, that the fault will follow."""
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "engine", "image": "engine:v2"}]}}}}
    api = lane.cluster.control_plane.api
    await asyncio.to_thread(
        api.request, "PATCH", lane.cluster.path("a"), patch, "application/strategic-merge-patch+json"
    )

    def rolled() -> bool:
        pods = lane.cluster.world.of_pool("a")
        images = {p["spec"]["containers"][0]["image"] for p in pods}
        return images == {"engine:v2"} and len(lane.cluster.world.serving("a")) == len(pods) == 1

    await lane.cluster.until(rolled, "the change is rolled out", 60)


def _scaled(lane: Lane) -> None:
    """Pool a has an autoscaler, with rules of its owner."""
    load = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
    }
    spec: dict[str, Any] = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"},
        "minReplicas": 1,
        "maxReplicas": 4,
        "metrics": [load],
        "behavior": SCALER,
    }
    about = {"name": "a", "namespace": lane.cluster.namespace}
    lane.cluster.control_plane.apply(
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": about, "spec": spec}
    )


def _drained(lane: Lane) -> None:
    """Cordoned, with nothing on it; its agent has found GPU 0 wrong."""
    lane.cluster.cordon(lane.node)
    health = GpuHealth(seen=datetime.now(UTC), sick={"0": "the driver wants a reset"})
    notes = {HEALTH: health.model_dump_json(), RESETS.format("0"): "0"}
    api = lane.cluster.control_plane.api
    api.merge(f"/api/v1/nodes/{lane.node}", {"metadata": {"annotations": notes}})
    (lane.folder / "gpus").mkdir()
    Node(lane.folder / "gpus", gpus=1).set(0, recovery=WANTS_RESET)
    shutil.copy(lane.folder.parent / SONAME, lane.folder / SONAME)
    boot_id = api.get(f"/api/v1/nodes/{lane.node}")["status"]["nodeInfo"]["bootID"]
    (lane.folder / "boot_id").write_text(boot_id)
