"""A Detection alone: which of two words about one fault is the newer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runbooks.detection import Detection, Target

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def word(observed_s: float, received_s: float | None) -> Detection:
    """Seen and taken in so many seconds after noon."""
    return Detection(
        alert="EngineHang",
        target=Target(cluster="west", service="a"),
        started_at=NOW,
        observed_at=NOW + timedelta(seconds=observed_s),
        received_at=None if received_s is None else NOW + timedelta(seconds=received_s),
    )


def test_nothing_was_seen_after_it_came_in() -> None:
    """A detector half a minute ahead said that it fires; its clock was set, and it says that it is over. The end counts."""
    ahead, over = word(30, 0), word(5, 5)
    assert ahead.observed_at > over.observed_at
    assert ahead.seen_at == NOW
    assert ahead.seen_at < over.seen_at


def test_a_word_that_was_overtaken_on_its_way_is_still_the_older() -> None:
    """By what was measured, not by what came last."""
    assert word(1, 9).seen_at < word(2, 3).seen_at


def test_before_it_is_taken_in_the_detectors_own_time_counts() -> None:
    """There is nothing else to go by."""
    assert word(30, None).seen_at == NOW + timedelta(seconds=30)
