"""The harness's arithmetic: percentiles, and the audit of what was accepted against what was acted on. No clock, no I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile, a value that was really measured. ValueError when there is none, or no such share."""
    if not values:
        raise ValueError("no value was measured, so there is no percentile of them")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}: give one over 0 and at most 1, for example 0.99")
    return sorted(values)[math.ceil(share * len(values)) - 1]


@dataclass(frozen=True)
class Spread:
    """Milliseconds of `count` measurements."""

    count: int
    p50: float
    p95: float
    p99: float
    most: float


def spread(seconds: Sequence[float]) -> Spread:
    """Seconds in, milliseconds out. ValueError when nothing was measured."""
    ms = [1000 * s for s in seconds]
    return Spread(len(ms), percentile(ms, 0.5), percentile(ms, 0.95), percentile(ms, 0.99), max(ms))


@dataclass(frozen=True)
class Audit:
    """Accepted alerts against acts. `due`: what must be acted on once. `stray`: acts that nobody's accepted alert asked for."""

    due: int
    acted: int
    lost: tuple[str, ...]
    twice: tuple[str, ...]
    stray: tuple[str, ...]


def audit(due: Iterable[str], acts: Iterable[str]) -> Audit:
    """Keys that were due against the keys of all acts, in any order.

    An act on an alert that was not accepted is `stray` and not `lost`: the sender had no answer, so it may have got through.
    """
    wanted, counts = set(due), Counter(acts)
    return Audit(
        due=len(wanted),
        acted=len(wanted & set(counts)),
        lost=tuple(sorted(wanted - set(counts))),
        twice=tuple(sorted(k for k, n in counts.items() if n > 1)),
        stray=tuple(sorted(set(counts) - wanted)),
    )


def rate(times: Sequence[float], began: float) -> float:
    """Per second, from `began` to the last of `times` (monotonic seconds); 0 when there is none."""
    if not times:
        return 0.0
    took = max(times) - began
    return len(times) / took if took > 0 else math.inf
