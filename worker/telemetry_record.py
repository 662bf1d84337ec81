"""A closed case into metrics. Counted where its record was written; a repeated close may count twice, never none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from opentelemetry.metrics import Histogram

from runbooks.record import CaseRecord
from worker.telemetry import Instruments


def recorder(instruments: Instruments) -> Callable[[CaseRecord], None]:
    """Give it to the casebook as `observe`."""

    def record(case: CaseRecord) -> None:
        found = case.classification.failure_class if case.classification else "none"
        by_class = {"class": found}
        instruments.cases.add(1, {"class": found, "outcome": case.outcome or "none"})
        for judged in case.verdicts:
            for gate in judged.verdict.gates:
                instruments.verdicts.add(1, {"gate": gate.gate, "outcome": gate.outcome})
        began = min((d.started_at for d in case.detections), default=None)
        # The record keeps the newest word of each fingerprint, so a resolved one has the time of its own arrival: the
        # case cannot have been opened before its first detection was taken in, nor much later.
        received = (d.received_at for d in case.detections if d.received_at is not None)
        taken_in = min([case.opened_at, *received]) if case.detections else None
        _span(instruments.time_to_detect, began, taken_in, by_class)
        _span(instruments.time_to_first_act, taken_in, case.first_act_at, by_class)
        _span(instruments.time_to_mitigate, began, case.mitigated_at, by_class)

    return record


def _span(into: Histogram, start: datetime | None, end: datetime | None, by_class: dict[str, str]) -> None:
    """Nothing when one end is missing, or when clocks that differ would make it negative: not measured is not 0."""
    if start is not None and end is not None and end >= start:
        into.record((end - start).total_seconds(), by_class)
