"""GPU evidence from NVML, the library of NVIDIA's driver, on the node where the GPUs are.

Everything here but `events` blocks, and a wedged driver can block for ever: call it in a thread, with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterator

import pynvml

from activities.adapters.nvml_events import watch
from activities.adapters.nvml_quiet import Quiet
from activities.adapters.nvml_read import read_gpu
from activities.adapters.reading import Clock, utc_now
from activities.errors import Permanent, PortError, Retryable
from runbooks.gpus import GpuEvent, GpuHealth

LIBRARY = "libnvidia-ml.so.1"
_FIXES = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
        f"{LIBRARY} (NVML, a part of NVIDIA's driver) is not on this machine: install the driver here, or run the container "
        "with the NVIDIA runtime and NVIDIA_DRIVER_CAPABILITIES=utility"
    ),
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: f"{LIBRARY} on this machine is too old to be started: update NVIDIA's driver",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "NVIDIA's kernel driver is not loaded on this machine: load it (modprobe nvidia)",
    pynvml.NVML_ERROR_NO_PERMISSION: "NVML refuses this user: give it access to /dev/nvidia*",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        f"{LIBRARY} and NVIDIA's kernel driver are of different versions: reload the driver or reboot the node"
    ),
}
_END_S = 2.0
_HOST_PIDS = "pid:[4026531836]"  # PROC_PID_INIT_INO: Linux gives this number to the first process namespace only


def port_error(error: pynvml.NVMLError) -> PortError:
    """NVML's error as ours, in one sentence with the fix. Permanent when asking again cannot help."""
    if error.value in _FIXES:
        return Permanent(_FIXES[error.value])
    return Retryable(f"NVML does not answer: {error}")


class Nvml:
    """The GPUs of this node. `quiet`: lets go of the GPUs while one is reset, since a reset needs them unused.

    `host_pids`: whether this process sees all of the node's processes; None: by its own process namespace.
    """

    def __init__(self, quiet: Quiet | None = None, now: Clock = utc_now, host_pids: bool | None = None) -> None:
        self._quiet = quiet
        self._now = now
        self._host_pids = _in_host_namespace() if host_pids is None else host_pids

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """NVML started, counted by the library; PortError when it cannot be. Held open, a reading costs milliseconds."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise port_error(error) from error
        try:
            yield
        finally:
            with contextlib.suppress(pynvml.NVMLError):  # it ends either way: what counts was read before
                pynvml.nvmlShutdown()

    def health(self) -> tuple[GpuHealth, ...]:
        """One reading of every GPU, by index. A field that cannot be read is Unknown; a GPU off the bus is `lost`.

        Permanent: NVML is missing or refuses. Retryable: it does not answer now, or a GPU is being reset.
        """
        with self._quiet.using() if self._quiet else contextlib.nullcontext():
            return self.health_unguarded()

    def health_unguarded(self) -> tuple[GpuHealth, ...]:
        """The same, for who holds the GPUs quiet already (the node agent, in its own reset)."""
        with self.session():
            try:
                count = pynvml.nvmlDeviceGetCount()
            except pynvml.NVMLError as error:
                raise port_error(error) from error
            return tuple(read_gpu(index, self._now(), self._host_pids) for index in range(count))

    async def events(self, wait_s: float = 0.2) -> AsyncGenerator[GpuEvent, None]:
        """What the driver reports from now on, until closed (`contextlib.aclosing`) or cancelled: then the thread ends.

        Permanent: NVML is missing, or no GPU of this node reports events. Retryable: NVML stopped answering.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[GpuEvent | PortError] = asyncio.Queue()
        stop, ended = threading.Event(), asyncio.Event()

        def work() -> None:
            try:
                watch(self.session, self._quiet, stop, _into(loop, queue), self._now, wait_s)
            except pynvml.NVMLError as error:
                _into(loop, queue)(port_error(error))
            except PortError as error:
                _into(loop, queue)(error)
            finally:
                with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits
                    loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=work, name="nvml-events", daemon=True).start()
        try:
            while True:
                item = await queue.get()
                if isinstance(item, PortError):
                    raise item
                yield item
        finally:
            stop.set()
            # A wedged driver may hold the thread: it is a daemon, and nobody waits longer than this for it.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), wait_s + _END_S)


def _in_host_namespace() -> bool:
    try:
        return os.readlink("/proc/self/ns/pid") == _HOST_PIDS
    except OSError:
        return False  # not seen, so not claimed


def _into(
    loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[GpuEvent | PortError]
) -> Callable[[GpuEvent | PortError], None]:
    def put(item: GpuEvent | PortError) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody listens
            loop.call_soon_threadsafe(queue.put_nowait, item)

    return put
