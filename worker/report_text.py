"""The report for a terminal: its sheets by rich, 80 columns wide whatever the terminal is."""

from __future__ import annotations

from typing import Literal, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runbooks.markdown import plain
from worker.report import Whole
from worker.report_sheets import Sheet, sheets

WIDTH = 80
LONGEST_NAME = 40
"""Characters of a name or a figure before it is folded."""
LEAST_TEXT = 10
MOST_ROWS = 40


def write(found: Whole, out: TextIO) -> None:
    """All sheets, after a line that says of what."""
    screen = console(out)
    screen.print(Text(head(found), style="bold"))
    for why, n in found.left_out.items():
        screen.print(Text(plain(f"left out: {n}, {why}"), style="dim"))
    for sheet in sheets(found):
        screen.print()
        show(screen, sheet)


def console(out: TextIO) -> Console:
    """Of one width everywhere; strangers' words are no markup."""
    return Console(file=out, width=WIDTH, highlight=False, markup=False, emoji=False)


def head(found: Whole) -> str:
    """How many incidents, of when, from where."""
    one = found.report
    when = f", {one.first:%Y-%m-%d} to {one.last:%Y-%m-%d}" if one.first is not None and one.last is not None else ""
    return plain(f"{one.incidents} incident(s){when}, from {found.source}")


def show(screen: Console, sheet: Sheet) -> None:
    """One sheet; of a long one the first rows."""
    screen.print(Text(sheet.title, style="bold"))
    if not sheet.rows:
        screen.print(Text(f"  {sheet.empty}"))
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name, width in zip(sheet.columns, _widths(sheet), strict=True):
        justify: Literal["left", "right"] = "right" if name.endswith(">") else "left"
        table.add_column(name.removesuffix(">"), justify=justify, width=width, overflow="fold")
    for row in sheet.rows[:MOST_ROWS]:
        if row:
            # Names and reasons are strangers' text: no markup, no control characters.
            table.add_row(*(Text("\n".join(plain(line) for line in cell.split("\n"))) for cell in row))
        else:
            table.add_section()
    screen.print(table)
    if len(sheet.rows) > MOST_ROWS:
        screen.print(Text(f"… and {len(sheet.rows) - MOST_ROWS} more: --json or --html has them"))
    if sheet.note:
        screen.print(Text(sheet.note, style="dim"))


def _widths(sheet: Sheet) -> list[int]:
    """Names and figures get what they need, up to a bound; columns of text share what is left."""
    needs = [
        max(len(name.removesuffix(">")), *(len(line) for row in sheet.rows if row for line in row[n].split("\n")))
        for n, name in enumerate(sheet.columns)
    ]
    texts = [n for n, name in enumerate(sheet.columns) if n and not name.endswith(">")]
    widths = [min(need, LONGEST_NAME) if n not in texts else need for n, need in enumerate(needs)]
    between = 2 * len(widths) - 1  # rich: a divider, and a space to the right of each cell
    left = WIDTH - between - sum(w for n, w in enumerate(widths) if n not in texts)
    for place, n in enumerate(sorted(texts, key=needs.__getitem__)):
        share = left // (len(texts) - place)  # a short one leaves its rest to the longer
        widths[n] = min(needs[n], max(share, LEAST_TEXT))
        left -= widths[n]
    return widths
