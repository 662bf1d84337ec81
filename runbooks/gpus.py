"""What one GPU says about itself, and what that means. Pure: the reading is `activities/adapters/nvml.py`.

The driver's own wish (its recovery action) comes first; counters speak only where the driver gives no wish. The classes
and levers here are our inference (I), the driver's words are NVIDIA's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from pydantic import Field

from runbooks.base import Model, Name, Time
from runbooks.detection import Severity
from runbooks.facts import Known, Unknown

GPU_FAULT, NODE_DOWN, UNKNOWN = "infra.gpu_fault", "infra.node_down", "unknown"
Evidence = Mapping[str, float | bool | str]


class Recovery(StrEnum):
    """What the driver wants done to the GPU (NVML field 230), in its own order."""

    NONE = "none"
    GPU_RESET = "gpu_reset"
    NODE_REBOOT = "node_reboot"
    DRAIN_P2P = "drain_p2p"
    DRAIN_AND_RESET = "drain_and_reset"
    RECOVER_IMEX_DOMAIN = "recover_imex_domain"
    BUS_RESET = "bus_reset"
    SYSTEM_REBOOT = "system_reboot"
    OTHER = "other"  # a wish newer than this table: never to be read as none


class RemappedRows(Model):
    """Rows of GPU memory that were replaced by spare ones. `pending`: the next reset does it. `failed`: no spare left."""

    correctable: int = Field(ge=0)
    uncorrectable: int = Field(ge=0)
    pending: bool
    failed: bool


class GpuHealth(Model):
    """One reading of one GPU. What could not be read is Unknown with the driver's reason, never a default."""

    index: int = Field(ge=0)
    observed_at: Time
    lost: bool = Field(description="True: the driver says that it is off the bus. Every other field is then Unknown.")
    uuid: Known[str] | Unknown
    pci_bus_id: Known[str] | Unknown
    name: Known[str] | Unknown
    recovery: Known[Recovery] | Unknown
    rows: Known[RemappedRows] | Unknown
    ecc_volatile: Known[int] | Unknown = Field(description="Uncorrected ECC errors since the last reset.")
    ecc_aggregate: Known[int] | Unknown = Field(description="Uncorrected ECC errors over the GPU's life.")
    throttle: Known[tuple[str, ...]] | Unknown = Field(description="Why its clocks are held down, in words.")
    nvlink_failed: Known[int] | Unknown = Field(description="Times a link failed to recover and went down, all links.")
    temperature_c: Known[int] | Unknown
    persistence: Known[bool] | Unknown = Field(description="True: the driver keeps it open, which forbids a reset.")
    processes: Known[tuple[int, ...]] | Unknown = Field(description="Pids with a compute context on it.")


class EventKind(StrEnum):
    """What the driver reports by itself."""

    XID = "xid"
    DOUBLE_BIT_ECC = "double_bit_ecc"
    FATAL_POISON = "fatal_poison"
    UNAVAILABLE = "unavailable"
    RECOVERY_ACTION = "recovery_action"
    LOST = "lost"


class GpuEvent(Model):
    """One event. `data` is the XID's code, else 0. `gpu` None: the driver did not say which one."""

    kind: EventKind
    gpu: int | None
    data: int = 0
    mig_instance: int | None = None
    observed_at: Time


class Finding(Model):
    """One thing that is wrong with a GPU, and the lever for it. `evidence` goes into the Detection as it stands."""

    alert: Name
    failure_class: Name
    lever: Name
    severity: Severity
    why: str
    evidence: dict[str, float | bool | str]
    readings: int = Field(default=1, ge=1, description="Consecutive readings that must show it before it is told.")


_WISHES: dict[Recovery, tuple[str, str]] = {
    Recovery.GPU_RESET: (GPU_FAULT, "reset_gpu"),
    Recovery.DRAIN_AND_RESET: (GPU_FAULT, "reset_gpu"),
    Recovery.BUS_RESET: (GPU_FAULT, "reset_gpu"),
    Recovery.DRAIN_P2P: (GPU_FAULT, "rebalance_nodes"),
    Recovery.NODE_REBOOT: (NODE_DOWN, "reboot_node"),
    Recovery.SYSTEM_REBOOT: (NODE_DOWN, "reboot_node"),
    Recovery.RECOVER_IMEX_DOMAIN: (UNKNOWN, "page"),
    Recovery.OTHER: (UNKNOWN, "page"),
}
_HELD_BY_HARDWARE = ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
ALERTS = ("GpuLost", "GpuUnreadable", "GpuRecoveryWanted", "GpuRowRemapFailure", "GpuRowRemapPending", "GpuEccUncorrected",
          "GpuNvlinkDown", "GpuThrottled")  # fmt: skip
"""Every alert that a reading can raise, the gravest first."""


def findings(health: GpuHealth) -> tuple[Finding, ...]:
    """All that is wrong with it, the gravest first. Nothing found is no proof of health: see `clear`."""
    if health.lost:
        lost = "the GPU is off the bus: nothing but a reboot of its node is known to bring it back"
        return (_finding(health, "GpuLost", NODE_DOWN, "reboot_node", Severity.CRITICAL, lost, {"lost": True}),)
    if unreadable(health):
        silent = f"the driver answers nothing about this GPU: {why_unread(health)}"
        return (_finding(health, "GpuUnreadable", UNKNOWN, "page", Severity.CRITICAL, silent, {"readable": False}, 3),)
    return (*_wish(health), *_memory(health), *_around(health))


