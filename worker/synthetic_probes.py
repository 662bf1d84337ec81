"""Interlock's own two detectors at a synthetic site: their real rules over simulated replicas and GPUs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from runbooks.detection import Severity
from runbooks.gpus import EventKind, GpuEvent
from runbooks.xid import Xid, xid_table
from worker.detect import NAME
from worker.detect_nvml_book import Book
from worker.detect_rules import Fault, Outcome, Track, endpoint_fault, pool_lost, undecided
from worker.synthetic_detectors import Fired, labels_of

_START = datetime(2026, 1, 1, tzinfo=UTC)
"""Any: both detectors only subtract times."""


@cache
def _table() -> Mapping[int, Xid]:
    """Read once: it is a long file."""
    return xid_table()


@dataclass(frozen=True)
class Asked:
    """How one generation ended, and the engine's token counter where it could be read."""

    outcome: Outcome
    tokens: float | None


class Probe:
    """Asks every replica of every pool for a token at each look; three failures in a row make a fault, as in life."""

    def __init__(self) -> None:
        self._tracks: dict[str, dict[str, Track]] = {}
        self._told: set[tuple[str, str | None, str]] = set()

    def look(self, now: float, replicas: Mapping[str, Mapping[str, Asked]]) -> list[Fired]:
        """`replicas`: by the pool's target id and address."""
        news = []
        for service, outcomes in replicas.items():
            if all(asked.outcome is Outcome.OK for asked in outcomes.values()):
                self._tracks.pop(service, None)  # nothing of what was before counts any more
                continue
            tracks = self._tracks.setdefault(service, {})
            for gone in set(tracks) - set(outcomes):
                del tracks[gone]
            for address, asked in outcomes.items():
                track = tracks.setdefault(address, Track())
                track.add(_START + timedelta(seconds=now), asked.outcome)
                if asked.tokens is not None:
                    track.count(_START + timedelta(seconds=now), asked.tokens)
            lost = pool_lost(tracks)
            if lost is not None:
                news += self._tell(now, service, lost)
            elif not undecided(tracks):
                for address in outcomes:
                    if (found := endpoint_fault(address, tracks)) is not None:
                        news += self._tell(now, service, found)
        return news

    def _tell(self, now: float, service: str, found: Fault) -> list[Fired]:
        key = (service, found.endpoint, found.alert)
        if key in self._told:
            return []
        self._told.add(key)
        return [
            Fired(
                at=now,
                began=(found.since - _START).total_seconds(),
                alert=found.alert,
                target=service if found.endpoint is None else f"{service}/endpoint/{found.endpoint}",
                severity=Severity.CRITICAL,
                evidence=dict(found.evidence),
                labels={"pool": service.split("/")[-1]},
                detector=NAME,
                about="generations_ok",
            )
        ]


class Xids:
    """XID lines. With Interlock's detector as it tells them; else as a rule over dcgm-exporter's gauge of the last code."""

    def __init__(self, nvml: bool, alert: str) -> None:
        self._nvml, self._alert = nvml, alert
        self._books: dict[str, Book] = {}
        self._told: set[tuple[str, int]] = set()

    def look(self, now: float, xids: Mapping[str, int]) -> list[Fired]:
        """`xids`: by the GPU's target id, its last code. Each is told once."""
        news = []
        for gpu, code in xids.items():
            if (gpu, code) in self._told:
                continue
            self._told.add((gpu, code))
            news += self._by_nvml(now, gpu, code) if self._nvml else [self._by_dcgm(now, gpu, code)]
        return news

    def _by_dcgm(self, now: float, gpu: str, code: int) -> Fired:
        return Fired(
            at=now,
            began=now,
            alert=self._alert,
            target=gpu,
            severity=Severity.CRITICAL,
            evidence={"xid": float(code)},
            labels=labels_of(gpu),
            about="xid",
        )

    def _by_nvml(self, now: float, gpu: str, code: int) -> list[Fired]:
        cluster, _, node, _, index = gpu.split("/")
        book = self._books.setdefault(node, Book(cluster, node, _table()))
        moment = _START + timedelta(seconds=now)
        event = GpuEvent(kind=EventKind.XID, gpu=int(index), data=code, observed_at=moment)
        return [
            Fired(
                at=now,
                began=now,
                alert=found.alert,
                target=gpu,
                severity=found.severity,
                evidence=dict(found.evidence),
                labels=dict(found.labels),
                detector=found.detector,
                about="xid",
            )
            for found in book.event(event, moment)
        ]
