"""What only the node itself can do to itself: reset one of its GPUs, reboot, and say which boot this is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from activities.adapters.node_agent_run import Ran, Run, run_argv
from activities.adapters.nvml_quiet import Quiet
from activities.adapters.nvml_thread import in_thread
from activities.errors import Ambiguous, Permanent, PortError, Refused
from runbooks.base import Model
from runbooks.facts import Known, Unknown
from runbooks.gpus import GpuHealth, recovered

log = logging.getLogger("interlock.node")
T = TypeVar("T")
RESET = ("nvidia-smi", "--gpu-reset", "-i", "{index}")
PERSISTENCE = ("nvidia-smi", "-pm", "{mode}", "-i", "{index}")
REBOOT = ("systemctl", "reboot")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ReadsGpus(Protocol):
    """The part of `Nvml` that the agent needs. Blocks."""

    def health(self) -> tuple[GpuHealth, ...]:
        """One reading of every GPU."""
        ...

    def health_unguarded(self) -> tuple[GpuHealth, ...]:
        """The same, while this process keeps the others quiet."""
        ...


class GpuReset(Model):
    """A reset, read back. `acted` False: the driver wanted none, so none was made (an earlier attempt may have)."""

    acted: bool
    before: GpuHealth
    after: GpuHealth
    said: str


class NodeAgent:
    """The hands of one node. One act at a time; every act is refused rather than made on a guess."""

    def __init__(
        self,
        node: str,
        nvml: ReadsGpus,
        *,
        quiet: Quiet | None = None,
        run: Run = run_argv,
        reset_argv: Sequence[str] = RESET,
        persistence_argv: Sequence[str] = PERSISTENCE,
        reset_s: float = 120.0,
        settle_s: float = 30.0,
        read_s: float = 30.0,
        boot_id_file: Path = BOOT_ID,
    ) -> None:
        self.node = node
        self._nvml = nvml
        self._quiet = quiet
        self._run = run
        self._reset_argv, self._persistence_argv = tuple(reset_argv), tuple(persistence_argv)
        self._reset_s, self._settle_s, self._read_s = reset_s, settle_s, read_s
        self._boot_id_file = boot_id_file
        self._one = asyncio.Lock()

    async def gpu(self, index: int) -> GpuHealth:
        """One reading of one GPU. Permanent: there is no such GPU. Retryable: NVML does not answer now."""
        return _of(await self._read(self._nvml.health), index, self.node)

    async def reset_gpu(self, index: int, *, uuid: str | None = None, force: bool = False) -> GpuReset:
        """Resets a GPU on which nothing runs, and reads it back. `force`: also when the driver wants no reset.

        Refused, nothing was done: a process is on it, NVML cannot tell, it is lost, or it is not the GPU of this uuid.
        Permanent: the reset failed, or did not help. Ambiguous: it may have been made, and whether it helped is unknown.
        """
        async with self._one, self._quiet.alone() if self._quiet else contextlib.nullcontext():
            before = _of(await self._read(self._nvml.health_unguarded), index, self.node)
            _refuse(before, self.node, uuid)
            if not force and recovered(before) == "":
                return GpuReset(acted=False, before=before, after=before, said="")
            async with self._let_go(before):
                ran = await self._run(_argv(self._reset_argv, index), self._reset_s)
            # A refusal is final at once; only a reset that was made needs time until the GPU answers again.
            after, why = await self._read_back(before, self._settle_s if ran.code in (0, None) else 0.0)
            if after is not None and why == "" and ran.code == 0:
                return GpuReset(acted=True, before=before, after=after, said=ran.said)
            raise _failed(index, self.node, ran, after, why, self._reset_s)

    async def reboot(self, argv: Sequence[str] = REBOOT, *, boot: str | None = None, within_s: float = 5.0) -> str:
        """Gives the order to reboot and returns the boot id of before; that it was done shows in another boot id.

        `boot`: the boot that is to end. Refused: this is another one, so an earlier attempt has rebooted the node already.
        Permanent: the order was refused. It is not waited for longer than `within_s`: the node is going down.
        """
        async with self._one:
            before = self.boot_id()
            if boot is not None and boot != before:
                raise Refused(f"{self.node} has rebooted since it was looked at (boot {boot} then, {before} now)")
            ran = await self._run(list(argv), within_s)
            # Killed by a signal: the reboot itself ends processes. Only the boot id says what became of it.
            if ran.code is not None and ran.code > 0:
                raise Permanent(f"{self.node}: {argv[0]} refused to reboot (exit {ran.code}): {ran.said}")
            return before

    def boot_id(self) -> str:
        """The kernel's name for this boot. Permanent: it cannot be read."""
        return read_boot_id(self._boot_id_file, self.node)

    @contextlib.asynccontextmanager
    async def _let_go(self, gpu: GpuHealth) -> AsyncIterator[None]:
        """The driver's own hold on the GPU (persistence mode) ended for a reset, and put back whatever comes of it."""
        if not (isinstance(gpu.persistence, Known) and gpu.persistence.value):
            yield
            return
        off = await self._run(_argv(self._persistence_argv, gpu.index, "0"), self._read_s)
        if off.code != 0:
            raise Permanent(
                f"GPU {gpu.index} of {self.node}: persistence mode cannot be ended: {off.said or 'no answer'}"
            )
        try:
            yield
        finally:
            on = await self._run(_argv(self._persistence_argv, gpu.index, "1"), self._read_s)
            if on.code != 0:
                log.warning("GPU %s of %s is left without persistence mode: %s", gpu.index, self.node, on.said)

    async def _read_back(self, before: GpuHealth, settle_s: float) -> tuple[GpuHealth | None, str]:
        """The GPU after the reset, and why it is not well ("" when it is). It may need some seconds to answer."""
        loop = asyncio.get_running_loop()
        end = loop.time() + settle_s
        while True:
            after, why = await self._look(before)
            if why == "" or loop.time() >= end:
                return after, why
            await asyncio.sleep(min(0.5, settle_s / 4))

    async def _look(self, before: GpuHealth) -> tuple[GpuHealth | None, str]:
        try:
            after = _of(await self._read(self._nvml.health_unguarded), before.index, self.node)
        except PortError as error:
            return None, f"it cannot be read back: {error}"
        if isinstance(before.uuid, Known) and isinstance(after.uuid, Known) and before.uuid.value != after.uuid.value:
            return None, f"index {before.index} is another GPU now"
        return after, recovered(after)

    async def _read(self, read: Callable[[], T]) -> T:
        return await in_thread(read, self._read_s, f"NVML on {self.node}")


