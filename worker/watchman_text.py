"""Readings as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from worker.telemetry import WATCHED

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Reading:
    """One measured value. `name` is a row of `telemetry.WATCHED`. What was not measured has no Reading."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def text(readings: Iterable[Reading]) -> str:
    """All readings, grouped by metric in the order of the table. KeyError for a name that is not in it."""
    groups: dict[str, list[Reading]] = {name: [] for name in WATCHED}
    for reading in readings:
        groups[reading.name].append(reading)
    lines: list[str] = []
    for name, found in groups.items():
        if found:
            kind, says = WATCHED[name]
            lines += [f"# HELP {name} {says}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{_labels(one.labels)} {one.value!r}" for one in found]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    # Ids of cases come from alerts: a quote or a line break in one must not forge another sample.
    pairs = (f'{k}="{_escaped(v)}"' for k, v in labels.items())
    return "{" + ",".join(pairs) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "")
