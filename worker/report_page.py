"""The report as one page that needs nothing else: plots, and under each the same in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from runbooks import timeline
from runbooks.report_rows import Row
from worker.errors import OperatorError
from worker.report import Whole
from worker.report_plots import Plot, plots
from worker.report_sheets import Sheet, sheets
from worker.report_text import MOST_ROWS, head
from worker.report_words import DASH, agreement, lasted, minutes

ORDER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("shares", ("shares",)),
    ("ecdf", ()),
    ("boxes", ("ttd", "ttm", "people_ttm")),
    ("", ("levers",)),
    ("effort", ("effort",)),
    ("", ("chances",)),
    ("confusion", ("mistakes",)),
    ("gates", ("gates",)),
    ("", ("failed",)),
)
"""Plot, and the sheets that are folded under it; without a plot they are open."""


def write_page(found: Whole, rows: Sequence[Row], path: Path) -> None:
    """OperatorError: matplotlib is missing, or the file cannot be written."""
    text = page(found, rows)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{path}: cannot be written: {error.strerror}") from None


def page(found: Whole, rows: Sequence[Row]) -> str:
    """The HTML."""
    every = {sheet.key: sheet for sheet in sheets(found)}
    drawn = {plot.key: plot for plot in plots(found, rows)}
    sections: list[tuple[Plot | None, list[Sheet]]] = []
    for key, names in ORDER:
        plot, mine = drawn.get(key), [every[name] for name in names if name in every]
        if plot is not None or mine:
            # Made by matplotlib, which escapes the names in it.
            sections.append((plot and plot._replace(svg=Markup(plot.svg)), mine))
    env = Environment(loader=FileSystemLoader(timeline.PAGES), undefined=StrictUndefined, autoescape=True)
    text: str = env.get_template("report.html.j2").render(
        head=head(found),
        found=found,
        cards=_cards(found),
        figures=every["figures"],
        sections=sections,
        most=MOST_ROWS,
    )
    return text


def _cards(found: Whole) -> list[tuple[str, str, str]]:
    """What people read first: a figure, what it is, and of how many."""
    one = found.report
    total = [e.seconds for e in one.effort if e.seconds is not None]
    kappa = found.classifier.kappa if found.classifier is not None else None
    ttm, people = one.all_times.ttm, one.all_times.people_ttm
    return [
        (_share(one.automatic.share), "found automatically", one.automatic.words()),
        (_share(one.unattended.share), "ended by Interlock, nobody asked", one.unattended.words()),
        (lasted(ttm.p50), "to mitigate by Interlock, median", f"n = {ttm.count}, {ttm.unknown} without"),
        (lasted(people.p50), "to mitigate by people, median", f"n = {people.count}, {people.unknown} without"),
        (
            DASH if kappa is None or kappa.value is None else f"{kappa.value:.2f}",
            "kappa, Interlock against people",
            agreement(kappa) if kappa is not None else "no incident has both labels",
        ),
        (
            minutes(sum(total)) if total else DASH,
            "minutes of people",
            f"{sum(e.unknown for e in one.effort)} incident(s) not known",
        ),
    ]


def _share(share: float | None) -> str:
    return DASH if share is None else f"{share * 100:.0f} %"
