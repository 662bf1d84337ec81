"""Incidents over processes, and what the command line makes of them."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

from runbooks.library import load_policy
from tests.replay.given import incident
from worker.replay_one import Options
from worker.replay_pool import replay_all
from worker.replay_result import Row

SHORT = {"lasts": "12m", "truth": {"mitigated": "10:11", "detected": "10:10"}}
KEYS = {
    "incident", "truth_class", "class", "levers", "refused", "outcome", "ttm_s", "human_ttm_s", "harm",
    "expectations_failed", "real_s",
}  # fmt: skip


def test_rows_come_in_the_order_of_the_files_and_a_process_that_dies_takes_one_incident_with_it(
    tmp_path: Path,
) -> None:
    """The longest is played first, and the one that was killed has a row that says so."""
    names = ["one", "two", "three"]
    given = [incident(tmp_path, incident=n, lasts=f"{12 + i}m", truth=SHORT["truth"]) for i, n in enumerate(names)]
    told: list[str] = []

    def hear(row: Row) -> None:
        told.append(row.incident)
        if len(told) == 1:
            for child in multiprocessing.active_children():
                child.kill()
                child.join()

    rows = replay_all(given, Options(load_policy(None)), 1, hear)

    assert [r.incident for r in rows] == names
    assert told == ["three", "two", "one"]  # the longest first
    assert [len(r.expectations_failed) for r in rows] == [0, 1, 0]
    assert "the process that played it ended with status -9" in rows[1].expectations_failed[0]


def _interlock(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "worker", *words], capture_output=True, text=True, timeout=120)


def test_the_command_prints_rows_writes_a_page_and_fails_when_an_expectation_does(tmp_path: Path) -> None:
    """The exit status is for CI, the keys of a row are for programs, and the page is for people."""
    incident(tmp_path, incident="good", **SHORT)
    incident(tmp_path, incident="bad", **SHORT, expect={"outcome": ["aborted"]})
    page = tmp_path / "page.html"

    done = _interlock("replay", str(tmp_path), "--json", "--html", str(page), "--jobs", "1")

    assert done.returncode == 1, done.stderr
    bad, good = json.loads(done.stdout)
    assert good.keys() >= KEYS
    assert good["harm"].keys() == {"failed_requests", "below_minimum_s", "violations"}
    assert good["expectations_failed"] == []
    assert bad["expectations_failed"] == ["outcome: restored, expected aborted"]
    assert 'id="good"' in page.read_text()


def test_a_file_that_cannot_be_read_is_one_sentence_before_anything_is_played(tmp_path: Path) -> None:
    """It names the file and shows no traceback."""
    (tmp_path / "wrong.yaml").write_text("incident: x\n")

    done = _interlock("replay", str(tmp_path))

    assert done.returncode == 1
    assert "wrong.yaml" in done.stderr
    assert "Traceback" not in done.stderr
