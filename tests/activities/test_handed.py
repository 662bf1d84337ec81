"""What members tell the domain's case: news always, repeats now and then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from activities.handed import STILL_FIRING_EVERY, Handed
from runbooks.detection import Detection, Target, member

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
WIDE = Target(cluster="west")


def word(node: str, status: Literal["firing", "resolved"] = "firing") -> Detection:
    """A node's alert, as its domain's case gets it."""
    told = Detection(
        alert="NodeDown", target=Target(cluster="west", node=node), started_at=NOW, observed_at=NOW, status=status
    )
    return member(told, WIDE)


class Time:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """The time."""
        return self.now


def test_a_repeat_is_sent_only_when_the_case_has_heard_nothing_for_a_while() -> None:
    """Two hundred nodes that repeat their alert every five minutes must not fill the history of one case."""
    clock = Time()
    handed = Handed(clock)
    assert handed.news("run", [word("n1")]) == [word("n1")]
    handed.told("run", [word("n1")])
    assert handed.news("run", [word("n1")]) == []
    assert handed.news("run", [word("n1"), word("n2")]) == [word("n2")]
    assert handed.news("another run", [word("n1")]) == [word("n1")]
    clock.now += STILL_FIRING_EVERY
    assert handed.news("run", [word("n1")]) == [word("n1")]


def test_a_fault_that_comes_back_after_its_resolution_is_news() -> None:
    """The last word counts, not every word that was ever said."""
    handed = Handed(Time())
    for said in (word("n1"), word("n1", "resolved")):
        assert handed.news("run", [said]) == [said]
        handed.told("run", [said])
    assert handed.news("run", [word("n1", "resolved")]) == [word("n1", "resolved")]
    assert handed.news("run", [word("n1")]) == [word("n1")]


def test_what_is_remembered_is_bounded() -> None:
    """By fingerprints and by runs."""
    clock = Time()
    handed = Handed(clock)
    for n in range(300):
        clock.now += timedelta(seconds=1)
        handed.told(f"run-{n}", [word("n1")])
    assert handed.news("run-0", [word("n1")]) == [word("n1")]
    assert handed.news("run-299", [word("n1")]) == []
