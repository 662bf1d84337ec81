"""The rows of a replay for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from worker.replay_page import failed_words, held, span
from worker.replay_result import Row


def table(rows: Sequence[Row]) -> Table:
    """One line for each incident."""
    found = Table(box=None, header_style="bold", pad_edge=False, expand=False)
    for name in ("", "incident", "class", "levers done", "held back by", "outcome"):
        found.add_column(name, overflow="fold")
    for name in ("mitigated", "by people", "failed", "below min", "real s"):
        found.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        found.add_row(*_cells(row))
    return found


def _cells(row: Row) -> Iterator[str]:
    yield "[red]✗[/red]" if row.expectations_failed else "[green]✓[/green]"
    yield escape(row.incident)
    right = row.found_class == row.truth_class
    yield escape(row.truth_class) if right else f"[red]{escape(row.found_class or 'none')}[/red] ({row.truth_class})"
    yield ", ".join(row.levers) or "[dim]none[/dim]"
    yield "; ".join(f"{lever}: {gates}" for lever, gates in held(row)) or "[dim]–[/dim]"
    yield (row.outcome or "–").replace("_", " ")
    yield span(row.ttm_s)
    yield f"[dim]{span(row.human_ttm_s)}[/dim]"
    yield failed_words(row)
    yield span(row.harm.below_minimum_s)
    yield f"[dim]{row.real_s:.1f}[/dim]"


def said(rows: Sequence[Row], took_s: float) -> str:
    """What does not hold, and the sum of it."""
    lines = [f"{r.incident}: {why}" for r in rows for why in r.expectations_failed]
    kept, right = sum(not r.expectations_failed for r in rows), sum(r.found_class == r.truth_class for r in rows)
    whole = (
        f"{kept} of {len(rows)} as expected; {right} classes right; {took_s:.0f} s, "
        f"{sum(r.real_s for r in rows) / max(1, len(rows)):.1f} s of one process for each. "
        "failed, below min: beyond doing nothing; mitigated: from the first fault."
    )
    return "\n".join(escape(line) for line in [*lines, whole])
