"""Better, Worse, CannotTell: from samples, and never from hope."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbooks.effects import fair, judge_effect
from runbooks.plan import Effect, Sample
from runbooks.schema import Criterion, Verify

SINCE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
VERIFY = Verify(
    criteria=(
        Criterion(indicator="route_generation", above=1.0),
        Criterion(indicator="error_rate", below=0.05, worse_above=0.9),
    ),
    soak_s=6,
    deadline_s=45,
    every_s=2,
)


def at(seconds: float) -> datetime:
    """A moment after the change."""
    return SINCE + timedelta(seconds=seconds)


def readings(name: str, *values: float | None, start: float = 1.0) -> list[Sample]:
    """One reading every two seconds."""
    return [
        Sample(indicator=name, value=value, observed_at=at(start + 2 * n), why="" if value is not None else "no answer")
        for n, value in enumerate(values)
    ]


def judge(*samples: list[Sample], now: float = 10.0, baseline: dict[str, float] | None = None) -> Effect:
    """The verdict at a moment after the change."""
    return judge_effect(VERIFY, [s for one in samples for s in one], SINCE, at(now), baseline)


def test_better_when_everything_held_for_the_soak() -> None:
    """Four readings over six seconds of every criterion."""
    found = judge(readings("route_generation", 1, 1, 1, 1), readings("error_rate", 0, 0, 0.05, 0))

    assert found.outcome == "better"
    assert "error_rate 0 (<= 0.05)" in found.why


def test_pending_while_one_criterion_still_soaks() -> None:
    """All of them, not most."""
    found = judge(readings("route_generation", 1, 1, 1, 1), readings("error_rate", 0.2, 0, 0, 0))

    assert found.outcome == "pending"
    assert found.why == "error_rate has held for 4.0 s of 6 s"


def test_a_missing_reading_starts_the_soak_again() -> None:
    """None is not good, however good its neighbours are."""
    found = judge(readings("route_generation", 1, 1, None, 1, 1, 1), readings("error_rate", *[0.0] * 6))

    assert found.outcome == "pending"
    assert "route_generation has held for 4.0 s" in found.why


def test_nan_is_a_missing_reading() -> None:
    """A number that is none proves nothing."""
    found = judge(readings("route_generation", 1, 1, 1, float("nan")), readings("error_rate", 0, 0, 0, 0), now=50)

    assert found.outcome == "cannot_tell"
    assert "route_generation could not be measured" in found.why


def test_readings_before_the_change_never_count() -> None:
    """What was good before it proves nothing about it; the moment of the change itself neither."""
    old = readings("route_generation", 1, 1, 1, 1, start=-6), readings("error_rate", 0, 0, 0, 0, start=-6)

    assert judge(*old).outcome == "pending"
    assert "no reading since the change" in judge(*old).why


def test_the_same_reading_twice_is_one_reading() -> None:
    """Ticks of a timer are not measurements: distinct times of observation are."""
    stale = readings("route_generation", 1) * 10, readings("error_rate", 0) * 10

    assert judge(*stale).outcome == "pending"
    assert "1 good readings in a row of 3" in judge(*stale).why


def test_two_answers_for_one_time_count_as_the_bad_one() -> None:
    """When two readings of one moment differ, the one that is not good counts."""
    good = readings("route_generation", 1, 1, 1, 1)
    doubt = [Sample(indicator="route_generation", value=0, observed_at=at(7))]

    assert judge(good, doubt, readings("error_rate", 0, 0, 0, 0)).outcome == "pending"


def test_worse_at_once_after_two_readings_over_the_bound() -> None:
    """No waiting for the deadline."""
    found = judge(readings("error_rate", 0.95, 0.99), now=4)

    assert found.outcome == "worse"
    assert "error_rate was 0.95 and then 0.99" in found.why


def test_one_bad_reading_is_not_worse() -> None:
    """Nor are two with a fair one between them, nor the same one seen twice."""
    assert judge(readings("error_rate", 0.95)).outcome == "pending"
    assert judge(readings("error_rate", 0.95, 0.1, 0.95)).outcome == "pending"
    assert judge(readings("error_rate", 0.95) * 2).outcome == "pending"


def test_a_missing_reading_between_two_bad_ones_is_no_comfort() -> None:
    """It is skipped, not taken for a good one."""
    assert judge(readings("error_rate", 0.95, None, 0.95)).outcome == "worse"


def test_a_value_at_the_worse_bound_is_not_over_it() -> None:
    """Over means over."""
    assert judge(readings("error_rate", 0.9, 0.9)).outcome == "pending"


def test_at_the_deadline_nobody_can_tell_and_the_indicator_is_named() -> None:
    """The reason says what was missing."""
    found = judge(readings("route_generation", *[1.0] * 4), readings("error_rate", 0.2, 0.3), now=45)

    assert found.outcome == "cannot_tell"
    assert found.why == "after 45 s: error_rate is 0.3, and needs <= 0.05"


def test_better_counts_even_when_it_comes_with_the_deadline() -> None:
    """What is proven is proven."""
    found = judge(readings("route_generation", 1, 1, 1, 1), readings("error_rate", 0, 0, 0, 0), now=60)

    assert found.outcome == "better"


def test_an_increment_on_the_way_must_be_no_worse_than_its_baseline() -> None:
    """Half of a dead pool's traffic moved halves the errors: that proves the increment, and would not prove the step."""
    halved = readings("route_generation", 1, 1, 1, 1), readings("error_rate", 0.25, 0.2, 0.25, 0.25)
    baseline = {"route_generation": 1.0, "error_rate": 0.5}

    assert judge(*halved, baseline=baseline).outcome == "better"
    assert judge(*halved).outcome == "pending"
    assert judge(halved[0], readings("error_rate", 0.7, 0.7, 0.7, 0.7), baseline=baseline).outcome == "pending"


