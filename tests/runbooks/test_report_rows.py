"""A row tells what the record tells, and no more: real records of committed histories, and cases that are told to the end."""

from __future__ import annotations

import random

import pytest

from runbooks.did import Did
from runbooks.report_case import counts, row_of_case
from runbooks.report_rows import PEOPLE, Row
from tests.runbooks.report_lab import GROUPS, closed
from tests.worker import report_cases as tales


def real(scenario: str, *words: Did) -> Row:
    return row_of_case(closed(scenario), words, GROUPS)


@pytest.mark.parametrize(
    ("scenario", "by", "answers", "levers"),
    [
        ("engine-hang-restored", "alone", [], ["isolate_endpoint"]),
        ("engine-crash-approved-restored", "approved", ["approved"], ["reroute_traffic"]),
        ("takeover-hand-back", "approved", ["approved"], ["isolate_endpoint"]),
        ("engine-crash-rejected", "people", ["rejected"], []),
        ("approval-expired", "people", ["expired"], []),
        ("aborted", "people", ["approved"], ["isolate_endpoint"]),
        ("self-resolved", "itself", ["void"], []),
        ("observed", "people", [], []),
        ("unknown-paged", "people", [], []),
        ("cancelled", "people", [], ["isolate_endpoint"]),
    ],
)
def test_a_real_case_is_read_as_it_went(scenario: str, by: str, answers: list[str], levers: list[str]) -> None:
    """Who ended it, how each request was answered, what was done."""
    row = real(scenario)

    assert row.by == by
    assert [a.answer for a in row.asked] == answers
    assert [d.lever for d in row.done] == levers
    assert row.automatic is True


def test_what_was_no_incident_of_its_own_is_not_counted() -> None:
    """Input that could not be read."""
    assert not counts(closed("refused-input"))
    assert counts(closed("unknown-paged"))


def test_a_request_knows_its_lever_its_gate_and_how_long_people_took() -> None:
    """Asked at .01, approved at .12; one approval covers both increments."""
    (asked,) = real("engine-crash-approved-restored").asked

    assert (asked.lever, asked.gates, asked.acted, asked.helped) == ("reroute_traffic", ("G7",), True, True)
    assert asked.waited_s == pytest.approx(0.116, abs=0.001)
    assert real("engine-crash-approved-restored").people_s == asked.waited_s


def test_time_that_a_person_held_the_case_is_peoples_time() -> None:
    """Decided for 0.09 s, and held it from the takeover to the hand-back for 0.08 s."""
    row = real("takeover-hand-back")

    assert row.people_s == pytest.approx(0.172, abs=0.001)
    assert row.people_s is not None
    assert row.people_s > (row.asked[0].waited_s or 0.0)


@pytest.mark.parametrize("scenario", ["unknown-paged", "engine-crash-rejected", "cancelled", "observed", "aborted"])
def test_how_long_people_worked_is_unknown_where_nobody_saw_the_end(scenario: str) -> None:
    """Its alert fired when the case closed: no zero, and no waiting time that would look like the whole."""
    assert real(scenario).people_s is None
    assert real(scenario).people_ttm_s is None


def test_nobody_was_needed_is_a_zero_and_known() -> None:
    """An unknown would drop the best cases from the table of people's time."""
    assert real("engine-hang-restored").people_s == 0.0


@pytest.mark.parametrize(
    ("scenario", "gates"),
    [
        ("held-then-paged", {"G1", "G16"}),
        ("attempts-used-up", {"G10"}),
        ("engine-crash-rejected", {"people"}),
        ("engine-hang-restored", set()),
    ],
)
def test_each_refusal_is_there_once_with_its_gate(scenario: str, gates: set[str]) -> None:
    """A check that is repeated for a minute is one refusal; what was allowed in the end is none."""
    found = real(scenario).refused

    assert {r.gate for r in found} == gates
    assert len(found) == len(gates)
    assert all(r.why and r.later is False for r in found)


def test_what_the_gates_refused_is_missing_because_of_them() -> None:
    """The report must tell a lever that was refused from one that does not exist."""
    (one,) = real("attempts-used-up").missing

    assert (one.lever, one.why, one.gates) == ("isolate_endpoint", "refused", ("G10",))


def test_peoples_word_says_what_ended_it() -> None:
    """A hotfix by people; what is no lever of Interlock; and a lever that no gate was asked about."""
    fixed = real("unknown-paged", Did(case="c", lever="rollout_hotfix", who="ana"))
    other = real("unknown-paged", Did(case="c", lever="other", who="ana"))

    assert (fixed.hotfix, fixed.people_levers) == (True, ("rollout_hotfix",))
    assert (other.hotfix, other.people_levers) == (False, (PEOPLE,))
    assert (real("unknown-paged").hotfix, real("engine-hang-restored").hotfix) == (None, False)
    assert [m.why for m in fixed.missing] == ["no_step"]


def dice() -> random.Random:
    return random.Random(3)


def test_a_false_alarm_is_one_that_was_looked_for_and_not_found() -> None:
    """Seen once, it was none; where nobody could look, nobody knows."""
    known = row_of_case(tales.false_alarm(1, dice(), tales.FIRST), [], GROUPS)
    blind = row_of_case(
        tales.refused(2, dice(), tales.FIRST, "engine.latency_spike", tales.SERVICE, tales.blind), [], GROUPS
    )

    assert (known.false_alarm, known.by) == (True, "itself")
    assert blind.false_alarm is None
    assert real("engine-hang-restored").false_alarm is False


def test_what_people_mended_after_they_were_told_is_their_time() -> None:
    """From the page to the resolved alert."""
    record = tales.refused(1, dice(), tales.FIRST, "engine.exhaustion", tales.SERVICE, tales.busy)
    told = next(e.at for e in record.timeline if e.what == "people told")
    over = next(e.at for e in record.timeline if e.what == "alert resolved")
    row = row_of_case(record, [], GROUPS)

    assert row.people_s == (over - told).total_seconds()
    assert row.people_ttm_s == (over - tales.FIRST).total_seconds()
    assert row.mitigated_after_s is None


def test_an_act_that_people_approved_and_that_was_taken_back_did_not_help() -> None:
    """It was done, so it counts, but the mitigation is people's."""
    record = tales.approved(1, dice(), tales.FIRST, "engine.timeout", tales.SERVICE, better=False)
    row = row_of_case(record, [], GROUPS)

    assert [(a.acted, a.helped) for a in row.asked] == [(True, False)]
    assert [d.taken_back for d in row.done] == [True]
    assert row.by == "people"


def test_who_spoke_first_tells_whether_it_was_found_automatically() -> None:
    """A person reported it, and a detector followed: the timeline's first row decides. Without it nobody knows."""
    record = tales.nobody_knows(1, dice(), tales.FIRST)
    (by_hand,) = record.detections
    machine = by_hand.model_copy(update={"alert": "Late", "detector": "lab", "automatic": True})
    both = record.model_copy(update={"detections": [by_hand, machine]})

    assert row_of_case(record, [], GROUPS).automatic is False
    assert row_of_case(both, [], GROUPS).automatic is False
    assert row_of_case(both.model_copy(update={"timeline": []}), [], GROUPS).automatic is None
