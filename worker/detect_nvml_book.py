"""What the NVML detector has told and not yet taken back. Pure: readings and events go in, Detections come out.

A reading's finding is over when a later reading proves it. An XID is an event and leaves no state that could be read, so
it is over when it has not come again for a while and the GPU is well; if only its application had to be restarted, when
the processes that were on the GPU at the time are gone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from runbooks.base import Model, Time
from runbooks.detection import Detection, Severity, Target
from runbooks.facts import Known, Unknown
from runbooks.gpus import EventKind, Finding, GpuEvent, GpuHealth, Recovery, clear, findings, recovered
from runbooks.xid import Xid, xid_of

log = logging.getLogger("interlock.detect")
NAME = "nvml"
BURST_S = 10.0
"""XIDs of one code within this time are one occurrence: a fault writes one line per unit of the GPU."""
MEMORY_H = 24.0
"""Occurrences of one XID on one GPU within this time are repeats."""
GONE_READINGS = 3
_EVENT_ALERTS = {
    EventKind.DOUBLE_BIT_ECC: "GpuDoubleBitError",
    EventKind.FATAL_POISON: "GpuFatalPoison",
    EventKind.UNAVAILABLE: "GpuUnavailable",
}
Key = tuple[str, str, int | None]
"""GPU, alert, XID."""


class OpenAlert(BaseModel):
    """One alert that is told and not resolved. `pids`: who must be gone before it is over; None: the GPU must be well."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)
    severity: Severity
    evidence: dict[str, float | bool | str]
    started_at: Time
    observed_at: Time
    told_at: Time | None = None
    last_event_at: Time | None = None
    pids: frozenset[int] | None = None
    before_boot: bool = False


class BookState(Model):
    """What a detector must know again after its own end, or its node's: else nobody would take back what it told."""

    boot: str
    open: tuple[tuple[Key, OpenAlert], ...]
    occurrences: tuple[tuple[str, int, tuple[Time, ...]], ...]


