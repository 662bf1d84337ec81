"""A backtest for a terminal, 80 columns wide."""

from __future__ import annotations

from typing import TextIO

from rich.text import Text

from runbooks.markdown import plain
from worker import backtest_sheets
from worker.backtest_models import OfFiles, OfJournal
from worker.report_text import console, show


def write(found: OfJournal | OfFiles, out: TextIO) -> None:
    """What was compared, how many differ, and the sheets."""
    screen = console(out)
    screen.print(Text(f"A: {plain(found.a)}\nB: {plain(found.b)}", style="bold"))
    if isinstance(found, OfJournal):
        counts = f"{found.cases} closed case(s) from {found.source}: {len(found.differ)} decided otherwise, {found.same} alike"
        lost = f", {len(found.cannot_tell)} cannot be told" if found.cannot_tell else ""
        sheets = backtest_sheets.of_journal(found)
        left = [f"left out: {n}, {why}" for why, n in found.left_out.items()]
    else:
        counts = f"{found.incidents} incident(s), each replayed under both: {len(found.differ)} played otherwise, {found.same} alike"
        lost = f", {len(found.lost)} could not be played" if found.lost else ""
        sheets, left = backtest_sheets.of_files(found), []
    screen.print(Text(counts + lost, style="bold"))
    for line in left:
        screen.print(Text(plain(line), style="dim"))
    for sheet in sheets:
        screen.print()
        show(screen, sheet)
