"""One GPU read through NVML, field by field: each is Known, or Unknown with the driver's reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import pynvml

from runbooks.facts import Known, Unknown
from runbooks.gpus import GpuHealth, Recovery, RemappedRows

T = TypeVar("T")
# By number: nvidia-ml-py before 13.6 lacks some of these names. The numbers are nvml.h's and do not change.
RECOVERY_ACTION_FIELD = 230  # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
LINK_FAILED_FIELD = 214  # NVML_FI_DEV_NVLINK_COUNT_LINK_RECOVERY_FAILED_EVENTS, one per link
_RECOVERIES = [r for r in Recovery if r is not Recovery.OTHER]
_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
_NUMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}
"""NVML's value types and where each keeps its number."""


class _Lost(Exception):
    """The driver says that this GPU is off the bus."""


def read_gpu(index: int, at: datetime, host_pids: bool) -> GpuHealth:
    """One reading of the GPU with this index; NVML must be started. Never raises for what the GPU itself fails to say.

    `host_pids`: this process sees all processes of the node, so that an empty list means that there are none.
    """
    try:
        return _read(index, at, host_pids)
    except _Lost:
        return _unreadable(index, at, "the GPU is off the bus", lost=True)


def _read(index: int, at: datetime, host_pids: bool) -> GpuHealth:
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise _Lost from error
        unreadable = _unreadable(index, at, _why(error), lost=False)
        return unreadable.model_copy(update={"recovery": _wish_of(error, at)})

    def field(read: Callable[[], T]) -> Known[T] | Unknown:
        return _field(at, read)

    return GpuHealth(
        index=index,
        observed_at=at,
        lost=False,
        uuid=field(lambda: str(pynvml.nvmlDeviceGetUUID(gpu))),
        pci_bus_id=field(lambda: _text(pynvml.nvmlDeviceGetPciInfo_v3(gpu).busId)),
        name=field(lambda: str(pynvml.nvmlDeviceGetName(gpu))),
        recovery=_recovery(gpu, at),
        rows=field(lambda: _rows(pynvml.nvmlDeviceGetRemappedRows(gpu))),
        ecc_volatile=field(lambda: _uncorrected(gpu, pynvml.NVML_VOLATILE_ECC)),
        ecc_aggregate=field(lambda: _uncorrected(gpu, pynvml.NVML_AGGREGATE_ECC)),
        throttle=field(lambda: _words(pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu))),
        nvlink_failed=field(lambda: _links(gpu)),
        temperature_c=field(lambda: _temperature(gpu)),
        persistence=field(lambda: bool(pynvml.nvmlDeviceGetPersistenceMode(gpu))),
        processes=_processes(gpu, at, host_pids),
    )


def _field(at: datetime, read: Callable[[], T]) -> Known[T] | Unknown:
    try:
        return Known(value=read(), observed_at=at)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
            raise _Lost from error
        return Unknown(why=_why(error))


def _why(error: pynvml.NVMLError) -> str:
    match error.value:
        case pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            return "the NVML of this driver has no such function"
        case pynvml.NVML_ERROR_NOT_SUPPORTED:
            return "this GPU does not support it"
        case pynvml.NVML_ERROR_NO_PERMISSION:
            return "NVML refuses it to this user"
        case _:
            return f"NVML: {error}"


def _unreadable(index: int, at: datetime, why: str, *, lost: bool) -> GpuHealth:
    nothing = Unknown(why=why)
    return GpuHealth(
        index=index, observed_at=at, lost=lost, uuid=nothing, pci_bus_id=nothing, name=nothing, recovery=nothing,
        rows=nothing, ecc_volatile=nothing, ecc_aggregate=nothing, throttle=nothing, nvlink_failed=nothing,
        temperature_c=nothing, persistence=nothing, processes=nothing,
    )  # fmt: skip


def _recovery(gpu: Any, at: datetime) -> Known[Recovery] | Unknown:
    try:
        wish = _values(gpu, [RECOVERY_ACTION_FIELD])[0]
    except pynvml.NVMLError as error:
        return _wish_of(error, at)
    known = 0 <= wish < len(_RECOVERIES)
    return Known(value=_RECOVERIES[wish] if known else Recovery.OTHER, observed_at=at)


def _wish_of(error: pynvml.NVMLError, at: datetime) -> Known[Recovery] | Unknown:
    """A refusal can be a wish in itself: this GPU answers nothing before it is reset."""
    if error.value == pynvml.NVML_ERROR_GPU_IS_LOST:
        raise _Lost from error
    if error.value == pynvml.NVML_ERROR_RESET_REQUIRED:
        return Known(value=Recovery.GPU_RESET, observed_at=at)
    return Unknown(why=_why(error))


def _values(gpu: Any, fields: list[Any]) -> list[int]:
    """The fields' numbers, those that the GPU has; NVMLError of the first one when it has none of them."""
    answers = pynvml.nvmlDeviceGetFieldValues(gpu, fields)
    found = [
        int(getattr(answer.value, _NUMBERS[answer.valueType]))
        for answer in answers
        if answer.nvmlReturn == pynvml.NVML_SUCCESS and answer.valueType in _NUMBERS
    ]
    if not found:
        failed = answers[0].nvmlReturn or pynvml.NVML_ERROR_UNKNOWN
        raise pynvml.NVMLError(failed)
    return found


def _links(gpu: Any) -> int:
    return sum(_values(gpu, [(LINK_FAILED_FIELD, link) for link in range(pynvml.NVML_NVLINK_MAX_LINKS)]))


def _rows(rows: tuple[int, int, int, int]) -> RemappedRows:
    correctable, uncorrectable, pending, failed = rows
    return RemappedRows(
        correctable=correctable, uncorrectable=uncorrectable, pending=bool(pending), failed=bool(failed)
    )


def _uncorrected(gpu: Any, counter: int) -> int:
    return int(pynvml.nvmlDeviceGetTotalEccErrors(gpu, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, counter))


def _words(mask: int) -> tuple[str, ...]:
    bits = [1 << n for n in range(64) if mask & (1 << n)]
    return tuple(_REASONS.get(bit, f"reason_{bit:#x}") for bit in bits)


def _temperature(gpu: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetTemperatureV(gpu, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError_FunctionNotFound:  # drivers before R570 have only the older function
        return int(pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU))


def _processes(gpu: Any, at: datetime, host_pids: bool) -> Known[tuple[int, ...]] | Unknown:
    # The versioned name: the other one turns "no such function" into an error of another kind.
    found = _field(at, lambda: pynvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu))
    if isinstance(found, Unknown):
        return found
    pids = tuple(sorted({int(p.pid) for p in found.value}))
    if not pids and not host_pids:
        return Unknown(
            why="this container has a process namespace of its own and may not see the node's: give it hostPID"
        )
    return Known(value=pids, observed_at=at)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
