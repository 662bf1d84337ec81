"""The node's own hands: a reset is refused on a guess, read back after the act, and never claimed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from activities.adapters.node_agent import NodeAgent
from activities.adapters.nvml import Nvml
from activities.adapters.nvml_quiet import Quiet
from activities.errors import Ambiguous, Permanent, Refused
from tests.nvml.standin import Node

NOT_SUPPORTED = 3


def agent(node: Node, **options: Any) -> NodeAgent:
    """The agent of this node, whose nvidia-smi is the stand-in."""
    argv: Sequence[str] = (str(node.smi), "--gpu-reset", "-i", "{index}")
    persistence = (str(node.smi), "-pm", "{mode}", "-i", "{index}")
    given = {"reset_argv": argv, "persistence_argv": persistence, "settle_s": 0.3, **options}
    return NodeAgent("node-7", Nvml(options.get("quiet"), host_pids=True), **given)


async def test_a_gpu_that_wants_a_reset_and_has_no_process_is_reset_and_read_back(node: Node) -> None:
    """By argv, with its index; what stood before and after is kept."""
    node.set(1, recovery=4, rows_pending=1, ecc_volatile=2)

    done = await agent(node).reset_gpu(1, uuid="GPU-5a4d0000-0000-0000-0000-000000000001")

    assert done.acted
    assert node.resets == ["1"]
    assert done.before.model_dump()["recovery"]["value"] == "drain_and_reset"
    assert done.after.model_dump()["recovery"]["value"] == "none"
    assert "successfully reset" in done.said


async def test_a_second_attempt_finds_the_gpu_well_and_resets_nothing(node: Node) -> None:
    """The first one may have died after its act."""
    node.set(0, recovery=1)
    first, second = await agent(node).reset_gpu(0), await agent(node).reset_gpu(0)

    assert (first.acted, second.acted) == (True, False)
    assert node.resets == ["0"]
    assert (await agent(node).reset_gpu(0, force=True)).acted


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (
            {"recovery": 1, "pids": "4242,17"},
            r"GPU 0 of node-7 has 2 processes on it \(pid 17, 4242\): drain the node first",
        ),
        ({"recovery": 1, "processes_error": NOT_SUPPORTED}, "NVML cannot tell whether a process is on it"),
        ({"lost": 1}, "off the bus"),
        ({"recovery": 1, "uuid": "GPU-other"}, "is not the GPU that was meant: its uuid is GPU-other"),
    ],
)
async def test_a_reset_is_refused_with_a_process_on_the_gpu_or_on_a_guess(
    node: Node, state: dict[str, int | str], why: str
) -> None:
    """Nothing is run."""
    node.set(0, **state)

    with pytest.raises(Refused, match=why):
        await agent(node).reset_gpu(0, uuid="GPU-5a4d0000-0000-0000-0000-000000000000")

    assert node.resets == []


@pytest.mark.parametrize("smi", ["", "fails", "does_not_help"])
async def test_the_drivers_own_hold_on_the_gpu_is_ended_for_the_reset_and_put_back(node: Node, smi: str) -> None:
    """Persistence mode forbids a reset. It stands again whatever became of the reset; where it was off, it stays off."""
    node.set(0, recovery=1, persistence=1, smi=smi)

    if smi:
        with pytest.raises(Permanent):
            await agent(node).reset_gpu(0)
    else:
        assert (await agent(node).reset_gpu(0)).acted

    assert node.resets == ["0"]
    assert (await agent(node).gpu(0)).model_dump()["persistence"]["value"] is True
    assert (await agent(node).gpu(1)).model_dump()["persistence"]["value"] is False


async def test_a_container_that_may_not_see_the_nodes_processes_never_says_that_there_are_none(node: Node) -> None:
    """An empty list proves nothing there; one that is not empty is proof enough."""
    node.set(0, recovery=1)
    blind = NodeAgent("node-7", Nvml(host_pids=False), reset_argv=(str(node.smi), "--gpu-reset", "-i", "{index}"))

    with pytest.raises(Refused, match=r"cannot tell whether a process is on it: this container .* give it hostPID"):
        await blind.reset_gpu(0)
    node.set(0, recovery=1, pids="7")
    with pytest.raises(Refused, match="has 1 processes on it"):
        await blind.reset_gpu(0)

    assert node.resets == []


async def test_a_reset_that_does_not_help_is_not_called_done(node: Node) -> None:
    """nvidia-smi says 0; the driver still wants a reset."""
    node.set(0, recovery=1, smi="does_not_help")

    with pytest.raises(Permanent, match=r"the reset did not help: the driver still wants gpu_reset \(exit 0"):
        await agent(node).reset_gpu(0)

    assert node.resets == ["0"]


async def test_a_reset_that_fails_says_what_nvidia_smi_said(node: Node) -> None:
    """And is not waited for."""
    node.set(0, recovery=1, smi="fails")

    with pytest.raises(
        Permanent, match=r"the reset failed: .* \(exit 3: Reset failed: this stand-in was told to fail\.\)"
    ):
        await agent(node, settle_s=60.0).reset_gpu(0)


async def test_a_reset_whose_effect_the_driver_does_not_tell_is_ambiguous(node: Node) -> None:
    """An older driver names no recovery action: nobody may claim that it helped."""
    node.set(0, recovery_error=NOT_SUPPORTED, ecc_volatile=1, smi="does_not_help")

    with pytest.raises(Ambiguous, match="not known: the driver does not say"):
        await agent(node).reset_gpu(0)

    assert node.resets == ["0"]


async def test_a_reset_without_an_end_is_killed_and_ambiguous(node: Node) -> None:
    """It may have been made."""
    node.set(0, recovery=1, smi="hangs")
    started = asyncio.get_running_loop().time()

    with pytest.raises(Ambiguous, match="no end within 1 s"):
        await agent(node, reset_s=1.0).reset_gpu(0)

    assert asyncio.get_running_loop().time() - started < 5


async def test_a_missing_nvidia_smi_and_a_missing_gpu_are_one_sentence(node: Node) -> None:
    """Nothing was done."""
    node.set(0, recovery=1)

    with pytest.raises(Permanent, match="/nowhere/nvidia-smi cannot be run on this node: No such file"):
        await agent(node, reset_argv=("/nowhere/nvidia-smi", "--gpu-reset", "-i", "{index}")).reset_gpu(0)
    with pytest.raises(Permanent, match="node-7 has no GPU 5: NVML counts 2"):
        await agent(node).reset_gpu(5)


async def test_our_own_readers_let_go_of_the_gpus_before_the_reset(node: Node, tmp_path: Path) -> None:
    """One that does not is a reason to refuse, since nvidia-smi would fail."""
    quiet = Quiet(tmp_path / "nvml")
    node.set(0, recovery=1)
    reset = asyncio.create_task(_reset_while(quiet, node))

    assert (await reset).acted


async def _reset_while(quiet: Quiet, node: Node) -> Any:
    hands = agent(node, quiet=quiet)
    with quiet.using():
        waiting = asyncio.create_task(hands.reset_gpu(0))
        await asyncio.sleep(0.2)
        assert node.resets == []
    return await waiting


async def test_a_reboot_is_ordered_by_argv_and_the_boot_id_of_before_is_given(node: Node, tmp_path: Path) -> None:
    """Others read the new one."""
    boot = tmp_path / "boot_id"
    boot.write_text("aaaa-1\n")
    ordered = tmp_path / "ordered"
    hands = agent(node, boot_id_file=boot)
    argv = (sys.executable, "-c", "import sys, pathlib; pathlib.Path(sys.argv[1]).touch()", str(ordered))

    assert await hands.reboot(argv) == "aaaa-1"
    assert ordered.exists()

    with pytest.raises(Refused, match=r"has rebooted since it was looked at \(boot zzzz-0 then, aaaa-1 now\)"):
        await hands.reboot(("/nowhere/systemctl",), boot="zzzz-0")
    with pytest.raises(Permanent, match=r"refused to reboot \(exit 4\): not authorised"):
        await hands.reboot((sys.executable, "-c", "print('not authorised'); raise SystemExit(4)"))
    with pytest.raises(Permanent, match="cannot be read: No such file"):
        agent(node, boot_id_file=tmp_path / "none").boot_id()


def test_the_boot_id_of_this_machine_is_read(node: Node) -> None:
    """From the kernel."""
    assert len(agent(node).boot_id()) == 36
