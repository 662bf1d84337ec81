"""A halt reaches the levers of a node's own agent: nothing is begun later than 5 s after it, and what was begun is read back."""

from __future__ import annotations

import asyncio
import ctypes
from pathlib import Path

import pytest
from temporalio.testing import WorkflowEnvironment

from runbooks.change import GONE
from runbooks.detection import guard_id
from tests.crash_kube.cases import BY_LEVER
from tests.crash_kube.hands import ordered, resets
from tests.crash_kube.lane import running_lane
from tests.crash_kube.play import manifests
from tests.crash_kube.prepare import prepare
from tests.kube.control_plane import ControlPlane
from tests.kube.halting import NodePlayer, NodeStand
from tests.nvml.standin import Node, build
from tests.scenarios.halting import MOMENTS, played_by

ACCOUNTS = ("interlock", "interlock-node-agent")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lever", ["reset_gpu", "reboot_node"])
async def test_a_halt_stops_a_nodes_own_lever_before_it_begins_and_what_has_begun_is_read_back(
    lever: str,
    control_plane: ControlPlane,
    server: WorkflowEnvironment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Asking, queued, with the permit, inside the act before its command: nothing is begun, and after the resume it is planned
    and approved anew. Halted while its command runs: it is not cut off, not given again, and what became of it is known."""
    ctypes.CDLL(str(build(tmp_path)), mode=ctypes.RTLD_GLOBAL)
    for manifest in manifests("default"):
        control_plane.apply(manifest)
    accounts = {
        a: control_plane.kubeconfig_of(f"halt-{a}", control_plane.service_account_token("interlock", a, 7200))
        for a in ACCOUNTS
    }
    name = f"halt-{lever.replace('_', '-')}"
    async with running_lane(server.client, control_plane, accounts, tmp_path, BY_LEVER[lever], name) as lane:
        for manifest in manifests(lane.cluster.namespace):
            control_plane.apply(manifest)
        await prepare(lane)
        monkeypatch.setenv("NVML_STANDIN", str(lane.folder / "gpus"))
        boot = (lane.folder / "boot_id").read_text()
        player = NodePlayer(NodeStand(lane, Node(lane.folder / "gpus", gpus=1)))
        try:
            done = await played_by(player, undoes=False)
        finally:
            await server.client.get_workflow_handle(guard_id(name)).terminate("end of the test")
        assert not done.why, f"{done.why}\n--- before:\n{done.timeline}"

        for moment in (*MOMENTS, "begun", "verify"):
            assert not done.during(moment), (moment, done.timeline)
        for moment in MOMENTS:
            plans, asked = done.plans[moment]
            assert (plans >= 1, asked >= 1) == (True, True), (moment, done.timeline)
        assert len(done.writes) == 1, done.timeline
        assert (resets(lane.folder), ordered(lane.folder)) == ((["0"], 0) if lever == "reset_gpu" else ([], 1))
        assert done.outcome == "fixed", done.timeline

        (receipt,) = await player.receipts()
        key = f"gpu/{lane.node}/0" if lever == "reset_gpu" else f"boot/{lane.node}"
        before, after = (0, 1) if lever == "reset_gpu" else (boot, GONE)
        assert (receipt.before, receipt.after) == ({key: before}, {key: after})
        now = await asyncio.to_thread(control_plane.api.get, f"/api/v1/nodes/{lane.node}")
        assert (now["status"]["nodeInfo"]["bootID"] != boot) == (lever == "reboot_node")
        assert [s for s in lane.journal() if s != "not_standing"] == ["permanent"], lane.journal()
