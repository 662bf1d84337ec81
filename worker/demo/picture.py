"""The timeline as a picture: what was done above, load by pool and failures below, one clock for all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from worker.demo.load import Request

Kind = Literal["fault", "alert", "act", "mitigated", "approval", "restore", "over"]
COLOURS: dict[Kind, str] = {
    "fault": "#c62828",
    "alert": "#e08600",
    "approval": "#6a1b9a",
    "act": "#1565c0",
    "mitigated": "#2e7d32",
    "over": "#546e7a",
    "restore": "#00838f",
}
POOL_COLOURS = ("#7aa6d8", "#f0b775", "#9ccc9c", "#c7a6d8")
ROW_IN = 0.24
"""Height of one row of labels, inches."""


@dataclass(frozen=True)
class Mark:
    """Something that happened: `at` in Unix time, one short line of text."""

    at: float
    kind: Kind
    text: str


def per_second(requests: Sequence[Request], pools: Sequence[str], start: float, end: float) -> dict[str, list[int]]:
    """Answered requests by pool, and failed ones under "failed", in whole seconds from `start`, by when they left."""
    length = max(1, math.floor(end - start))
    counts: Counter[tuple[str, int]] = Counter()
    for one in requests:
        second = int(one.at - start)
        if 0 <= second < length:
            counts[one.pool if one.ok else "failed", second] += 1
    return {name: [counts[name, s] for s in range(length)] for name in (*pools, "failed")}


def draw(requests: Sequence[Request], marks: Sequence[Mark], pools: Sequence[str], path: Path, title: str) -> Path:
    """Write a PNG. ValueError when there is nothing to draw."""
    if not requests:
        raise ValueError("no request is on record: there is nothing to draw")
    # Here and not above: matplotlib costs half a second, which no other command must pay. Agg: no display needed.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    start = min(r.at for r in requests)
    end = max(r.at for r in requests)
    counts = per_second(requests, pools, start, end)
    happened = sorted((m for m in marks if start <= m.at <= end), key=lambda m: m.at)
    figure, (notes, load, failed) = pyplot.subplots(3, 1, sharex=True, figsize=(15, 9))
    load.set_xlim(0, end - start)
    try:
        _load(load, counts, pools)
        _failed(failed, counts["failed"])
        rows = _notes(figure, notes, [(m.at - start, m) for m in happened])
        for axes in (load, failed):
            for begin, over in _spans(happened, end):
                axes.axvspan(begin - start, over - start, color=COLOURS["fault"], alpha=0.07, zorder=0, linewidth=0)
            for mark in happened:
                axes.axvline(mark.at - start, color=COLOURS[mark.kind], linewidth=1.1, alpha=0.75, zorder=3)
        heights = [max(1, rows) * ROW_IN + 0.1, 3.0, 2.0]
        figure.set_size_inches(15, sum(heights) + 1.6)
        notes.get_gridspec().set_height_ratios(heights)
        figure.suptitle(title, x=0.06, ha="left", fontsize=14, fontweight="bold")
        failed.set_xlabel("seconds since the load began")
        top = 1 - 0.75 / (sum(heights) + 1.6)
        figure.subplots_adjust(left=0.06, right=0.985, top=top, bottom=0.65 / (sum(heights) + 1.6), hspace=0.07)
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)
    return path


def _spans(marks: Sequence[Mark], end: float) -> list[tuple[float, float]]:
    """From each fault to the next mark that says it is over."""
    over = [m.at for m in marks if m.kind == "over"]
    return [(m.at, min((o for o in over if o >= m.at), default=end)) for m in marks if m.kind == "fault"]


def _load(axes: Any, counts: dict[str, list[int]], pools: Sequence[str]) -> None:
    seconds = range(len(counts["failed"]))
    smooth = [_smooth(counts[pool]) for pool in pools]
    labels = [f"answered by {pool}" for pool in pools]
    axes.stackplot([s + 0.5 for s in seconds], *smooth, labels=labels, colors=POOL_COLOURS[: len(pools)], zorder=2)
    axes.set_ylabel("answered, requests/s\n(mean of 3 s)")
    axes.legend(loc="lower left", ncols=len(pools), framealpha=0.92)
    _plain(axes)


def _failed(axes: Any, failed: list[int]) -> None:
    axes.bar([s + 0.5 for s in range(len(failed))], failed, width=1.0, color=COLOURS["fault"], zorder=2)
    axes.set_ylabel("failed, requests/s\n(by when they left)")
    axes.set_ylim(0, max(4, max(failed) * 1.15))
    axes.annotate(f"{sum(failed)} failed in all", (0.99, 0.88), xycoords="axes fraction", ha="right", va="top")
    _plain(axes)


def _smooth(values: list[int]) -> list[float]:
    return [sum(part) / len(part) for i in range(len(values)) if (part := values[max(0, i - 1) : i + 2])]


def _plain(axes: Any) -> None:
    axes.grid(axis="y", alpha=0.3, zorder=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _notes(figure: Any, axes: Any, marks: Sequence[tuple[float, Mark]]) -> int:
    """Labels above the curves, each at its moment, in as few rows as fit without two touching. Returns the rows."""
    axes.set_axis_off()
    renderer = figure.canvas.get_renderer()
    # The scale that the final layout will have: the axes are 0.925 of the figure's width.
    low, high = axes.get_xlim()
    per_pixel = (high - low) / (0.925 * 15 * figure.dpi)
    ends: list[float] = []
    placed: list[tuple[float, int, Mark]] = []
    for at, mark in marks:
        text = _label(mark, at)
        probe = axes.text(0, 0, text, fontsize=9, fontweight="bold")
        width = probe.get_window_extent(renderer).width * per_pixel * 1.06
        probe.remove()
        # A label too near the right edge is written to the left of its line.
        begin = at if at + width <= high else at - width
        row = next((i for i, taken in enumerate(ends) if taken <= begin), len(ends))
        if row == len(ends):
            ends.append(0.0)
        ends[row] = begin + width + (high - low) * 0.006
        placed.append((at, row, mark))
        axes.text(
            at,
            row + 0.5,
            f" {text} ",
            fontsize=9,
            fontweight="bold",
            color=COLOURS[mark.kind],
            ha="left" if begin == at else "right",
            va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            zorder=5,
        )
    rows = max(1, len(ends))
    axes.set_ylim(rows, 0)
    for at, row, mark in placed:
        axes.plot([at, at], [row + 0.5, rows], color=COLOURS[mark.kind], linewidth=1.1, alpha=0.75, zorder=3)
    return rows


def _label(mark: Mark, at: float) -> str:
    text = mark.text if len(mark.text) <= 60 else mark.text[:59] + "…"
    return f"{at:.0f} s  {text}"
