"""A small, strict reader of the Prometheus text format. One unreadable line fails the whole: half a scrape is none."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?[ \t]*")
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\["\\n])*)"\s*(?:,|$)')


@dataclass(frozen=True)
class Metric:
    """One line: name, labels (as written, unescaped), value (may be NaN)."""

    name: str
    labels: dict[str, str]
    value: float


def parse(text: str) -> list[Metric]:
    """All samples in order. ValueError names the line that is not in the format."""
    metrics = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"line {number} is not in the Prometheus text format")
        try:
            metrics.append(Metric(found[1], _labels(found[2] or ""), float(found[3])))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return metrics


def _labels(text: str) -> dict[str, str]:
    labels, position = {}, 0
    while position < len(text):
        found = _LABEL.match(text, position)
        if found is None:
            raise ValueError("labels are not in the Prometheus text format")
        labels[found[1]] = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], found[2])
        position = found.end()
    return labels


def total(metrics: list[Metric], name: str) -> float | None:
    """Sum of a metric over all of its label sets; None when the page does not have it."""
    values = [m.value for m in metrics if m.name == name]
    return sum(values) if values else None


def highest(metrics: list[Metric], name: str) -> float | None:
    """Largest value of a metric; None when the page does not have it."""
    return max((m.value for m in metrics if m.name == name), default=None)


def buckets(metrics: list[Metric], name: str) -> dict[float, float]:
    """Cumulative counts of a histogram by upper bound, summed over its other labels."""
    counts: dict[float, float] = {}
    for metric in metrics:
        if metric.name == f"{name}_bucket" and "le" in metric.labels:
            bound = float(metric.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + metric.value
    return counts


def quantile(before: dict[float, float], after: dict[float, float], share: float) -> float | None:
    """Upper bound of the bucket that holds the quantile of what came between two readings.

    None when nothing came. Infinity when it lies beyond the last bound: no measurement, the caller says so.
    """
    gained = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    count = gained.get(float("inf"), 0.0)
    if count <= 0:
        return None
    return next((bound for bound, seen in gained.items() if seen >= share * count), float("inf"))