def read_boot_id(path: Path = BOOT_ID, node: str = "this node") -> str:
    """The kernel's name for this boot. Permanent: it cannot be read."""
    try:
        found = path.read_text().strip()
    except OSError as error:
        raise Permanent(f"{node}: {path} cannot be read: {error.strerror}") from error
    if not found:
        raise Permanent(f"{node}: {path} is empty")
    return found


def _argv(template: Sequence[str], index: int, mode: str = "") -> list[str]:
    return [part.replace("{index}", str(index)).replace("{mode}", mode) for part in template]


def _of(healths: Sequence[GpuHealth], index: int, node: str) -> GpuHealth:
    for health in healths:
        if health.index == index:
            return health
    raise Permanent(f"{node} has no GPU {index}: NVML counts {len(healths)}")


def _refuse(gpu: GpuHealth, node: str, uuid: str | None) -> None:
    """Raises Refused when it must not be reset now."""
    name = f"GPU {gpu.index} of {node}"
    if gpu.lost:
        raise Refused(f"{name} is off the bus: a reset cannot reach it, only a reboot of the node")
    if uuid is not None and (isinstance(gpu.uuid, Unknown) or gpu.uuid.value != uuid):
        found = gpu.uuid.value if isinstance(gpu.uuid, Known) else f"not known ({gpu.uuid.why})"
        raise Refused(f"{name} is not the GPU that was meant: its uuid is {found}, not {uuid}")
    if isinstance(gpu.processes, Unknown):
        raise Refused(f"{name}: NVML cannot tell whether a process is on it: {gpu.processes.why}")
    if gpu.processes.value:
        pids = ", ".join(map(str, gpu.processes.value[:5]))
        raise Refused(f"{name} has {len(gpu.processes.value)} processes on it (pid {pids}): drain the node first")


def _failed(
    index: int, node: str, ran: Ran, after: GpuHealth | None, why: str, within_s: float
) -> Permanent | Ambiguous:
    name = f"GPU {index} of {node}"
    ended = f"exit {ran.code}" if ran.code is not None else f"no end within {within_s:g} s"
    said = f" ({ended}: {ran.said})" if ran.said else f" ({ended})"
    if why == "":
        return Ambiguous(f"{name}: the reset command failed, yet the GPU is well: it may have been reset{said}")
    unknown = after is None or (isinstance(after.recovery, Unknown) and not after.lost)
    if unknown or ran.code is None:
        return Ambiguous(f"{name}: whether the reset was made and helped is not known: {why}{said}")
    return Permanent(f"{name}: the reset {'did not help' if ran.code == 0 else 'failed'}: {why}{said}")
