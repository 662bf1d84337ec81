"""What the other decision would have cost or saved, from what the case's record tells. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from statistics import median
from typing import NamedTuple

from runbooks.did import Did
from runbooks.report_rows import Asked, Row
from worker.backtest_models import Decision


class Price(NamedTuple):
    """See worker/backtest_models.py Differs."""

    saves_s: float | None
    estimated: bool
    approvals: int
    risks: tuple[str, ...]


def typical(rows: Iterable[Row]) -> dict[str, float]:
    """Class → median wait for an approval, seconds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        waits = [a.waited_s for a in row.asked if a.answer == "approved" and a.waited_s is not None]
        found.setdefault(row.label, []).extend(waits)
    return {name: median(waits) for name, waits in found.items() if waits}


def price(row: Row, told: Iterable[Did], a: Decision, b: Decision, waits: Mapping[str, float]) -> Price:
    """Of going from A to B."""
    approvals = (b.does == "asks") - (a.does == "asks")
    risks = tuple(_risks(row, a, b))
    match a.does, b.does:
        case "asks", "acts":
            return Price(*_wait(row, b.lever, waits), approvals, risks)
        case "acts", "asks":
            costs, estimated = _wait(row, a.lever, waits)
            return Price(None if costs is None else -costs, estimated, approvals, risks)
        case "observes", "acts":
            return Price(_earlier(row, told, b.lever), False, approvals, risks)
        case _:
            return Price(None, False, approvals, risks)


def _risks(row: Row, a: Decision, b: Decision) -> Iterator[str]:
    """What a person had stopped or would have seen first, and what had helped and would not be done."""
    asked = _asked(row, b.lever)
    if b.does == "acts" and a.does != "acts":
        if a.does in ("refused", "tells"):
            yield f"{', '.join(a.gates) or 'nothing'} had refused it"
        if asked is not None and asked.answer == "rejected":
            yield "a person had rejected it"
        if asked is not None and asked.helped is False:
            yield "it did not help and was taken back, and nobody would have looked first"
    helped = row.mitigated_after_s is not None and any(d.lever == a.lever and not d.taken_back for d in row.done)
    if a.does in ("acts", "asks") and b.does in ("refused", "tells", "observes") and helped:
        yield "it had helped, and would be left to people"
    if a.answer == "approved" and b.answer == "not_enough":
        yield "the approvals on record would not be enough"
    if a.answer == "approved" and b.answer == "expired":
        yield "the approval on record would come too late"


def _asked(row: Row, lever: str) -> Asked | None:
    return next((one for one in row.asked if one.lever == lever), None)


def _wait(row: Row, lever: str, waits: Mapping[str, float]) -> tuple[float | None, bool]:
    """As this case waited; else as the class usually does."""
    asked = _asked(row, lever)
    if asked is None:
        return waits.get(row.label), row.label in waits
    if asked.answer == "rejected":
        return None, False  # what was rejected saves nobody's time by being done
    if asked.answer == "expired":
        return row.people_s, False  # and what came after it, until it was over
    return asked.waited_s, False


def _earlier(row: Row, told: Iterable[Did], lever: str) -> float | None:
    """How long after the case began people did the same by hand."""
    times = [d.at for d in told if d.lever == lever and d.at is not None]
    if not times or row.at is None or row.detected_after_s is None:
        return None
    heard = row.at.timestamp() + row.detected_after_s
    return max(0.0, min(times).timestamp() - heard)
