"""Plots of the report that are bars: shares beside the paper's, people's time, refusals by gate."""

from __future__ import annotations

from typing import Any

from runbooks.report_tables import Report
from worker.report_svg import BLUE, DARK, GREEN, GREY, LIGHT, ORANGE, PURPLE, RED, SKY, Draw, bars

GROUPS = {"engine": BLUE, "config": ORANGE, "infra": GREEN, "ops": PURPLE, "dep": SKY, "demand": RED}


def says_shares(one: Report) -> str:
    """In words."""
    each = ", ".join(f"{g.name} {g.of_all.part}" for g in one.groups if g.of_all.part)
    return f"{one.incidents} incidents: {each or 'none'}. Diamonds are the paper's shares."


def shares(one: Report) -> Draw | None:
    """A group dark, its classes light under it. None: there is no incident."""
    if not one.incidents:
        return None

    def draw(pyplot: Any) -> Any:
        lines = [line for g in one.groups for line in (g, *(c for c in one.classes if c.group == g.name))]
        figure, axes = bars(pyplot, len(lines))
        engine = next((g.of_all.share or 0.0 for g in one.groups if g.name == "engine"), 0.0)
        for n, line in enumerate(lines):
            whole = line.of_group is None
            colour, share = GROUPS.get(line.group, GREY), (line.of_all.share or 0.0) * 100
            axes.barh(n, share, height=0.72 if whole else 0.5, color=colour, alpha=1.0 if whole else 0.45)
            axes.annotate(
                f"{line.of_all.part}", (share, n), xytext=(4, 0), textcoords="offset points", va="center", color=GREY
            )
            if line.paper is not None and whole:
                paper = line.paper.share * 100
                axes.plot(paper, n, "D", color="white", markeredgecolor=DARK, markersize=7, clip_on=False)
                left = paper < share < paper + 8  # else it would cover the number at the bar's end
                axes.annotate(
                    line.paper.words(),
                    (paper, n),
                    xytext=(-8 if left else 8, 0),
                    textcoords="offset points",
                    va="center",
                    ha="right" if left else "left",
                    fontsize=9,
                    color=DARK,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.9},
                )
        axes.set_yticks(range(len(lines)), [line.name if line.of_group is None else f"  {line.name}" for line in lines])
        for label, line in zip(axes.get_yticklabels(), lines, strict=True):
            label.set_fontweight("bold" if line.of_group is None else "normal")
        axes.set_xlim(0, max(70.0, engine * 100 + 8))
        axes.set_xlabel("share of all incidents, %   (number: incidents here; diamond: the paper's share of the group)")
        return figure

    return draw


def says_effort(one: Report) -> str:
    """In words."""
    known = [e for e in one.effort if e.seconds]
    return f"Minutes of people, most in {known[0].name}." if known else "Nothing is known."


def effort(one: Report) -> Draw | None:
    """A Pareto chart, the most minutes on top. None: no minute is known."""
    known = [(e.name, e.seconds, e.unknown) for e in one.effort if e.seconds]
    if not known:
        return None

    def draw(pyplot: Any) -> Any:
        figure, axes = bars(pyplot, len(known))
        total, upto = sum(s for _, s, _ in known), 0.0
        for n, (_, seconds, unknown) in enumerate(known):
            upto += seconds
            axes.barh(n, seconds / 60, height=0.66, color=BLUE if upto - seconds < 0.8 * total else SKY)
            more = f", {unknown} not known" if unknown else ""
            axes.annotate(
                f"{seconds / 60:,.0f} min, {upto / total * 100:.0f} % up to here{more}", (seconds / 60, n), xytext=(5, 0),
                textcoords="offset points", va="center", fontsize=9, color=GREY,
            )  # fmt: skip
        axes.set_yticks(range(len(known)), [name for name, _, _ in known])
        axes.set_xlim(0, known[0][1] / 60 * 1.38)
        axes.set_xlabel("minutes in which only people could bring it on (darker: the first 80 %)")
        return figure

    return draw


def gates(one: Report) -> Draw | None:
    """Refused for good and for a while. None: nothing was refused."""
    if not one.gates:
        return None

    def draw(pyplot: Any) -> Any:
        figure, axes = bars(pyplot, len(one.gates))
        for n, line in enumerate(one.gates):
            untold = sum(line.levers.values()) - line.for_good - line.later
            start = 0
            for width, colour, hatch, label in (
                (line.for_good, RED, "", "for good"),
                (line.later, SKY, "//", "allowed at a later look"),
                (untold, LIGHT, "..", "not told"),
            ):
                first = label not in axes.get_legend_handles_labels()[1]
                if width:
                    axes.barh(n, width, left=start, height=0.66, color=colour, hatch=hatch, edgecolor="white",
                              label=label if first else None)  # fmt: skip
                start += width
            each = ", ".join(f"{name} {count}" for name, count in list(line.levers.items())[:3])
            axes.annotate(
                each, (start, n), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9, color=GREY
            )
        axes.set_yticks(range(len(one.gates)), [line.gate for line in one.gates])
        axes.set_xlim(0, max(sum(line.levers.values()) for line in one.gates) * 1.9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("levers refused, once per incident")
        axes.legend(loc="lower right")
        return figure

    return draw