def test_a_baseline_never_excuses_worse() -> None:
    """The worse bound stays where it is."""
    assert judge(readings("error_rate", 0.95, 0.95), baseline={"error_rate": 1.0}).outcome == "worse"


values = st.none() | st.sampled_from([0.0, 0.05, 0.2, 0.95, 1.0])


@given(st.lists(st.tuples(st.floats(-5, 60), values, values), max_size=30), st.floats(0, 60))
def test_better_is_always_proven(rows: list[tuple[float, float | None, float | None]], now: float) -> None:
    """Whatever the samples and their order: Better has enough good readings over the soak, and none after them is bad."""
    samples = [
        Sample(indicator=name, value=value, observed_at=at(when))
        for when, first, second in rows
        for name, value in (("route_generation", first), ("error_rate", second))
    ]
    found = judge_effect(VERIFY, samples, SINCE, at(now))
    mixed = random.Random(0).sample(samples, len(samples))

    assert judge_effect(VERIFY, mixed, SINCE, at(now)).outcome == found.outcome
    if found.outcome != "better":
        return
    bounds: tuple[tuple[str, Callable[[float], bool]], ...] = (
        ("route_generation", lambda v: v >= 1.0),
        ("error_rate", lambda v: v <= 0.05),
    )
    for name, good in bounds:
        mine = sorted((s.observed_at, s.value) for s in samples if s.indicator == name and s.observed_at > SINCE)
        newest = mine[-1][0]
        soak = [value for when, value in mine if when >= newest - timedelta(seconds=6)]
        assert all(value is not None and good(value) for value in soak)
        assert len({when for when, _ in mine}) >= 3


SERVING = Verify(
    criteria=(
        Criterion(indicator="route_generation", above=1.0),
        Criterion(indicator="node_replicas_serving", above=1.0),
        Criterion(indicator="replicas_left", below=0),
    ),
    soak_s=6,
    deadline_s=45,
    every_s=2,
)


def drained(serving: float, left: float, exact: tuple[str, ...], **baseline: float) -> str:
    """What is said of one eviction on the way, with these steady readings after it."""
    samples = [
        *readings("route_generation", 1, 1, 1, 1),
        *readings("node_replicas_serving", *[serving] * 4),
        *readings("replicas_left", *[left] * 4),
    ]
    start = {"route_generation": 0.0, "node_replicas_serving": 1.0, "replicas_left": 3.0, **baseline}
    return judge_effect(SERVING, samples, SINCE, at(10), start, exact).outcome


