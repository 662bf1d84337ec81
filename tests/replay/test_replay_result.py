"""Which expectation fails, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.replay.given import incident
from worker.replay_result import Harm, Refused, Run, failed_expectations

NONE = Harm(failed_requests=0.0, below_minimum_s=0.0)
TARGET = "east/service/chat-east/endpoint/chat-east-0:8000"
GOOD = Run("engine.hang", (("isolate_endpoint", TARGET),), (), "restored", False, 100.0, NONE, 1000.0, 1)


def failed(folder: Path, expect: dict[str, Any], **changed: Any) -> list[str]:
    """What a run that is good but for `changed` fails."""
    return list(failed_expectations(incident(folder, expect=expect), GOOD._replace(**changed)))


def test_a_run_that_does_what_is_expected_fails_nothing(tmp_path: Path) -> None:
    """The good run that the other tests of this file spoil in one place each."""
    assert failed(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("expect", "changed", "words"),
    [
        ({}, {"failure_class": "engine.crash"}, "class: engine.crash, expected engine.hang"),
        ({}, {"failure_class": None}, "class: none, expected engine.hang"),
        (
            {},
            {"done": (("isolate_endpoint", TARGET), ("restart_engine", TARGET))},
            "levers: restart_engine was done and is not allowed",
        ),
        ({}, {"done": ()}, "levers: isolate_endpoint was not done"),
        ({}, {"outcome": "aborted"}, "outcome: aborted, expected restored or fixed or paged"),
        ({}, {"outcome": None}, "outcome: no case, expected restored or fixed or paged"),
        ({"paged": True}, {}, "paged: nobody was told"),
        ({"paged": False}, {"paged": True}, "paged: people were told"),
        ({"mitigated_within": "1m"}, {}, "mitigated_within: mitigated after 100 s, expected within 60 s"),
        (
            {"mitigated_within": "1m"},
            {"mitigated_s": None},
            "mitigated_within: mitigated never, expected within 60 s",
        ),
        ({"most_cases_that_act": 1}, {"cases_that_acted": 2}, "most_cases_that_act: 2 cases acted, expected 1 at most"),
    ],
)
def test_each_expectation_that_fails_is_one_sentence(
    tmp_path: Path, expect: dict[str, Any], changed: dict[str, Any], words: str
) -> None:
    """It says what was found and what was expected, and nothing else fails along with it."""
    assert failed(tmp_path, expect, **changed) == [words]


def test_a_mitigation_in_no_time_is_within_any(tmp_path: Path) -> None:
    """Nought seconds is a time, and must not be read as never."""
    assert failed(tmp_path, {"mitigated_within": "1m"}, mitigated_s=0.0) == []


def test_a_lever_that_must_be_refused_must_be_refused_by_that_gate_in_those_words_and_not_done(tmp_path: Path) -> None:
    """Another gate, reason, target, or lever is not the refusal that the file wants."""
    wanted = {"refused": [{"lever": "restart_engine", "gate": "G5", "saying": "minimum", "target": TARGET}]}
    right = Refused("restart_engine", "G5", "the minimum is 3", TARGET)

    assert failed(tmp_path, wanted, refused=(right,)) == []
    missing = f"refused: restart_engine was not refused by G5 saying 'minimum' on {TARGET}"
    for wrong in (
        right._replace(gate="G2"),
        right._replace(why="other words"),
        right._replace(target="east"),
        right._replace(lever="shed_load"),
    ):
        assert failed(tmp_path, wanted, refused=(wrong,)) == [missing]
    done = (("isolate_endpoint", TARGET), ("restart_engine", TARGET))
    assert failed(tmp_path, wanted, refused=(right,), done=done) == [f"refused: restart_engine was done on {TARGET}"]


def test_a_refusal_that_need_only_happen_once_does_not_forbid_the_lever(tmp_path: Path) -> None:
    """A gate may refuse at first and allow later, but it must have refused."""
    wanted = {"refused": [{"lever": "isolate_endpoint", "gate": "G3", "ever": True}]}

    assert failed(tmp_path, wanted, refused=(Refused("isolate_endpoint", "G3", "no room", TARGET),)) == []
    assert failed(tmp_path, wanted) == ["refused: isolate_endpoint was not refused by G3"]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (Harm(failed_requests=24.0, below_minimum_s=0.0), []),
        (
            Harm(failed_requests=26.0, below_minimum_s=0.0),
            ["harm: 26 more requests failed than doing nothing would have cost"],
        ),
        (
            Harm(failed_requests=0.0, below_minimum_s=61.0),
            ["harm: pools were below their minimum for 61 s more than doing nothing would have cost"],
        ),
        (
            Harm(failed_requests=-9.0, below_minimum_s=0.0, violations=("eu served by us",)),
            ["harm: eu served by us"],
        ),
    ],
)
def test_harm_is_what_doing_nothing_would_not_have_cost(tmp_path: Path, harm: Harm, words: list[str]) -> None:
    """A little is noise, more is a failed expectation, unless the file says that harm is expected."""
    assert failed(tmp_path, {}, harm=harm) == words
    assert failed(tmp_path, {"harm": True}, harm=harm) == []


def test_the_class_of_a_synthetic_incident_is_a_label_and_no_expectation(tmp_path: Path) -> None:
    """The classifier is measured on these by its agreement, so a wrong class fails no run."""
    synthetic = incident(tmp_path, kind="synthetic")

    assert list(failed_expectations(synthetic, GOOD._replace(failure_class="engine.crash"))) == []
