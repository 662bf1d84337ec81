"""The plots of a report as SVG, by matplotlib, for one page that needs nothing else. Colours that colour-blind people can
tell apart (Okabe and Ito, 2008), and never colour alone."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from runbooks.report_rows import Row
from runbooks.report_tables import Report
from worker.errors import OperatorError
from worker.report import Agreed, Whole

BLUE, ORANGE, GREEN, SKY, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7"
DARK, GREY, LIGHT = "#1b2733", "#66727f", "#d9dfe5"
GROUPS = {"engine": BLUE, "config": ORANGE, "infra": GREEN, "ops": PURPLE, "dep": SKY, "demand": RED}
WIDE_IN = 9.6
ROW_IN = 0.34
"""Height of one bar, inches."""


class Plot(NamedTuple):
    """An SVG element, and what it shows in words for whoever does not see it. `beside`: the sheets that it stands with."""

    key: str
    title: str
    says: str
    svg: str


class NoMatplotlib(OperatorError):
    """The page cannot be drawn: what to install."""


def plots(found: Whole, rows: Sequence[Row]) -> Iterator[Plot]:
    """Those for which there is something to draw."""
    pyplot = _pyplot()
    from worker.report_plots_times import times_by_class, times_of_all

    one = found.report
    drawn: list[tuple[str, str, str, Callable[[Any], Any] | None]] = [
        ("shares", "Shares by group and class", _says_shares(one), (lambda p: _shares(p, one)) if one.incidents else None),
        ("ecdf", "How long it took", "Share of incidents over minutes, for each of the three times.", times_of_all(rows)),
        ("boxes", "Time to mitigate by class", "Quartiles and every incident, in minutes.", times_by_class(rows)),
        ("effort", "People's time by class", _says_effort(one), _effort(one)),
        ("confusion", "Interlock's class against people's label", _says_kappa(found.classifier), _confusion(found.classifier)),
        ("gates", "What was refused, by gate", "Incidents by gate.", _gates(one)),
    ]  # fmt: skip
    for key, title, says, draw in drawn:
        if draw is not None:
            yield Plot(key, title, says, _svg(pyplot, key, draw))


def _pyplot() -> Any:
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise NoMatplotlib(
            "the page's plots are drawn by matplotlib, which is not installed: take the extra `demo` "
            "(`uv sync --extra demo`, or `pip install matplotlib`), or leave --html out"
        ) from None
    matplotlib.use("Agg")  # no display is needed
    from matplotlib import pyplot

    return pyplot


def _svg(pyplot: Any, key: str, draw: Callable[[Any], Any]) -> str:
    """One element. Its ids begin with the plot's key: several are on one page."""
    style = {
        "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and takes the page's font
        "svg.hashsalt": key,
        "text.parse_math": False,  # a `$` in a name is a dollar
        "font.size": 10,
        "axes.edgecolor": LIGHT,
        "axes.labelcolor": GREY,
        "text.color": DARK,
        "xtick.color": GREY,
        "ytick.color": DARK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.frameon": False,
    }
    with pyplot.rc_context(style):
        figure = draw(pyplot)
        out = io.StringIO()
        figure.savefig(
            out, format="svg", metadata={"Date": None}, transparent=True, bbox_inches="tight", pad_inches=0.06
        )
        pyplot.close(figure)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{key}-', text)
    text = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{key}-", text)
    # The browser scales it by its viewBox.
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"',
        r"<svg \1",
        re.sub(r'(<svg [^>]*?)height="[^"]*" ?', r"\1", text, count=1),
        count=1,
    )


def bars(pyplot: Any, count: int, least: int = 2) -> tuple[Any, Any]:
    """A figure for so many horizontal bars, the first on top."""
    figure, axes = pyplot.subplots(figsize=(WIDE_IN, max(least, count) * ROW_IN + 0.7))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=LIGHT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_ylim(count - 0.5, -0.5)
    return figure, axes


def _says_shares(one: Report) -> str:
    each = ", ".join(f"{g.name} {g.of_all.part}" for g in one.groups if g.of_all.part)
    return f"{one.incidents} incidents: {each or 'none'}. Diamonds are the paper's shares."


def _shares(pyplot: Any, one: Report) -> Any:
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
            axes.plot(line.paper.share * 100, n, "D", color="white", markeredgecolor=DARK, markersize=7, clip_on=False)
            axes.annotate(
                line.paper.words(), (line.paper.share * 100, n), xytext=(8, 0), textcoords="offset points", va="center",
                fontsize=9, color=DARK, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.9},
            )  # fmt: skip
    axes.set_yticks(range(len(lines)), [line.name if line.of_group is None else f"  {line.name}" for line in lines])
    for label, line in zip(axes.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if line.of_group is None else "normal")
    axes.set_xlim(0, max(70.0, engine * 100 + 8))
    axes.set_xlabel("share of all incidents, %   (number: incidents here; diamond: the paper's share of the group)")
    return figure


def _says_effort(one: Report) -> str:
    known = [e for e in one.effort if e.seconds]
    return f"Minutes of people, most in {known[0].name}." if known else "Nothing is known."


def _effort(one: Report) -> Callable[[Any], Any] | None:
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


def _says_kappa(found: Agreed | None) -> str:
    if found is None:
        return ""
    value = "not defined" if found.kappa.value is None else f"{found.kappa.value:.2f}"
    return f"Cohen's kappa {value} over {found.kappa.n} incidents. A row is people's label, a column Interlock's class."


def _confusion(found: Agreed | None) -> Callable[[Any], Any] | None:
    if found is None:
        return None
    names = sorted({c.truth for c in found.cells} | {c.found for c in found.cells})
    count = {(c.truth, c.found): c.incidents for c in found.cells}
    totals = {t: sum(count.get((t, f), 0) for f in names) for t in names}

    def draw(pyplot: Any) -> Any:
        side = max(3.2, 0.42 * len(names) + 1.4)
        figure, axes = pyplot.subplots(figsize=(side + 1.2, side))
        shares = [[count.get((t, f), 0) / totals[t] if totals[t] else 0.0 for f in names] for t in names]
        # Cells and not an image: they stay sharp, and the page may load nothing.
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors=LIGHT, linewidth=0.8)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        for i, t in enumerate(names):
            for j, f in enumerate(names):
                n = count.get((t, f), 0)
                if n:
                    dark = shares[i][j] > 0.55
                    axes.text(j + 0.5, i + 0.5, str(n), ha="center", va="center", color="white" if dark else DARK,
                              fontweight="bold" if i == j else "normal")  # fmt: skip
        axes.set_xticks([n + 0.5 for n in range(len(names))], names, rotation=45, ha="left", rotation_mode="anchor")
        axes.xaxis.tick_top()
        axes.set_yticks([n + 0.5 for n in range(len(names))], [f"{name} ({totals[name]})" for name in names])
        axes.set_xlabel("Interlock's class")
        axes.set_ylabel("people's label (incidents)")
        for side_ in axes.spines.values():
            side_.set_visible(False)
        return figure

    return draw


def _gates(one: Report) -> Callable[[Any], Any] | None:
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
