"""Which plots a report has, and what each shows in words for whoever does not see it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from runbooks.report_rows import Row
from worker.report import Whole
from worker.report_plots_bars import effort, gates, says_effort, says_shares, shares
from worker.report_plots_labels import confusion, says_kappa
from worker.report_plots_times import times_by_class, times_of_all
from worker.report_svg import Draw, as_svg, pyplot_or_why


class Plot(NamedTuple):
    """An SVG element, and what it shows in words for whoever does not see it. `beside`: the sheets that it stands with."""

    key: str
    title: str
    says: str
    svg: str


def plots(found: Whole, rows: Sequence[Row]) -> Iterator[Plot]:
    """Those for which there is something to draw. NoMatplotlib: nothing can be drawn."""
    pyplot, one = pyplot_or_why(), found.report
    drawn: list[tuple[str, str, str, Draw | None]] = [
        ("shares", "Shares by group and class", says_shares(one), shares(one)),
        (
            "ecdf",
            "How long it took",
            "Share of incidents over minutes, for each of the three times.",
            times_of_all(rows),
        ),
        ("boxes", "Time to mitigate by class", "Quartiles and every incident, in minutes.", times_by_class(rows)),
        ("effort", "People's time by class", says_effort(one), effort(one)),
        (
            "confusion",
            "Interlock's class against people's label",
            says_kappa(found.classifier),
            confusion(found.classifier),
        ),
        ("gates", "What was refused, by gate", "Incidents by gate.", gates(one)),
    ]
    for key, title, says, draw in drawn:
        if draw is not None:
            yield Plot(key, title, says, as_svg(pyplot, key, draw))
