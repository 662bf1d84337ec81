"""What stands where a node's hardware would: NVML's stand-in over a GPU that is a file, and commands that count calls."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

from activities.adapters.node_agent import NodeAgent
from activities.adapters.node_agent_run import Ran, run_argv
from activities.adapters.nvml import Nvml
from tests.nvml.standin import SONAME

WANTS_RESET = 1


def agent_of(node: str, folder: Path) -> NodeAgent:
    """The hands of one node, whose GPUs, boot id and calls are files in `folder`. Once per process."""
    os.environ["NVML_STANDIN"] = str(folder / "gpus")
    ctypes.CDLL(str(folder / SONAME), mode=ctypes.RTLD_GLOBAL)

    async def run(argv: Sequence[str], within_s: float) -> Ran:
        if argv[0] == "systemctl":
            argv = ("sh", "-c", 'echo reboot >> "$0"', str(folder / "reboots"))
        return await run_argv(argv, within_s)

    smi = str(folder / "gpus" / "nvidia-smi")
    return NodeAgent(
        node,
        Nvml(host_pids=True),
        run=run,
        reset_argv=(smi, "--gpu-reset", "-i", "{index}"),
        persistence_argv=(smi, "-pm", "{mode}", "-i", "{index}"),
        settle_s=1.0,
        boot_id_file=folder / "boot_id",
    )


def ordered(folder: Path) -> int:
    """How often the node was told to reboot."""
    file = folder / "reboots"
    return len(file.read_text().split()) if file.exists() else 0


def resets(folder: Path) -> list[str]:
    """Every call of nvidia-smi --gpu-reset, by its index."""
    file = folder / "gpus" / "resets"
    return file.read_text().split() if file.exists() else []
