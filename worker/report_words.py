"""Figures of a report as people read them. What is not known is a dash, and never a zero."""

from __future__ import annotations

from runbooks.report_count import Spread
from runbooks.report_paper import Figure
from worker.agreement import Kappa

DASH = "–"


def lasted(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3.4 h`, `2.1 d`: two digits tell enough of a distribution."""
    if seconds is None:
        return DASH
    for unit, name in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * unit:
            return f"{_short(seconds / unit)} {name}"
    return f"{_short(seconds)} s"


def _short(value: float) -> str:
    return f"{value:.1f}" if 0 < value < 9.95 else f"{value:.0f}"


def minutes(seconds: float | None, unknown: int = 0) -> str:
    """Summed time in minutes, and how many incidents are not in the sum."""
    text = (
        DASH if seconds is None else f"{seconds / 60:,.0f}" if seconds >= 600 or not seconds else f"{seconds / 60:.1f}"
    )
    return text + (f" (+{unknown} ?)" if unknown else "")


def paper(figure: Figure | None) -> str:
    """`60 % P`, or a dash."""
    return figure.words() if figure is not None else DASH


def agreement(found: Kappa | None) -> str:
    """`0.91 (0.85 to 0.97), 142 of 156 alike`."""
    if found is None:
        return DASH
    alike = f"{round(found.observed * found.n)} of {found.n} alike"
    if found.value is None or found.low is None or found.high is None:
        return f"not defined: one label only, {alike}"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f}), {alike}"


def quantiles(spread: Spread) -> tuple[str, ...]:
    """Count, p25, p50, p75, p90, longest, and how many have no figure."""
    figures = (spread.p25, spread.p50, spread.p75, spread.p90, spread.longest)
    return (str(spread.count), *(lasted(f) for f in figures), str(spread.unknown))
