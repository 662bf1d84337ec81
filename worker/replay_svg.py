"""One incident as a picture: load against capacity by pool, failures, and who did what, all on one time axis. Plain SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup
from pydantic import Field

from runbooks.base import Model

LEFT, RIGHT, WIDTH = 148.0, 24.0, 1120.0
"""Labels, margin and whole width, px."""
ROW, POOL, FAILED = 19.0, 46.0, 62.0
"""Heights of a row of bars, of a pool and of the failures, px."""
LETTER = 5.9
"""Width of a letter of the bars' text, px, on the safe side."""
STEPS = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800)


class Bar(Model):
    """Something that lasts, or happens at once (`ends` None). Seconds after the start."""

    lane: str
    kind: str
    starts: float
    ends: float | None = None
    text: str
    full: str = ""


class Curves(Model):
    """What was measured, by pool and over all routes. All lists are as long as `at`."""

    at: tuple[float, ...] = ()
    load: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    capacity: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    failed: tuple[float, ...] = ()
    refused: tuple[float, ...] = ()
    nothing: tuple[float, ...] = ()
    """Requests/s without a right answer; those that an act refused; and how many had none when nobody did anything."""


class _Axis(NamedTuple):
    end: float

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * max(0.0, min(at, self.end)) / self.end

    def ticks(self) -> Iterator[tuple[float, str]]:
        step = next((s for s in STEPS if self.end / s <= 12), STEPS[-1])
        for n in range(int(self.end // step) + 1):
            yield n * step, clock(n * step)


def clock(seconds: float) -> str:
    """`1 h 05`, `25 min`, `2 min 40 s`, `40 s`; with a minus before what is negative."""
    if round(seconds) < 0:
        return f"−{clock(-seconds)}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes:02d}" if minutes else f"{hours} h"
    if not minutes:
        return f"{rest} s" if rest else "0"
    return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"


def picture(curves: Curves, bars: Sequence[Bar], end: float, title: str) -> Markup:
    """The whole figure. `end`: seconds after the start."""
    axis, parts, y = _Axis(max(end, 1.0)), list[Markup](), 8.0
    pools = sorted(curves.load, key=lambda p: -max(curves.capacity.get(p, (0.0,)), default=0.0))
    for pool in pools:
        parts.append(_pool(axis, y, pool, curves))
        y += POOL + 8
    if curves.failed:
        parts.append(_failures(axis, y, curves))
        y += FAILED + 12
    for lane in dict.fromkeys(b.lane for b in bars):
        drawn, rows = _lane(axis, y, lane, [b for b in bars if b.lane == lane])
        parts.append(drawn)
        y += rows * ROW + 8
    grid = Markup("").join(_tick(axis, at, text, y) for at, text in axis.ticks())
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        f"{WIDTH:.0f}", f"{y + 18:.0f}", title, grid, Markup("").join(parts)
    )


def _tick(axis: _Axis, at: float, text: str, bottom: float) -> Markup:
    x = axis.x(at)
    return Markup(
        '<line class="grid" x1="{0}" x2="{0}" y1="4" y2="{1}"/><text class="tick" x="{0}" y="{2}">{3}</text>'
    ).format(_n(x), _n(bottom), _n(bottom + 13), text)


def _pool(axis: _Axis, y: float, pool: str, curves: Curves) -> Markup:
    load, capacity = curves.load[pool], curves.capacity.get(pool, ())
    top = max([*load, *capacity], default=0.0) or 1.0
    served = [min(v, c) for v, c in zip(load, capacity, strict=False)]
    return Markup(
        '<text class="name" x="{}" y="{}">{}</text><text class="scale" x="{}" y="{}">up to {} tokens/s</text>{}{}{}'
    ).format(
        _n(LEFT - 10), _n(y + POOL / 2), short(pool, 20), _n(LEFT - 10), _n(y + POOL / 2 + 13),
        amount(max(capacity, default=0.0)),
        _area(axis, y, POOL, curves.at, load, top, "over"),
        _area(axis, y, POOL, curves.at, served, top, "load"),
        _line(axis, y, POOL, curves.at, capacity, top, "capacity"),
    )  # fmt: skip


def _failures(axis: _Axis, y: float, curves: Curves) -> Markup:
    without = [f + r for f, r in zip(curves.failed, curves.refused or [0.0] * len(curves.failed), strict=True)]
    top = max([*without, *curves.nothing], default=0.0) or 1.0
    return Markup(
        '<text class="name" x="{}" y="{}">no right answer</text><text class="scale" x="{}" y="{}">axis to {} a second</text>{}{}{}'
    ).format(
        _n(LEFT - 10), _n(y + FAILED / 2), _n(LEFT - 10), _n(y + FAILED / 2 + 13), amount(top),
        _area(axis, y, FAILED, curves.at, curves.nothing, top, "nothing"),
        _area(axis, y, FAILED, curves.at, without if curves.refused else (), top, "turned"),
        _area(axis, y, FAILED, curves.at, curves.failed, top, "failed"),
    )  # fmt: skip


def _points(axis: _Axis, y: float, height: float, at: Sequence[float], values: Sequence[float], top: float) -> str:
    return " ".join(
        f"{_n(axis.x(t))},{_n(y + height * (1 - max(0.0, v) / top))}" for t, v in zip(at, values, strict=False)
    )


def _area(
    axis: _Axis, y: float, height: float, at: Sequence[float], values: Sequence[float], top: float, kind: str
) -> Markup:
    if not values:
        return Markup("")
    base = _n(y + height)
    points = _points(axis, y, height, at, values, top)
    return Markup('<polygon class="{}" points="{},{} {} {},{}"/>').format(
        kind, _n(axis.x(at[0])), base, points, _n(axis.x(at[len(values) - 1])), base
    )


def _line(
    axis: _Axis, y: float, height: float, at: Sequence[float], values: Sequence[float], top: float, kind: str
) -> Markup:
    return Markup('<polyline class="{}" points="{}"/>').format(kind, _points(axis, y, height, at, values, top))


def _lane(axis: _Axis, y: float, lane: str, bars: list[Bar]) -> tuple[Markup, int]:
    """The bars in as few rows as do not overlap."""
    free: list[float] = []
    parts = [Markup('<text class="name" x="{}" y="{}">{}</text>').format(_n(LEFT - 10), _n(y + 13), lane)]
    for bar in sorted(bars, key=lambda b: b.starts):
        left, right = axis.x(bar.starts), axis.x(bar.ends) if bar.ends is not None else axis.x(bar.starts) + 9
        words = short(bar.text, 60)
        needs = len(words) * LETTER + 8 if words else 0.0
        outside = needs > right - left
        before = outside and right + needs > WIDTH - 4 and left - needs > LEFT
        start, stop = (left - needs, right) if before else (left, right + needs if outside else right)
        row = next((i for i, x in enumerate(free) if x <= start), len(free))
        free[row : row + 1] = [stop + 6]
        top = y + row * ROW
        x, anchor = (left - 4, "end") if before else (right + 4 if outside else left + 4, "start")
        parts.append(_bar(bar, top, left, right, x, anchor, "out" if outside else "in", words))
    return Markup("").join(parts), max(1, len(free))


def _bar(bar: Bar, y: float, left: float, right: float, x: float, anchor: str, where: str, words: str) -> Markup:
    if bar.ends is None:
        shape = Markup('<path d="M{} {}l5 5.5l-5 5.5l-5 -5.5z"/>').format(_n(left), _n(y + 3))
    else:
        shape = Markup('<rect x="{}" y="{}" width="{}" height="14" rx="2"/>').format(
            _n(left), _n(y + 2), _n(max(2.0, right - left))
        )
    return Markup(
        '<g class="bar {}"><title>{}</title>{}<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text></g>'
    ).format(bar.kind, bar.full or bar.text, shape, where, _n(x), _n(y + 13), anchor, words)


def short(text: str, most: int) -> str:
    """Cut, with a sign that it was."""
    return text if len(text) <= most else text[: most - 1] + "…"


def amount(value: float) -> str:
    """1234567 → `1.2 M`."""
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
