"""The generator: always the same, valid, with the paper's numbers in the files themselves, and blind to the classifier."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from runbooks.incident import Incident
from runbooks.incident_check import check_incident
from runbooks.incident_read import read_incident
from runbooks.library import load_library, load_policy
from runbooks.loader import CatalogError
from worker.agreement import kappa
from worker.synthetic import Made, generate
from worker.synthetic_baking import MOST, WINDOW_S
from worker.synthetic_spec import as_yaml, expand, is_synthetic_set, write

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "tests" / "incidents" / "synthetic" / "paper-156.yaml"


@pytest.fixture(scope="module")
def corpus() -> list[Made]:
    return generate(156)


@pytest.fixture(scope="module")
def incidents(corpus: list[Made]) -> list[Incident]:
    return [made.incident for made in corpus]


def test_the_files_have_the_papers_shares(incidents: list[Incident]) -> None:
    """Counted in the finished files, not in the table that they are drawn from."""
    classes = Counter(i.truth.failure_class for i in incidents)
    assert len(incidents) == 156
    assert [classes[f"engine.{c}"] for c in ("timeout", "exhaustion", "crash", "latency_spike")] == [37, 27, 11, 6]
    assert Counter(i.truth.group for i in incidents) == {"engine": 94, "infra": 31, "config": 25, "ops": 6}
    assert sum(i.truth.found == "automatic" for i in incidents) == 115
    assert sum(i.truth.hotfix for i in incidents) == 44


def test_http_500_and_408_appear_as_often_as_symptoms_allow(corpus: list[Made]) -> None:
    """Statuses follow from what is played, so that they only come near the paper's shares."""
    seen = Counter(status for made in corpus for status in made.statuses)
    assert 0.70 <= seen[500] / 156 <= 0.76  # the paper: about 74 %
    assert 0.09 <= seen[408] / 156 <= 0.11  # about 10 %


def test_every_file_names_its_sources_with_marks_and_says_what_is_invented(incidents: list[Incident]) -> None:
    """A reader must be able to tell the paper's facts from ours."""
    for incident in incidents:
        assert [s.mark for s in incident.sources] == ["R", "S", "D", "I"]
        assert "2511.07424" in incident.sources[0].name
        assert incident.inferred


def test_what_is_found_automatically_begins_with_an_alert_and_the_rest_with_a_person(incidents: list[Incident]) -> None:
    """A person's report has words where an alert has numbers."""
    for incident in incidents:
        first = min(incident.timeline.alerts, key=lambda a: incident.seconds(a.at))
        assert first.automatic is (incident.truth.found == "automatic"), incident.incident
        assert first.automatic or first.evidence["words"]


def test_no_alert_comes_before_its_fault_or_after_the_window(incidents: list[Incident]) -> None:
    """A false alarm may come up to 90 s before the fault, and their number is bounded."""
    for incident in incidents:
        times = [incident.seconds(a.at) for a in incident.timeline.alerts]
        assert min(times) >= 120 - 90
        assert max(times) - min(times) <= WINDOW_S + 600
        assert len(times) <= MOST + 2  # and a false alarm


def test_the_truth_is_in_order(incidents: list[Incident]) -> None:
    """Detected, mitigated, ended, and the detection within what is played."""
    for incident in incidents:
        truth = incident.truth
        assert truth.detected is not None
        assert truth.mitigated is not None
        assert truth.ended is not None
        assert incident.seconds(truth.detected) < incident.seconds(truth.mitigated) < incident.seconds(truth.ended)
        assert incident.seconds(truth.detected) < incident.lasts


def test_two_labellers_agree_as_the_papers_did(incidents: list[Incident]) -> None:
    """The paper's kappa is 0.89, here of the labels in the finished files."""
    pairs = [(i.truth.failure_class, i.truth.second_label or "") for i in incidents]
    assert kappa(pairs).value == pytest.approx(0.89, abs=0.005)


