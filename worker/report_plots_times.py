"""Plots of how long it took: cumulated over all incidents, and by class with every incident as a dot. Minutes, logarithmic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runbooks.report_count import grouped
from runbooks.report_rows import Row
from worker.report_svg import BLUE, GREEN, LIGHT, RED, Draw

LEAST_MIN = 1 / 60
"""A second: nothing is faster on a logarithmic axis."""
MOST_DOTS = 400


def _series(rows: Sequence[Row]) -> list[tuple[str, str, str, list[float]]]:
    """Name, colour, line, minutes."""
    ours = [r.mitigated_after_s for r in rows if r.source != "file"]
    people = [r.people_ttm_s for r in rows]
    found = (
        ("to detect", GREEN, ":", [r.detected_after_s for r in rows]),
        ("to mitigate, by Interlock", BLUE, "-", ours),
        ("to mitigate, by people", RED, "--", people),
    )
    named = [(name, colour, line, _minutes(values)) for name, colour, line, values in found]
    return [one for one in named if one[3]]


def _minutes(values: Sequence[float | None]) -> list[float]:
    return sorted(max(LEAST_MIN, v / 60) for v in values if v is not None)


def times_of_all(rows: Sequence[Row]) -> Draw | None:
    """Share of incidents that took so long at most. None: no time is known."""
    series = _series(rows)
    if not series:
        return None

    def draw(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(figsize=(9.6, 3.6))
        for name, colour, line, values in series:
            axes.ecdf(values, color=colour, linestyle=line, linewidth=2.2, label=f"{name} (n = {len(values)})")
        _minutes_axis(axes)
        axes.set_ylim(0, 1.02)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1], ["0", "25 %", "50 %", "75 %", "90 %", "100 %"])
        axes.grid(color=LIGHT, linewidth=0.8)
        axes.set_ylabel("of the incidents with a figure")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
        return figure

    return draw


def times_by_class(rows: Sequence[Row]) -> Draw | None:
    """Quartiles, and a dot for each incident: a box of three would pretend. None: no time to mitigate is known."""
    blocks = []
    for name, mine in grouped(rows, lambda r: r.label).items():
        ours = _minutes([r.mitigated_after_s for r in mine if r.source != "file"])
        people = _minutes([r.people_ttm_s for r in mine])
        if ours or people:
            blocks.append((name, ours, people))
    if not blocks:
        return None

    def draw(pyplot: Any) -> Any:
        figure, axes = pyplot.subplots(figsize=(9.6, len(blocks) * 0.46 + 0.9))
        for n, (_, ours, people) in enumerate(blocks):
            for values, colour, marker, off in ((ours, BLUE, "o", -0.19), (people, RED, "D", 0.19)):
                if values:
                    _box(axes, values, n + off, colour, marker)
        axes.set_yticks(range(len(blocks)), [name for name, _, _ in blocks])
        axes.set_ylim(len(blocks) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=LIGHT, linewidth=0.8)
        axes.set_axisbelow(True)
        _minutes_axis(axes)
        for label, colour, marker in (("by Interlock", BLUE, "o"), ("by people", RED, "D")):
            axes.plot([], [], marker, color=colour, label=label)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.34 / (len(blocks) * 0.46)), ncols=2)
        return figure

    return draw


def _box(axes: Any, values: Sequence[float], at: float, colour: str, marker: str) -> None:
    """The quartiles need five values; fewer are dots with their median."""
    from statistics import median

    if len(values) >= 5:
        axes.boxplot(
            [list(values)], positions=[at], orientation="horizontal", widths=0.26, showfliers=False, patch_artist=True,
            manage_ticks=False, boxprops={"facecolor": colour, "alpha": 0.22, "edgecolor": colour},
            medianprops={"color": colour, "linewidth": 2.4}, whiskerprops={"color": colour}, capprops={"color": colour},
        )  # fmt: skip
    else:
        axes.plot([median(values)] * 2, [at - 0.13, at + 0.13], color=colour, linewidth=2.4)
    step = max(1, len(values) // MOST_DOTS)
    axes.plot(
        values[::step], [at] * len(values[::step]), marker, color=colour, markersize=4, alpha=0.55, linestyle="none"
    )


def _minutes_axis(axes: Any) -> None:
    axes.set_xscale("log")
    ticks = {
        1 / 60: "1 s",
        0.1: "6 s",
        1: "1 min",
        5: "5",
        10: "10",
        30: "30",
        60: "1 h",
        180: "3 h",
        480: "8 h",
        1440: "1 d",
        10080: "7 d",
    }
    low, high = axes.get_xlim()
    shown = {at: name for at, name in ticks.items() if low <= at <= high}
    axes.set_xticks(list(shown), list(shown.values()))
    axes.minorticks_off()
    axes.set_xlim(low, high)
