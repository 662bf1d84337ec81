"""The driver's own events, waited for in a thread."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pynvml

from activities.adapters.nvml_quiet import BeingReset, Quiet
from activities.adapters.reading import Clock
from activities.errors import Permanent
from runbooks.gpus import EventKind, GpuEvent

KINDS = {
    0x2: EventKind.DOUBLE_BIT_ECC,  # nvmlEventTypeDoubleBitEccError
    0x8: EventKind.XID,  # nvmlEventTypeXidCriticalError
    0x2000: EventKind.FATAL_POISON,  # nvmlEventTypeFatalPoisonError
    0x4000: EventKind.UNAVAILABLE,  # nvmlEventTypeGpuUnavailableError
    0x8000: EventKind.RECOVERY_ACTION,  # nvmlEventTypeGpuRecoveryAction
}
_ALL = 0x2 | 0x8 | 0x2000 | 0x4000 | 0x8000
_WHOLE_GPU = 0xFFFFFFFF
_PAUSE_S = 1.0
Say = Callable[[GpuEvent], None]


def watch(
    session: Callable[[], AbstractContextManager[None]],
    quiet: Quiet | None,
    stop: threading.Event,
    say: Say,
    now: Clock,
    wait_s: float,
) -> None:
    """Says every event until `stop`. While a reset wants the GPUs, NVML is closed: what happens then is not seen here,
    and shows in the next health reading. NVMLError or PortError: it cannot go on."""
    first = True
    while not stop.is_set():
        try:
            with quiet.using() if quiet else nullcontext(), session(), _registered() as (events, indexes):
                if first and not indexes:
                    raise Permanent("no GPU of this node reports events to NVML: only its health can be polled")
                first = False
                lost = _listen(events, indexes, quiet, stop, say, now, wait_s)
        except BeingReset:
            stop.wait(wait_s)
            continue
        if lost:
            stop.wait(_PAUSE_S)  # give the driver time to settle


def _listen(
    events: Any,
    indexes: dict[int, int],
    quiet: Quiet | None,
    stop: threading.Event,
    say: Say,
    now: Clock,
    wait_s: float,
) -> bool:
    """Says events until it must stop or let go. True: a GPU was lost, so the set must be made anew without it."""
    while not stop.is_set() and not (quiet and quiet.wanted()):
        try:
            data = pynvml.nvmlEventSetWait_v2(events, int(wait_s * 1000))
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                continue
            if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
                say(GpuEvent(kind=EventKind.LOST, gpu=None, observed_at=now()))
                return True
            raise
        if data.eventType in KINDS:
            mig = None if data.gpuInstanceId == _WHOLE_GPU else int(data.gpuInstanceId)
            say(
                GpuEvent(
                    kind=KINDS[data.eventType],
                    gpu=indexes.get(_address(data.device)),
                    data=int(data.eventData),
                    mig_instance=mig,
                    observed_at=now(),
                )
            )
    return False


@contextmanager
def _registered() -> Iterator[tuple[Any, dict[int, int]]]:
    """An event set, and the index of each GPU in it by the address of its handle: a lost GPU no longer tells its index."""
    events = pynvml.nvmlEventSetCreate()
    try:
        indexes = {}
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
                pynvml.nvmlDeviceRegisterEvents(gpu, _ALL & pynvml.nvmlDeviceGetSupportedEventTypes(gpu), events)
            except pynvml.NVMLError:
                continue  # lost, or without events: the health reading tells of it
            indexes[_address(gpu)] = index
        yield events, indexes
    finally:
        pynvml.nvmlEventSetFree(events)


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
