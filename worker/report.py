"""The report as a whole: the tables of runbooks/report_tables.py, how well labels agree, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from runbooks.base import Model
from runbooks.report_tables import Report, pairs, report, second_pairs
from worker.agreement import Kappa, PerClass, confusion, kappa, per_class
from worker.report_read import Found


class Cell(Model):
    """One cell of the confusion matrix that is not empty."""

    truth: str
    found: str
    incidents: int


class Agreed(Model):
    """Two labellings of the same incidents. The first is what holds."""

    kappa: Kappa
    cells: tuple[Cell, ...]
    classes: tuple[PerClass, ...]


class Whole(Model):
    """What `interlock report --json` prints."""

    source: str
    left_out: dict[str, int]
    report: Report
    classifier: Agreed | None = Field(description="People's label against Interlock's class. None: no row has both.")
    labellers: Agreed | None = Field(description="One person's label against another's. None: no file has two.")


def whole(found: Found, source: str) -> Whole:
    """All of it, from the rows."""
    return Whole(
        source=source,
        left_out=found.left_out,
        report=report(found.rows),
        classifier=_agreed(pairs(found.rows)),
        labellers=_agreed(second_pairs(found.rows)),
    )


def _agreed(both: Sequence[tuple[str, str]]) -> Agreed | None:
    if not both:
        return None
    cells = tuple(Cell(truth=t, found=f, incidents=n) for (t, f), n in confusion(both).items())
    return Agreed(kappa=kappa(both), cells=cells, classes=per_class(both))
