"""Kappa against examples that others published, and against statsmodels 0.14 (the intervals)."""

from __future__ import annotations

import pytest

from worker.agreement import accuracy, confusion, kappa, per_class


def pairs_of(table: list[list[int]]) -> list[tuple[str, str]]:
    names = "abc"
    return [(names[i], names[j]) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)]


PSYCHIATRISTS = pairs_of([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
"""Fleiss, Statistical Methods for Rates and Proportions (2nd ed. 1981), table 13.1."""
GRANTS = pairs_of([[20, 5], [10, 15]])
"""Wikipedia, Cohen's kappa: two readers of fifty grant proposals."""


def test_two_psychiatrists_agree_as_fleiss_printed_it() -> None:
    """A published table with its kappa and interval, so that our formula is not checked against itself."""
    found = kappa(PSYCHIATRISTS)
    assert found.observed == pytest.approx(0.89)
    assert found.expected == pytest.approx(0.66)
    assert found.value == pytest.approx(0.676, abs=0.001)
    assert (found.low, found.high) == (pytest.approx(0.50458, abs=1e-5), pytest.approx(0.84837, abs=1e-5))


def test_two_readers_of_grant_proposals_agree_as_printed() -> None:
    """The second published table: 35 of 50 alike give a kappa of 0.4."""
    found = kappa(GRANTS)
    assert (found.observed, found.expected, found.value) == (0.7, pytest.approx(0.5), pytest.approx(0.4))
    assert (found.low, found.high) == (pytest.approx(0.15109, abs=1e-5), pytest.approx(0.64891, abs=1e-5))


def test_equal_labels_agree_wholly_and_the_interval_has_no_width() -> None:
    """The upper end of the scale, where a rounding error could exceed one."""
    found = kappa([("a", "a"), ("b", "b"), ("b", "b")])
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_labels_no_better_than_chance_have_a_kappa_of_nought() -> None:
    """Half of the labels are alike, and chance alone gives as many."""
    assert kappa(pairs_of([[25, 25], [25, 25]])).value == pytest.approx(0.0)


def test_opposite_labels_are_worse_than_chance() -> None:
    """The lower end of the scale: a kappa can be negative."""
    assert kappa(pairs_of([[0, 5], [5, 0]])).value == pytest.approx(-1.0)


def test_one_label_for_everything_has_no_kappa_and_says_so() -> None:
    """Chance would agree as well, and nought divided by nought is no number."""
    found = kappa([("a", "a"), ("a", "a")])
    assert (found.observed, found.value, found.low, found.high) == (1.0, None, None, None)


def test_kappa_is_the_same_whoever_is_first() -> None:
    """Neither labeller is the standard; the interval does not depend on the order either."""
    assert kappa(PSYCHIATRISTS).value == pytest.approx(kappa([(b, a) for a, b in PSYCHIATRISTS]).value)
    assert kappa(PSYCHIATRISTS).low == pytest.approx(kappa([(b, a) for a, b in PSYCHIATRISTS]).low)


def test_nothing_to_compare_is_an_error_and_no_number() -> None:
    """An empty set must not read as perfect or as no agreement."""
    with pytest.raises(ValueError, match="no labelled incident"):
        kappa([])
    with pytest.raises(ValueError, match="no labelled incident"):
        accuracy([])


def test_precision_and_recall_by_class() -> None:
    """A class that was true and never found, or found and never true, divides by nothing."""
    by_name = {c.name: c for c in per_class([*GRANTS, ("a", "never true")])}
    assert (by_name["a"].truths, by_name["a"].found, by_name["a"].right) == (26, 30, 20)
    assert by_name["a"].precision == pytest.approx(20 / 30)
    assert by_name["a"].recall == pytest.approx(20 / 26)
    assert (by_name["never true"].recall, by_name["never true"].precision) == (None, 0.0)


def test_the_confusion_starts_with_what_is_most_frequent() -> None:
    """The order in which the report prints it."""
    assert list(confusion(GRANTS).items()) == [(("a", "a"), 20), (("b", "b"), 15), (("b", "a"), 10), (("a", "b"), 5)]
