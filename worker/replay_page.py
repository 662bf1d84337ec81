"""The page of a replay: an overview, and each incident with its picture. One file, nothing from outside."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from worker.replay_result import Row, harms
from worker.replay_svg import Bar, Curves, amount, clock, picture


class Card(NamedTuple):
    """One figure at the top."""

    figure: str
    words: str
    tone: str = ""


def page(rows: Sequence[Row], under: str) -> str:
    """HTML. `under`: one line on what was played."""
    return _template().render(
        rows=sorted(rows, key=lambda r: not r.expectations_failed),
        cards=cards(rows),
        under=under,
        held=held,
        span=span,
        harm=failed_words,
        split=split,
        below=lambda row: span(row.harm.below_minimum_s),
        clock=clock,
        figure=figure,
    )


def cards(rows: Sequence[Row]) -> list[Card]:
    """What a review asks first."""
    kept = sum(not r.expectations_failed for r in rows)
    right = sum(r.found_class == r.truth_class for r in rows)
    harmed = sum(bool(list(harms(r.harm, float(r.detail.get("nothing_failed", 0.0))))) for r in rows)
    both = [(r.ttm_s, r.human_ttm_s) for r in rows if r.ttm_s is not None and r.human_ttm_s is not None]
    saved = sum(-(r.harm.failed_requests or 0.0) for r in rows)
    one = len(rows) == 1
    spared = Card(amount(saved), "requests spared") if saved >= 0 else Card(amount(-saved), "requests lost", "bad")
    found = [
        Card(str(len(rows)), "incident" if one else "incidents"),
        Card(f"{kept} of {len(rows)}", "as expected", "good" if kept == len(rows) else "bad"),
        Card(f"{right} of {len(rows)}", "class right" if one else "classes right"),
        Card(str(harmed), "with harm", "bad" if harmed else "good"),
        spared,
    ]
    if both:
        ours, theirs = (statistics.median(x) for x in zip(*both, strict=True))
        found.append(Card(f"{clock(ours)}", f"median to mitigate, of {len(both)}; people: {clock(theirs)}"))
    return found


def held(row: Row) -> list[tuple[str, str]]:
    """By lever, the gates that held it back."""
    found: dict[str, list[str]] = {}
    for one in row.refused:
        gates = found.setdefault(one["lever"], [])
        if one["gate"] not in gates:
            gates.append(one["gate"])
    return [(lever, " ".join(gates)) for lever, gates in found.items()]


def span(seconds: float | None) -> str:
    """`–` for what did not happen."""
    return "–" if seconds is None else clock(seconds)


def failed_words(row: Row) -> str:
    """`+12`, `−3.4 k`."""
    value = row.harm.failed_requests
    if value is None:
        return "–"
    return signed(value)


def signed(value: float) -> str:
    """A whole number at least, with its sign."""
    if abs(value) < 0.5:
        return "0"
    return f"+{amount(value)}" if value > 0 else f"−{amount(-value)}"


def split(row: Row) -> str:
    """Of what the number is made."""
    beyond = row.detail.get("beyond", {})
    parts = [f"{what} {signed(n)}" for what, n in beyond.items() if abs(n) >= 0.5]
    return f" ({', '.join(parts)})" if parts else ""


def figure(row: Row) -> Markup:
    """The picture, when there is something to draw."""
    if not row.detail.get("bars"):
        return Markup("")
    bars = [Bar.model_validate(b) for b in row.detail["bars"]]
    return picture(Curves.model_validate(row.detail["curves"]), bars, float(row.detail["ended_s"]), row.incident)


@lru_cache(maxsize=1)
def _template() -> Template:
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return env.get_template("replay_page.html.j2")
