"""The page holds everything in one file, whatever names and texts an incident brings."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from worker.replay_page import page
from worker.replay_result import Harm, Row
from worker.replay_svg import Bar, Curves, amount, clock, picture

NASTY = '<script>alert("x")</script> & "quotes"'


def row(**changed: Any) -> Row:
    """An incident that went well."""
    curves = Curves(
        at=(10.0, 20.0, 30.0),
        load={"pool-a": (500.0, 900.0, 1200.0)},
        capacity={"pool-a": (1000.0, 1000.0, 1000.0)},
        failed=(0.0, 1.0, 0.0),
        nothing=(0.0, 5.0, 9.0),
    )
    bars = [
        Bar(lane="what went wrong", kind="fault", starts=5, ends=1200, text="hang of pool-a"),
        Bar(lane="Interlock", kind="act", starts=20, ends=900, text="isolate_endpoint pool-a-0", full=NASTY),
        Bar(lane="held back", kind="refused", starts=1190, text="restart_engine: G5"),
    ]
    detail = {
        "title": "An engine hangs", "kind": "past", "words": NASTY, "starts": "2025-01-31 10:00", "ended_s": 1200.0,
        "curves": curves.model_dump(), "bars": [b.model_dump() for b in bars],
        "rows": [{"at": 20.0, "what": "act", "text": NASTY, "case": "pool-a-0"}],
    }  # fmt: skip
    data: dict[str, Any] = {
        "incident": "one", "truth_class": "engine.hang", "class": "engine.hang", "levers": ("isolate_endpoint",),
        "refused": ({"lever": "restart_engine", "gate": "G5", "why": "the minimum is 3"},), "outcome": "restored",
        "ttm_s": 70.0, "human_ttm_s": 2280.0, "harm": Harm(failed_requests=-1234.0, below_minimum_s=0.0),
        "expectations_failed": (), "real_s": 1.0, "detail": detail,
    }  # fmt: skip
    return Row.model_validate({**data, **changed})


class _Whole(HTMLParser):
    """Every tag that is opened is closed, in order."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [str(v) for k, v in attrs if k in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_nothing_comes_from_outside_and_nothing_of_an_incident_becomes_markup() -> None:
    """The page must be safe to open and to pass on: every tag is closed, and every link is within it."""
    text = page([row(), row(incident="two", expectations_failed=("harm: 9 more",))], "2 incidents")
    whole = _Whole()
    whole.feed(text)

    assert whole.open == []
    assert all(link.startswith("#") for link in whole.links)
    assert "<script" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_an_incident_that_could_not_be_played_is_on_the_page_as_well() -> None:
    """It has no curves to draw, but its reason must not get lost."""
    lost = row(
        **{"class": None}, levers=(), refused=(), outcome=None, ttm_s=None, human_ttm_s=None,
        harm=Harm(failed_requests=None, below_minimum_s=None), expectations_failed=("it could not be played: x",),
        detail={"title": "t", "kind": "past", "words": "", "starts": "2025-01-31 10:00"},
    )  # fmt: skip

    text = page([lost], "1 incident")

    assert "it could not be played: x" in text
    assert "<svg" not in text


def test_what_was_saved_is_a_negative_number_and_harm_a_positive_one() -> None:
    """The sign is that of the requests that failed beyond those of doing nothing."""
    assert "−1.23 k" in page([row()], "")
    assert "+50" in page([row(harm=Harm(failed_requests=50.0, below_minimum_s=0.0))], "")


def test_bars_that_overlap_in_time_stand_in_rows_of_their_own() -> None:
    """Five bars of one lane that all last to the end would otherwise hide each other."""
    bars = [Bar(lane="x", kind="act", starts=10.0 * n, ends=1000, text=f"number {n}") for n in range(5)]

    drawn = picture(Curves(), bars, 1000, "five")

    tops = re.findall(r'<rect x="[^"]*" y="([^"]*)"', drawn)
    assert len(set(tops)) == 5


def test_texts_stay_within_the_picture() -> None:
    """A text at the end of the axis is written to the left of its bar."""
    bars = [Bar(lane="x", kind="page", starts=999, text="a long text at the very end of the axis of time")]

    drawn = picture(Curves(), bars, 1000, "late")

    [(x, anchor)] = re.findall(r'<text class="out" x="([^"]*)" y="[^"]*" text-anchor="([^"]*)"', drawn)
    assert anchor == "end"
    assert float(x) < 1120


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0"), (40, "40 s"), (60, "1 min"), (90, "1 min 30 s"), (-90, "−1 min 30 s"), (3600, "1 h"), (3900, "1 h 05")],
)
def test_times_are_written_as_people_say_them(seconds: float, words: str) -> None:
    """Seconds, minutes, or hours, whichever reads best."""
    assert clock(seconds) == words


@pytest.mark.parametrize(("value", "words"), [(3.14159, "3.14"), (1234.0, "1.23 k"), (5.6e6, "5.6 M"), (0.0, "0")])
def test_amounts_are_short(value: float, words: str) -> None:
    """Three digits at most, and a letter for thousands and millions."""
    assert amount(value) == words
