"""The report for a terminal: its sheets by rich, 80 columns wide whatever the terminal is."""

from __future__ import annotations

from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runbooks.markdown import plain
from worker.report import Whole
from worker.report_sheets import Sheet, sheets

WIDTH = 80
LONGEST_NAME = 23
"""Characters: the longest class of the taxonomy, and a space."""


def write(found: Whole, out: TextIO) -> None:
    """All sheets, after a line that says of what."""
    console = Console(file=out, width=WIDTH, highlight=False, markup=False, emoji=False)
    console.print(Text(head(found), style="bold"))
    for why, n in found.left_out.items():
        console.print(Text(plain(f"left out: {n}, {why}"), style="dim"))
    for sheet in sheets(found):
        console.print()
        show(console, sheet)


def head(found: Whole) -> str:
    """How many incidents, of when, from where."""
    one = found.report
    when = f", {one.first:%Y-%m-%d} to {one.last:%Y-%m-%d}" if one.first is not None and one.last is not None else ""
    return plain(f"{one.incidents} incident(s){when}, from {found.source}")


def show(console: Console, sheet: Sheet) -> None:
    """One sheet."""
    console.print(Text(sheet.title, style="bold"))
    if not sheet.rows:
        console.print(Text(f"  {sheet.empty}"))
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, expand=False)
    for name in sheet.columns:
        figures = name.endswith(">")
        table.add_column(
            name.removesuffix(">"), justify="right" if figures else "left", no_wrap=figures, overflow="fold"
        )
    for row in sheet.rows:
        if row:
            # Names and reasons are strangers' text: no markup, no control characters.
            table.add_row(*(Text("\n".join(plain(line) for line in cell.split("\n"))) for cell in row))
        else:
            table.add_section()
    console.print(table)
    if sheet.note:
        console.print(Text(sheet.note, style="dim"))
