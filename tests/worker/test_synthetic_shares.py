"""The shares of the corpus are the paper's, to the last incident."""

from __future__ import annotations

from collections import Counter

import pytest

from worker.agreement import kappa
from worker.synthetic_draw import Draw
from worker.synthetic_shares import SHARES, apportion, places
from worker.synthetic_truth import closings, second_labels, statuses


def counted(count: int = 156) -> Counter[str]:
    return Counter(p.share.failure_class for p in places(Draw("test"), count))


def test_the_engine_has_94_of_156_and_its_classes_have_what_the_paper_gives_them() -> None:
    """What the paper does not split further, 13 of them, is shared by two classes."""
    found = counted()
    assert [found[f"engine.{c}"] for c in ("timeout", "exhaustion", "crash", "latency_spike")] == [37, 27, 11, 6]
    assert found["engine.hang"] + found["engine.bad_output"] == 13


def test_groups_have_94_31_25_and_6() -> None:
    """The paper's shares as counts, met exactly whatever the draw."""
    assert Counter(p.share.group for p in places(Draw("test"), 156)) == {
        "engine": 94,
        "infra": 31,
        "config": 25,
        "ops": 6,
    }


def test_115_are_found_automatically_and_44_need_a_hotfix() -> None:
    """Its shares as counts of 156, met exactly whatever the draw."""
    whole = places(Draw("test"), 156)
    assert sum(not p.people for p in whole) == 115
    assert sum(p.hotfix for p in whole) == 44


def test_the_table_adds_up_without_the_apportioning() -> None:
    """Rounding must not be what makes the counts right."""
    assert (sum(s.of for s in SHARES), sum(s.hotfix for s in SHARES), sum(s.people for s in SHARES)) == (156, 44, 41)
    assert all(s.hotfix <= s.of and s.people <= s.of for s in SHARES)


def test_the_marks_say_what_the_paper_says_and_what_is_ours() -> None:
    """P is the paper's own word, S is second-hand, and I is our split."""
    assert {s.failure_class for s in SHARES if s.mark == "P"} == {"engine.timeout"}
    assert {s.failure_class for s in SHARES if s.mark == "S"} == {
        "engine.exhaustion",
        "engine.crash",
        "engine.latency_spike",
    }
    assert all(
        s.mark == "I" for s in SHARES if s.group != "engine" or s.failure_class in ("engine.hang", "engine.bad_output")
    )


@pytest.mark.parametrize("count", [1, 7, 50, 155, 157, 1000])
def test_any_other_number_is_in_proportion_to_within_one(count: int) -> None:
    """A set of another size keeps the shares of each cause, hotfixes, and people."""
    found = Counter(p.share.cause for p in places(Draw("test"), count))
    assert sum(found.values()) == count
    assert all(abs(found[s.cause] - s.of * count / 156) < 1 for s in SHARES)
    assert sum(p.hotfix for p in places(Draw("test"), count)) == round(count * 44 / 156)
    assert sum(p.people for p in places(Draw("test"), count)) == round(count * 41 / 156)


def test_none_is_no_corpus() -> None:
    """Asking for nought is a mistake that is told."""
    with pytest.raises(ValueError, match="at least one"):
        places(Draw("test"), 0)


def test_largest_remainders_get_what_is_left() -> None:
    """Small cases that can be worked out by hand."""
    assert apportion({"a": 1, "b": 1, "c": 2}, 5) == {"a": 1, "b": 1, "c": 3}
    assert apportion({"a": 47, "b": 16, "c": 37}, 10) == {"a": 5, "b": 1, "c": 4}


def test_nobody_gets_more_than_there_is_room_for() -> None:
    """What does not fit goes to the others; too little room in all is an error."""
    assert apportion({"a": 9, "b": 1}, 4, {"a": 2, "b": 3}) == {"a": 2, "b": 2}
    with pytest.raises(ValueError, match="room for 3"):
        apportion({"a": 9, "b": 1}, 4, {"a": 2, "b": 1})


@pytest.mark.parametrize("seed", range(5))
def test_two_labellers_agree_as_well_as_the_papers_did(seed: int) -> None:
    """For any seed, a kappa of 0.89 between the truth and the second label."""
    whole = places(Draw(seed), 156)
    truths = [p.share.failure_class for p in whole]
    found = kappa(list(zip(truths, second_labels(Draw(seed, "labels"), truths), strict=True)))
    assert found.value == pytest.approx(0.89, abs=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_as_many_sites_answer_500_and_408_as_the_paper_saw(seed: int) -> None:
    """For any seed, 16 answer 408, and half of these answer 500 as well."""
    whole = places(Draw(seed), 156)
    given = statuses(Draw(seed, "statuses"), whole)
    assert sum(s.timed_out == 408 for s in given) == 16
    assert sum(s.both for s in given if s.timed_out == 408) == 8


def test_durations_are_those_of_the_published_distribution_and_hotfixes_take_longer() -> None:
    """The median and the ninth decile of a thousand draws, and the means of the two kinds."""
    whole = places(Draw(1), 1000)
    minutes = closings(Draw(1, "minutes"), whole)
    ordered = sorted(minutes)
    assert 60 < ordered[500] < 84  # exp(4.26) is 71, the published median 72
    assert 320 < ordered[900] < 530  # exp(4.26 + 1.2816 * 1.39) is 420: the fitted curve is heavier than the data (337)
    mean = {fixed: sum(m for m, p in zip(minutes, whole, strict=True) if p.hotfix is fixed) / sum(p.hotfix is fixed for p in whole)
            for fixed in (True, False)}  # fmt: skip
    assert mean[True] > 1.5 * mean[False]