def test_each_plays_within_ninety_minutes(incidents: list[Incident]) -> None:
    """Small enough a fleet and short enough a time that the whole set can be replayed."""
    assert all(20 * 60 <= i.lasts <= 90 * 60 for i in incidents)
    assert all(1 <= len(i.fleet.clusters) <= 4 and 2 <= len(i.fleet.pools) <= 8 for i in incidents)


def test_names_are_unique(incidents: list[Incident]) -> None:
    """Rows of a replay are joined with the files by name."""
    assert len({i.incident for i in incidents}) == 156


def test_what_is_wrong_with_any_other_lever_is_said(incidents: list[Incident]) -> None:
    """Each file expects its class, no harm, and has levers that are allowed, except where none helps."""
    for incident in incidents:
        assert incident.expect.classes == (incident.truth.failure_class,)
        assert incident.expect.harm is False
        assert incident.expect.allowed or incident.truth.failure_class == "ops.detection_gap"


def test_every_file_is_read_again_as_it_was_and_has_no_error(incidents: list[Incident], tmp_path: Path) -> None:
    """Nothing is lost in the YAML, and the author's check finds nothing wrong."""
    library, policy = load_library(), load_policy()
    for incident in incidents:
        path = tmp_path / f"{incident.incident}.yaml"
        path.write_text(as_yaml(incident), encoding="utf-8")
        _, again = read_incident(path)
        assert again == incident
        wrong = [f for f in check_incident(again, library, policy) if f.severity == "error"]
        # A bad change counts where the paper counts it, as configuration or infrastructure, whatever our taxonomy says.
        assert [
            f for f in wrong if f.field != ("truth", "group") or again.truth.failure_class != "ops.bad_change"
        ] == []


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    """Not even the order of a set may leak in, so two hash seeds are tried."""
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "worker", "incident", "generate", "--seed=9", "--count=24", f"--out={tmp_path / hash_seed}"],
            check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True,
        )  # fmt: skip
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / h).iterdir()} for h in ("1", "2"))
    assert len(one) == 24
    assert one == two


def test_another_seed_gives_other_incidents(tmp_path: Path) -> None:
    """No body is the same, the line with the name apart."""
    bodies = [[as_yaml(m.incident) for m in generate(seed, 6)] for seed in (1, 2)]
    assert not {b.split("\n", 1)[1] for b in bodies[0]} & {b.split("\n", 1)[1] for b in bodies[1]}


def test_a_small_file_stands_for_many(tmp_path: Path) -> None:
    """Expanding the set in memory gives what the command writes to files."""
    path = tmp_path / "some.yaml"
    path.write_text("generate: {seed: 9, count: 5}\n")
    assert is_synthetic_set(path)
    assert [as_yaml(i) for i in expand(path)] == [p.read_text() for p in write(9, 5, tmp_path / "out")]


def test_the_committed_set_is_the_papers_156() -> None:
    """Published figures refer to this seed and this number."""
    assert is_synthetic_set(PAPER)
    assert "{seed: 156, count: 156}" in PAPER.read_text()


def test_a_wrong_set_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    """A misspelt key is named with its line; an ordinary incident is no set at all."""
    path = tmp_path / "wrong.yaml"
    path.write_text("generate: {seed: 9, cuont: 5}\n")
    with pytest.raises(CatalogError, match=r"wrong\.yaml:1.*cuont"):
        expand(path)
    path.write_text("incident: other\n")
    assert not is_synthetic_set(path)


def test_the_generator_shares_nothing_with_the_classifier() -> None:
    """Incidents that are made from the rules would prove the rules right."""
    forbidden = {"runbooks.taxonomy", "runbooks.library", "runbooks.planning", "activities.triage"}
    for path in (ROOT / "worker").glob("synthetic*.py"):
        tree = ast.parse(path.read_text())
        names = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not names & forbidden, path.name
        assert "taxonomy.yaml" not in path.read_text()


def test_nothing_of_the_truth_is_in_what_reaches_the_engine(incidents: list[Incident]) -> None:
    """No alert holds the class or the name, so that the classifier cannot read the answer."""
    for incident in incidents:
        told = json.dumps([a.model_dump(mode="json") for a in incident.timeline.alerts])
        assert incident.truth.failure_class not in told
        assert incident.incident not in told
