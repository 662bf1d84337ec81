"""A closed case as an incident file: it passes the check, and says what of it is a guess."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbooks.change import Receipt
from runbooks.detection import Detection, Target
from runbooks.incident import Incident
from runbooks.incident_check import check_incident
from runbooks.incident_read import read_incident
from runbooks.library import load_library, load_policy
from runbooks.people import Attested
from runbooks.record import CaseRecord
from tests.worker.observed import FLEET, NOON, record, target
from worker.incidents_export import NotExportable, as_yaml, exported

LIBRARY, POLICY = load_library(), load_policy()
CLASSES = [c.id for c in LIBRARY.taxonomy.classes]
Edit = Callable[[CaseRecord], CaseRecord]


def firing(about: Target, **more: Any) -> Detection:
    """Seen a minute after it began, and heard two seconds later."""
    made = {
        "alert": "EngineHang", "target": about, "severity": "critical", "evidence": {"generations_failed": 3},
        "started_at": NOON - timedelta(minutes=1), "observed_at": NOON, "received_at": NOON + timedelta(seconds=2),
    }  # fmt: skip
    return Detection.model_validate(made | more)


def closed(about: Target, failure_class: str = "engine.hang", **more: Any) -> CaseRecord:
    """A case of this class that isolated, was approved by jane@example.org, and was restored."""
    made = record(3, failure_class=failure_class, outcome="restored", mitigated_at=NOON + timedelta(minutes=2))
    step = made.steps[0]
    receipt = Receipt(
        id="r", permit_id="p", case=made.case, case_workflow_id=made.workflow_id, step_id=step.step_id, lever=step.lever,
        target_id=about.id, domain=about.cluster, epoch=1, before={}, after={}, acted_at=NOON,
    )  # fmt: skip
    resolved = firing(about, status="resolved", observed_at=NOON + timedelta(minutes=5))
    said = Attested(
        event_id=9, action="decide", who="jane@example.org", verified=True, accepted=True, approve=True, reason="go",
        at=NOON + timedelta(minutes=1),
    )  # fmt: skip
    fields = {
        "target": about, "detections": [firing(about), resolved], "decisions": [said],
        "steps": [step.model_copy(update={"receipts": [receipt]})],
    }  # fmt: skip
    return made.model_copy(update=fields | more)


def read_back(incident: Incident, folder: Path) -> Incident:
    """As it is on disk."""
    path = folder / "case.yaml"
    path.write_text(as_yaml(incident), encoding="utf-8")
    return read_incident(path)[1]


def test_a_restored_case_becomes_a_file_that_passes_the_check_and_reads_back_as_it_was(tmp_path: Path) -> None:
    """It keeps the class and the lever that helped, and nothing is lost in the YAML."""
    made = exported(closed(target(3)), FLEET)

    assert read_back(made, tmp_path) == made
    assert [f.text for f in check_incident(made, LIBRARY, POLICY)] == []
    assert (made.kind, made.truth.failure_class, made.expect.required) == ("case", "engine.hang", ("isolate_endpoint",))


def test_the_sick_replica_becomes_the_first_since_a_fault_takes_the_first() -> None:
    """The alert and the fault must be about the same replica in the file."""
    about = target(3)
    made = exported(closed(about), FLEET)

    assert made.timeline.alerts[0].target == f"{about.cluster}/service/{about.service}/endpoint/{about.service}-0:8000"
    assert made.timeline.faults[0].model_dump()["replicas"] == 1


def test_times_are_those_of_the_case() -> None:
    """The fault begins a minute before the case, and both end when the case was proven better."""
    made = exported(closed(target(3)), FLEET)
    alert, fault = made.timeline.alerts[0], made.timeline.faults[0]

    assert made.moment(alert.at) == NOON + timedelta(seconds=2)
    assert made.moment(fault.at) == NOON - timedelta(minutes=1)
    assert fault.ends is not None
    assert made.moment(fault.ends) == NOON + timedelta(minutes=5)
    assert made.moment(alert.resolves) == NOON + timedelta(minutes=5)


def test_an_alert_of_which_only_its_end_is_kept_fires_when_the_case_heard_it() -> None:
    """A case keeps the last word of each fingerprint."""
    case = closed(target(3))
    resolved = firing(target(3), status="resolved", observed_at=NOON + timedelta(minutes=5), received_at=None)
    case = case.model_copy(update={"detections": [resolved]})
    by_opening = exported(case, FLEET)
    case.add(NOON + timedelta(seconds=30), "alert firing", "EngineHang by alertmanager, 2 times")
    by_timeline = exported(case, FLEET)

    assert [i.moment(i.timeline.alerts[0].at) - NOON for i in (by_opening, by_timeline)] == [
        timedelta(0),
        timedelta(seconds=30),
    ]
    assert by_timeline.moment(by_timeline.timeline.alerts[0].resolves) == NOON + timedelta(minutes=5)


def test_names_of_people_stay_out_and_what_they_decided_does_not() -> None:
    """A file may be shared; a name becomes a number."""
    made = exported(closed(target(3)), FLEET)

    assert "jane" not in as_yaml(made)
    assert [(p.who, p.says) for p in made.timeline.people] == [("person-1", "approve")]
    assert made.timeline.answers.decision == "approve"


def test_a_case_that_nobody_answered_has_nobody_answer() -> None:
    """Otherwise a replay would approve what was never approved."""
    assert exported(closed(target(3), decisions=[]), FLEET).timeline.answers.decision == "nobody"


@pytest.mark.parametrize("about", [t for n in (0, 7) for t in (target(n),)] + [Target(cluster=target(0).cluster)])
@pytest.mark.parametrize("failure_class", CLASSES)
def test_every_class_exports_to_a_file_without_a_mistake(failure_class: str, about: Target, tmp_path: Path) -> None:
    """About a replica, a service, or a whole cluster; what the case does not tell is marked as a guess."""
    made = exported(closed(about, failure_class, outcome="paged", steps=[]), FLEET)

    assert [f.text for f in check_incident(read_back(made, tmp_path), LIBRARY, POLICY) if f.severity == "error"] == []
    assert "guess" in made.inferred


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda r: r.model_copy(update={"detections": []}), "nothing to play"),
        (lambda r: r.model_copy(update={"classification": None}), "nothing to play"),
        (lambda r: r.model_copy(update={"outcome": None}), "nothing to play"),
        (lambda r: r.model_copy(update={"target": Target(cluster="elsewhere")}), "elsewhere is not in the fleet file"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_reason(edit: Edit, why: str) -> None:
    """No detection, no class, no outcome, or a target that the fleet does not have."""
    with pytest.raises(NotExportable, match=why):
        exported(edit(closed(target(3))), FLEET)


def test_the_file_is_plain_yaml_that_leaves_defaults_out() -> None:
    """People are to read and edit it."""
    data = yaml.safe_load(as_yaml(exported(closed(target(3)), FLEET)))

    assert "seed" not in data
    assert data["kind"] == "case"
