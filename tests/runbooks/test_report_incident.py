"""An incident file and its replay as a row: what only one of the two can tell is not known without it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from runbooks.report_incident import Replayed, row_of_incident
from runbooks.report_rows import PEOPLE, Row
from tests.runbooks.report_lab import GROUPS, incident, replayed


def row(of: Any = None, by: dict[str, Any] | None = None) -> Row:
    return row_of_incident(of, Replayed.model_validate(by) if by is not None else None, GROUPS)


def test_a_file_tells_what_people_knew_and_nothing_of_interlock() -> None:
    """Seen two minutes after the fault, over half an hour later by people's hands."""
    one = row(incident())

    assert (one.truth, one.label, one.group, one.found_class) == ("engine.hang", "engine.hang", "engine", None)
    assert (one.detected_after_s, one.people_ttm_s, one.people_s) == (120.0, 1920.0, 1800.0)
    assert (one.mitigated_after_s, one.outcome, one.hotfix, one.automatic) == (None, None, False, True)
    assert one.people_levers == ("restart_engine",)


def test_working_time_that_the_file_gives_goes_before_the_clock() -> None:
    """People do not work for all the time between detection and mitigation."""
    assert row(incident(truth={"people_minutes": 12})).people_s == 720.0


@pytest.mark.parametrize("missing", ["detected", "mitigated"])
def test_a_time_that_nobody_published_is_not_known(missing: str) -> None:
    """It is no nought, and what is computed from it is not known either."""
    one = row(incident(truth={missing: None}))

    assert one.people_s is None
    assert (one.detected_after_s is None) == (missing == "detected")
    assert (one.people_ttm_s is None) == (missing == "mitigated")


def test_a_replay_tells_what_interlock_did_and_nothing_of_what_only_the_file_knows() -> None:
    """Without the file its labels stay unknown; they are not taken as false."""
    one = row(None, replayed())

    assert (one.mitigated_after_s, one.people_ttm_s, one.by) == (94.0, 1920.0, "interlock")
    assert (one.automatic, one.hotfix, one.false_alarm, one.second) == (None, None, None, None)
    assert one.group == "engine"


def test_both_together_are_one_row() -> None:
    """The second label, what people did and what Interlock did."""
    refused = [{"lever": "restart_engine", "gate": "G6", "why": "a named person"}] * 2
    one = row(incident(truth={"second_label": "engine.timeout"}), replayed(refused=refused))

    assert (one.second, one.people_levers, [d.lever for d in one.done]) == (
        "engine.timeout",
        ("restart_engine",),
        ["isolate_endpoint"],
    )
    assert [(r.lever, r.gate, r.later) for r in one.refused] == [("restart_engine", "G6", False)]


def test_what_people_did_and_the_replay_refused_is_missing_by_its_gate() -> None:
    """And what is no lever of Interlock is said so."""
    refused = [{"lever": "restart_engine", "gate": "G6", "why": "a named person"}]
    paged = replayed(levers=[], outcome="paged", ttm_s=None, refused=refused)

    assert [(m.lever, m.why, m.gates) for m in row(incident(), paged).missing] == [
        ("restart_engine", "refused", ("G6",))
    ]
    called = row(incident(truth={"levers": ["called the cloud"]}), paged)
    assert [(m.lever, m.why) for m in called.missing] == [(PEOPLE, "no_step")]


def test_an_alert_about_nothing_but_a_blind_detector_is_a_false_alarm() -> None:
    """Nothing failed for users; an incident with a real fault is none."""
    blind = incident().model_dump(mode="json")
    blind["timeline"]["faults"] = [{"fault": "blind", "at": "5m", "what": "metrics", "of": "chat-east", "stale": True}]

    assert row(type(incident()).model_validate(blind)).false_alarm is True
    assert row(incident()).false_alarm is False


@pytest.mark.parametrize(("approved", "by"), [(0, "alone"), (1, "approved")])
def test_a_replay_that_tells_of_people_tells_whether_it_needed_them(approved: int, by: str) -> None:
    """One approval makes the mitigation one that people approved."""
    people = {"asked": approved, "approved": approved, "rejected": 0, "expired": 0, "waited_s": 300.0 * approved}

    assert row(incident(), replayed(detail={"people": people, "bars": []})).by == by


@pytest.mark.parametrize("key", ["class", "harm", "ttm_s", "refused", "expectations_failed"])
def test_a_row_of_a_replay_without_one_of_its_keys_is_refused(key: str) -> None:
    """A missing key is not an empty one."""
    data = replayed()
    del data[key]
    with pytest.raises(ValidationError, match=key):
        Replayed.model_validate(data)
