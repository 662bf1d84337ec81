"""How a plot of the report becomes an SVG element of a page that needs nothing else, by matplotlib.

Colours that colour-blind people can tell apart (Okabe and Ito, 2008), and never colour alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

from worker.errors import OperatorError

Draw = Callable[[Any], Any]
"""Of matplotlib.pyplot, gives a figure."""
BLUE, ORANGE, GREEN, SKY, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7"
DARK, GREY, LIGHT = "#1b2733", "#66727f", "#d9dfe5"
WIDE_IN = 9.6
ROW_IN = 0.34
"""Height of one bar, inches."""


class NoMatplotlib(OperatorError):
    """The page cannot be drawn: what to install."""


def pyplot_or_why() -> Any:
    """matplotlib.pyplot. NoMatplotlib: it is not installed."""
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


def as_svg(pyplot: Any, key: str, draw: Draw) -> str:
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