COUNTED = ("node_replicas_serving", "replicas_left")


def test_what_is_counted_has_no_noise() -> None:
    """Nine of ten replicas is a replica too few, not the noise of a short window."""
    assert drained(0.9, 3, COUNTED) == "pending"
    assert drained(1.0, 3, COUNTED) == "better"
    assert drained(0.9, 3, exact=()) == "better"


def test_what_is_counted_may_stay_as_bad_as_it_was_and_no_worse() -> None:
    """Of a dead node two replicas of three serve when its first is evicted: two must go on serving, not one."""
    assert drained(2 / 3, 3, COUNTED, node_replicas_serving=2 / 3) == "better"
    assert drained(1 / 3, 3, COUNTED, node_replicas_serving=2 / 3) == "pending"
    assert drained(1.0, 4, COUNTED) == "pending"


def test_the_last_increment_must_reach_the_aim_itself() -> None:
    """Without a baseline: everything serves elsewhere, and nothing is left."""
    samples = [
        *readings("route_generation", 1, 1, 1, 1),
        *readings("node_replicas_serving", *[2 / 3] * 4),
        *readings("replicas_left", *[0.0] * 4),
    ]

    assert judge_effect(SERVING, samples, SINCE, at(10), None, COUNTED).outcome == "pending"


def test_a_service_that_was_bad_before_the_step_is_not_made_worse_by_staying_so() -> None:
    """oai-2022-06-24: half of all requests failed before the first tenth was moved. A quarter more than before is Worse."""
    high = Criterion(indicator="error_rate", below=0.05, worse_above=0.5)
    low = Criterion(indicator="tokens", above=100.0, worse_below=50.0)
    verify = VERIFY.model_copy(update={"criteria": (high, low)})

    def bounds(**first: float) -> tuple[float | None, float | None]:
        one, two = fair(verify, first).criteria
        return one.worse_above, two.worse_below

    assert bounds(error_rate=0.6, tokens=20.0) == (0.75, 15.0)
    assert bounds(error_rate=0.2, tokens=90.0) == (0.5, 50.0)
    assert bounds(error_rate=0.8) == (0.9, 50.0), "a total outage is Worse"
    assert bounds(error_rate=4.0) == (5.0, 50.0), "no share"
    assert bounds(error_rate=0.05, tokens=100.0) == (0.5, 50.0)
    assert bounds(error_rate=float("nan"), tokens=float("nan")) == (0.5, 50.0)
    assert bounds() == (0.5, 50.0)

    def drowned(start: float, bound: float | None = 0.9) -> float | None:
        only = Criterion(indicator="error_rate", below=0.05, worse_above=bound)
        one = VERIFY.model_copy(update={"criteria": (only,)})
        return fair(one, {"error_rate": start}, drowns=True).criteria[0].worse_above

    assert drowned(0.2) == pytest.approx(0.4)
    assert drowned(0.0) == pytest.approx(0.18)
    assert drowned(0.1) == pytest.approx(0.28)
    assert drowned(0.6) == pytest.approx(0.9)
    assert drowned(0.8) == pytest.approx(0.9)
    assert drowned(0.2, None) is None
    # What meets the criterion is never Worse.
    assert drowned(0.0, 0.2) == pytest.approx(0.05)
    only = Criterion(indicator="tokens", above=5.0, worse_above=20.0)
    one = VERIFY.model_copy(update={"criteria": (only,)})
    assert fair(one, {"tokens": 1.0}, drowns=True).criteria[0].worse_above == pytest.approx(5.0)
    assert drowned(float("nan")) == 0.9
    plain = VERIFY.model_copy(update={"criteria": (Criterion(indicator="error_rate", below=0.05),)})
    assert fair(plain, {"error_rate": 0.9}) == plain
    other = VERIFY.model_copy(update={"criteria": (Criterion(indicator="tokens", above=1.0),)})
    assert fair(other, {"tokens": 0.5}) == other
