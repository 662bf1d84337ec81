"""The demo's picture with one more curve: how many replicas of each pool served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.kube.demo.serving import Curve
from worker.demo import picture as pictures
from worker.demo.load import Request
from worker.demo.picture import COLOURS, ROW_IN, Mark, per_second

LINES = ("#1565c0", "#e08600")
APART = 0.07
"""Of a replica: two pools with as many are two lines."""


def draw(
    requests: Sequence[Request],
    marks: Sequence[Mark],
    serving: Mapping[str, Curve],
    minimum: int,
    path: Path,
    title: str,
) -> Path:
    """Write a PNG. ValueError when there is nothing to draw."""
    if not requests:
        raise ValueError("no request is on record: there is nothing to draw")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pools = tuple(serving)
    start, end = min(r.at for r in requests), max(r.at for r in requests)
    counts = per_second(requests, pools, start, end)
    happened = sorted((m for m in marks if start <= m.at <= end), key=lambda m: m.at)
    figure, (notes, load, failed, replicas) = pyplot.subplots(4, 1, sharex=True, figsize=(15, 11))
    load.set_xlim(0, end - start)
    try:
        pictures._load(load, counts, pools)
        pictures._failed(failed, counts["failed"])
        _serving(replicas, serving, minimum, start, end)
        rows = pictures._notes(figure, notes, [(m.at - start, m) for m in happened])
        for axes in (load, failed, replicas):
            for begin, over in pictures._spans(happened, end):
                axes.axvspan(begin - start, over - start, color=COLOURS["fault"], alpha=0.07, zorder=0, linewidth=0)
            for mark in happened:
                axes.axvline(mark.at - start, color=COLOURS[mark.kind], linewidth=1.1, alpha=0.75, zorder=1)
        heights = [max(1, rows) * ROW_IN + 0.1, 2.6, 1.7, 1.9]
        tall = sum(heights) + 1.6
        figure.set_size_inches(15, tall)
        notes.get_gridspec().set_height_ratios(heights)
        figure.suptitle(title, x=0.06, ha="left", fontsize=14, fontweight="bold")
        replicas.set_xlabel("seconds since the load began")
        figure.subplots_adjust(left=0.06, right=0.985, top=1 - 0.75 / tall, bottom=0.65 / tall, hspace=0.09)
        figure.savefig(path, dpi=110)
    finally:
        pyplot.close(figure)
    return path


def _serving(axes: Any, serving: Mapping[str, Curve], minimum: int, start: float, end: float) -> None:
    most = max(n for curve in serving.values() for _, n in curve)
    for index, (pool, curve) in enumerate(serving.items()):
        points = [(max(0.0, at - start), n + APART * index) for at, n in curve if at <= end]
        points.append((end - start, points[-1][1]))
        axes.step(*zip(*points, strict=True), where="post", color=LINES[index], linewidth=2.2, label=pool, zorder=3)
    axes.axhline(minimum, color=COLOURS["fault"], linestyle="--", linewidth=1.2, label="minimum of each", zorder=2)
    axes.set_ylabel("replicas serving")
    axes.set_ylim(0, most + 0.6)
    axes.set_yticks(range(most + 1))
    axes.legend(loc="lower left", ncols=len(serving) + 1, framealpha=0.92)
    pictures._plain(axes)