def unreadable(health: GpuHealth) -> bool:
    """True when it is there, and the driver says neither who it is nor what it wants: neither sick nor well."""
    return not health.lost and isinstance(health.uuid, Unknown) and isinstance(health.recovery, Unknown)


def why_unread(health: GpuHealth) -> str:
    """The driver's reason for saying nothing; "" when it says something."""
    return health.uuid.why if isinstance(health.uuid, Unknown) else ""


def worst(health: GpuHealth) -> Finding | None:
    """The finding that decides what to do first. None: nothing is seen to be wrong, which is not yet well (`recovered`)."""
    return next(iter(findings(health)), None)


def clear(health: GpuHealth, alert: str) -> bool:
    """True when the reading proves that this alert of an earlier one no longer holds. Unknown proves nothing."""
    if health.lost:
        return False
    if alert in ("GpuLost", "GpuUnreadable"):
        return isinstance(health.uuid, Known)  # it answers again; what it still needs is a finding of its own
    proof: Mapping[str, object] = {
        "GpuRecoveryWanted": health.recovery,
        "GpuRowRemapFailure": health.rows,
        "GpuRowRemapPending": health.rows,
        "GpuEccUncorrected": health.ecc_volatile,
        "GpuNvlinkDown": health.nvlink_failed,
        "GpuThrottled": health.throttle,
    }
    if alert in proof:
        return isinstance(proof[alert], Known) and all(f.alert != alert for f in findings(health))
    return recovered(health) == ""  # what came as an event (an XID): the whole GPU must be well


def recovered(health: GpuHealth) -> str:
    """Why the GPU cannot be called well: "" when it answers, the driver wants nothing, and no row waits for a reset."""
    if health.lost:
        return "the GPU is off the bus"
    if isinstance(health.recovery, Unknown):
        return f"the driver does not say whether it wants a recovery: {health.recovery.why}"
    if health.recovery.value is not Recovery.NONE:
        return f"the driver still wants {health.recovery.value}"
    if isinstance(health.rows, Known) and (health.rows.value.pending or health.rows.value.failed):
        return f"a row remap is {'pending' if health.rows.value.pending else 'impossible'}"
    return ""


def _finding(
    health: GpuHealth, alert: str, failure_class: str, lever: str, severity: Severity, why: str,
    evidence: Evidence, readings: int = 1,
) -> Finding:  # fmt: skip
    named = {"uuid": health.uuid, "pci_bus_id": health.pci_bus_id}
    known = {k: v.value for k, v in named.items() if isinstance(v, Known)}
    return Finding(
        alert=alert, failure_class=failure_class, lever=lever, severity=severity, why=why,
        evidence={**known, **evidence}, readings=readings,
    )  # fmt: skip


def _wish(health: GpuHealth) -> Sequence[Finding]:
    if isinstance(health.recovery, Unknown) or health.recovery.value is Recovery.NONE:
        return ()
    wish = health.recovery.value
    failure_class, lever = _WISHES[wish]
    why = f"the driver wants {wish}"
    evidence: Evidence = {"recovery_action": wish.value}
    return (_finding(health, "GpuRecoveryWanted", failure_class, lever, Severity.CRITICAL, why, evidence),)


def _memory(health: GpuHealth) -> Sequence[Finding]:
    found = []
    if isinstance(health.rows, Known) and health.rows.value.failed:
        why = "memory that can no longer be remapped: move the work away, the GPU must be checked"
        rows = {"remap_failed": True, "remapped_uncorrectable": health.rows.value.uncorrectable}
        found.append(_finding(health, "GpuRowRemapFailure", GPU_FAULT, "rebalance_nodes", Severity.CRITICAL, why, rows))
    if isinstance(health.rows, Known) and health.rows.value.pending:
        why = "a bad row of memory is replaced at the next reset, and not before"
        rows = {"remap_pending": True, "remapped_uncorrectable": health.rows.value.uncorrectable}
        found.append(_finding(health, "GpuRowRemapPending", GPU_FAULT, "reset_gpu", Severity.WARNING, why, rows))
    # A contained error also counts here for good: where the driver can say what it wants, its word decides.
    if isinstance(health.recovery, Unknown) and isinstance(health.ecc_volatile, Known) and health.ecc_volatile.value:
        why = f"{health.ecc_volatile.value} uncorrected ECC errors since the last reset"
        errors = {"ecc_uncorrected": health.ecc_volatile.value}
        found.append(_finding(health, "GpuEccUncorrected", GPU_FAULT, "reset_gpu", Severity.WARNING, why, errors))
    return found


def _around(health: GpuHealth) -> Sequence[Finding]:
    """Faults of what surrounds the GPU: no lever of ours mends a cable, a fan or a power supply."""
    found = []
    if isinstance(health.nvlink_failed, Known) and health.nvlink_failed.value:
        why = f"NVLink went down and did not recover, {health.nvlink_failed.value} times"
        links = {"nvlink_recovery_failed": health.nvlink_failed.value}
        found.append(_finding(health, "GpuNvlinkDown", UNKNOWN, "page", Severity.WARNING, why, links))
    if isinstance(health.throttle, Known):
        held = [reason for reason in health.throttle.value if reason in _HELD_BY_HARDWARE]
        if held:
            why = f"its hardware holds the clocks down: {', '.join(held)}"
            reasons: dict[str, float | bool | str] = {"throttle": ", ".join(held)}
            if isinstance(health.temperature_c, Known):
                reasons["temperature_c"] = health.temperature_c.value
            found.append(_finding(health, "GpuThrottled", UNKNOWN, "page", Severity.WARNING, why, reasons, readings=3))
    return found