class Book:
    """The open alerts of one node's GPUs. A GPU keeps the name (its index when first seen) while its uuid is seen."""

    def __init__(
        self, cluster: str, node: str, xids: Mapping[int, Xid], *, repeat_s: float = 15.0, clear_s: float = 15.0
    ) -> None:
        self._node = Target(cluster=cluster, node=node)
        self._xids = xids
        self._repeat, self._clear = timedelta(seconds=repeat_s), timedelta(seconds=clear_s)
        self._open: dict[Key, OpenAlert] = {}
        self._streaks: dict[tuple[str, str], int] = {}
        self._last: dict[str, GpuHealth] = {}
        self._names: dict[str, str] = {}
        self._uuid_at: dict[int, str] = {}
        self._gone: dict[str, int] = defaultdict(int)
        self._xid_times: dict[tuple[str, int], list[datetime]] = defaultdict(list)

    def reading(self, healths: Sequence[GpuHealth], now: datetime) -> list[Detection]:
        """What a reading of all GPUs tells: new findings, repeats, and what it proves to be over."""
        news = []
        for gpu, health in self._named(healths):
            found = {f.alert: f for f in findings(health)}
            for finding in found.values():
                streak = self._streaks[gpu, finding.alert] = self._streaks.get((gpu, finding.alert), 0) + 1
                if streak >= finding.readings:
                    self._found(gpu, finding, health)
            for streak_of in [s for s in self._streaks if s[0] == gpu and s[1] not in found]:
                del self._streaks[streak_of]
            for key, open_ in [item for item in self._open.items() if item[0][0] == gpu]:
                if key[1] not in found and self._over(key, open_, health, now):
                    news.append(self._detection(key, self._open.pop(key), "resolved", health.observed_at))
                elif open_.last_event_at is not None and not isinstance(health.recovery, Unknown):
                    open_.observed_at = health.observed_at
            self._last[gpu] = health
        return [*news, *self._due(now)]

    def event(self, event: GpuEvent, now: datetime) -> list[Detection]:
        """What an event tells by itself. Others (the recovery action changed, a GPU was lost) only call for a reading."""
        if event.gpu is None or (event.kind is not EventKind.XID and event.kind not in _EVENT_ALERTS):
            return []
        uuid = self._uuid_at.get(event.gpu)
        gpu = self._names[uuid] if uuid is not None else str(event.gpu)
        health = self._last.get(gpu)
        if event.kind is not EventKind.XID:
            alert = _EVENT_ALERTS[event.kind]
            self._happened((gpu, alert, None), Severity.CRITICAL, {event.kind.value: True, **_seen(health)}, event)
            return self._due(now)
        xid = xid_of(self._xids, event.data)
        if xid.quiet:
            log.info("GPU %s: XID %s (%s): NVIDIA's action is %s", gpu, xid.code, xid.mnemonic, xid.action)
            return []
        repeats, first = self._count(gpu, xid.code, event.observed_at)
        key = (gpu, "GpuXid", xid.code)
        evidence = {
            "xid": xid.code, "mnemonic": xid.mnemonic, "nvidia_action": xid.action, "repeats": repeats, **_seen(health),
        }  # fmt: skip
        severity = Severity.WARNING if xid.lever == "page" else Severity.CRITICAL
        open_ = self._happened(key, severity, evidence, event)
        if xid.lever == "restart_engine" and health is not None and isinstance(health.processes, Known):
            open_.pids = (open_.pids or frozenset()) | frozenset(health.processes.value)
        if first:
            open_.told_at = None  # another occurrence can be of another class: not held back as a repeat
        return self._due(now)

    def state(self, boot: str) -> BookState:
        """What must be known again. `boot`: the node's boot id."""
        times = tuple((gpu, code, tuple(times)) for (gpu, code), times in self._xid_times.items())
        return BookState(boot=boot, open=tuple(self._open.items()), occurrences=times)

    def resume(self, state: BookState, boot: str) -> None:
        """Goes on from there; with another boot id, what events told before is judged as before the node's restart."""
        for key, open_ in state.open:
            self._open[key] = open_.model_copy(update={"before_boot": open_.before_boot or state.boot != boot})
        for gpu, code, times in state.occurrences:
            self._xid_times[gpu, code] = list(times)

    def _happened(
        self, key: Key, severity: Severity, evidence: Mapping[str, float | bool | str], event: GpuEvent
    ) -> OpenAlert:
        open_ = self._open.setdefault(
            key,
            OpenAlert(
                severity=severity, evidence=dict(evidence), started_at=event.observed_at, observed_at=event.observed_at
            ),
        )
        open_.evidence, open_.observed_at, open_.last_event_at = dict(evidence), event.observed_at, event.observed_at
        open_.before_boot = False
        return open_

    def _found(self, gpu: str, finding: Finding, health: GpuHealth) -> None:
        key = (gpu, finding.alert, None)
        open_ = self._open.setdefault(
            key,
            OpenAlert(
                severity=finding.severity,
                evidence=finding.evidence,
                started_at=health.observed_at,
                observed_at=health.observed_at,
            ),
        )
        if open_.evidence != finding.evidence and finding.alert == "GpuRecoveryWanted":
            open_.told_at = None  # the driver wants something else now
        open_.evidence, open_.observed_at = finding.evidence, health.observed_at

    def _over(self, key: Key, open_: OpenAlert, health: GpuHealth, now: datetime) -> bool:
        if open_.last_event_at is None:
            return clear(health, key[1])
        if open_.before_boot and isinstance(health.uuid, Known):  # a boot resets every GPU: what answers is a new start
            return not (isinstance(health.recovery, Known) and health.recovery.value is not Recovery.NONE)
        if now - open_.last_event_at < self._clear:
            return False  # the driver may say what it wants only some time after the event
        if open_.pids is None:
            return recovered(health) == ""
        wants = isinstance(health.recovery, Known) and health.recovery.value is not Recovery.NONE
        return (
            not health.lost
            and not wants
            and isinstance(health.processes, Known)
            and not open_.pids & set(health.processes.value)
        )

    def _count(self, gpu: str, code: int, at: datetime) -> tuple[int, bool]:
        """How often the XID came within the memory, and whether this is a new occurrence."""
        times = self._xid_times[gpu, code]
        first = not times or at - times[-1] > timedelta(seconds=BURST_S)
        if first:
            times.append(at)
        times[:] = [t for t in times if at - t <= timedelta(hours=MEMORY_H)][-100:]
        return len(times), first

    def _named(self, healths: Sequence[GpuHealth]) -> list[tuple[str, GpuHealth]]:
        """Each reading under its GPU's name, and a lost one for each GPU that is no longer counted by the driver."""
        named, present = [], set()
        for health in healths:
            if isinstance(health.uuid, Known):
                self._uuid_at[health.index] = health.uuid.value
            uuid = self._uuid_at.get(health.index)
            if uuid is None:
                named.append((str(health.index), health))
                continue
            present.add(uuid)
            named.append((self._names.setdefault(uuid, str(health.index)), health))
        taken = {name for name, _ in named}
        for uuid, name in list(self._names.items()):
            self._gone[uuid] = 0 if uuid in present else self._gone[uuid] + 1
            if uuid in present:
                continue
            if name in taken:
                del self._names[uuid]  # another card sits in its place
            elif self._gone[uuid] >= GONE_READINGS and healths:
                named.append((name, _lost(self._last[name], healths[0].observed_at)))
        return named

    def _due(self, now: datetime) -> list[Detection]:
        """What is new, and what was told so long ago that it is said again."""
        news = []
        for key, open_ in self._open.items():
            if open_.told_at is None or now - open_.told_at >= self._repeat:
                open_.told_at = now
                news.append(self._detection(key, open_, "firing", open_.observed_at))
        return news

    def _detection(self, key: Key, open_: OpenAlert, status: str, at: datetime) -> Detection:
        gpu, alert, xid = key
        labels = {"node": self._node.node or "", "gpu": gpu} | ({} if xid is None else {"xid": str(xid)})
        return Detection.model_validate(
            {
                "alert": alert,
                "target": Target(cluster=self._node.cluster, node=self._node.node, gpu=gpu),
                "status": status,
                "severity": open_.severity,
                "labels": labels,  # alert, target and labels make the fingerprint: one per fault, over all repeats
                "evidence": open_.evidence,
                "started_at": open_.started_at,
                "observed_at": at,
                "detector": NAME,
            }
        )


def _seen(health: GpuHealth | None) -> dict[str, float | bool | str]:
    if health is None:
        return {}
    named = {"uuid": health.uuid, "pci_bus_id": health.pci_bus_id}
    return {name: field.value for name, field in named.items() if isinstance(field, Known)}


def _lost(last: GpuHealth, at: datetime) -> GpuHealth:
    nothing = Unknown(why="the driver no longer counts this GPU")
    fields = set(GpuHealth.model_fields) - {"index", "observed_at", "lost"}
    return last.model_copy(update={"observed_at": at, "lost": True, **dict.fromkeys(fields, nothing)})
