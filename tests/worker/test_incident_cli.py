"""`interlock incident` and `interlock cases export` as people type them: sentences, exit statuses, and no traceback ever."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from activities.adapters.sql import SqlJournal
from runbooks.incident_read import read_incident
from runbooks.incident_schema import as_text
from runbooks.record import sealed
from tests.worker.observed import FLEET, target
from tests.worker.test_incident_export import closed
from worker.__main__ import run as entry
from worker.incidents_skeleton import SKELETON

PAST = Path(__file__).parents[1] / "incidents" / "past"


class Typed(NamedTuple):
    """What a command gave."""

    status: int
    out: str
    err: str


Run = Callable[..., Typed]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The entry point of `interlock`, in this process: a traceback would fail the test."""
    for name in [n for n in os.environ if n.startswith("INTERLOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("INTERLOCK_JOURNAL_URL", f"sqlite:///{tmp_path / 'journal.db'}")
    monkeypatch.setenv("COLUMNS", "200")

    def typed(*words: str | Path) -> Typed:
        monkeypatch.setattr(sys, "argv", ["interlock", *map(str, words)])
        status = entry()
        return Typed(status, *capsys.readouterr())

    return typed


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The skeleton as a file."""
    path = tmp_path / "mine.yaml"
    path.write_text(SKELETON, encoding="utf-8")
    return path


def test_what_new_prints_passes_the_check(run: Run, tmp_path: Path) -> None:
    """Even the strict one: an author starts from a file without findings."""
    path = tmp_path / "new.yaml"
    made = run("incident", "new", "--out", path)
    checked = run("incident", "check", path, "--strict")

    assert (made.status, made.out) == (0, f"{path}\n")
    assert checked == (0, "1 file(s), 0 error(s), 0 warning(s)\n", "")


def test_nothing_is_written_over_what_is_there(run: Run, mine: Path) -> None:
    """An author's work must not be lost to a second call."""
    done = run("incident", "new", "--out", mine)

    assert (done.status, done.out) == (1, "")
    assert done.err == f"{mine} is there already, and nothing was written over it: name another file\n"


def test_every_mistake_is_a_line_and_the_exit_status_is_1(run: Run, mine: Path) -> None:
    """The count goes to stdout and the lines to stderr, each with the file and its line."""
    mine.write_text(SKELETON.replace("fault: hang", "fault: hung").replace("kind: past", "kind: passed"), "utf-8")
    done = run("incident", "check", mine)

    assert (done.status, done.out) == (1, "1 file(s), 2 error(s), 0 warning(s)\n")
    assert [line.split(": ")[2] for line in done.err.splitlines()] == ["kind", "timeline.faults[0].fault"]
    assert all(line.startswith(f"error: {mine}:") for line in done.err.splitlines())


def test_a_warning_alone_is_no_failure_unless_it_is_asked_for(run: Run, mine: Path) -> None:
    """Only --strict fails on it; --quiet counts it without its text."""
    known = "evidence: {generations_failed: 4, generations_ok: 0, siblings_ok: 5, tokens_rising: false}"
    mine.write_text(SKELETON.replace("alert: EngineHang", "alert: EngineStuck").replace(known, "evidence: {}"), "utf-8")

    assert run("incident", "check", mine).status == 0
    assert run("incident", "check", mine, "--strict").status == 1
    assert run("incident", "check", mine, "--quiet").out == "1 file(s), 0 error(s), 1 warning(s)\n"
    assert "no rule of the taxonomy knows 'EngineStuck' or what it measured" in run("incident", "check", mine).out


def test_explain_says_what_the_rules_make_of_each_target_and_why_of_none(run: Run, mine: Path) -> None:
    """An author sees which rule decides, or what the evidence lacks for it."""
    known = run("incident", "check", mine, "--explain").out
    mine.write_text(SKELETON.replace("generations_failed: 4, ", ""), "utf-8")
    unknown = run("incident", "check", mine, "--explain").out

    assert ": engine.hang (by rule hang-real-generations), which asks for isolate_endpoint, page\n" in known
    assert (
        "unknown (EngineHang: rule hang-real-generations does not hold: needs generations_failed >= 3, not measured"
        in unknown
    )


def test_two_incidents_of_one_name_are_told(run: Run, mine: Path, tmp_path: Path) -> None:
    """Results are joined by name, so that two would be taken for one."""
    (tmp_path / "other.yaml").write_text(SKELETON, "utf-8")
    done = run("incident", "check", tmp_path)

    assert done.status == 1
    assert f"incident: {mine} has this name too; give each its own" in done.err


def test_what_is_not_there_is_said_so(run: Run, tmp_path: Path) -> None:
    """A missing file and an empty folder must not read as all well."""
    (tmp_path / "empty").mkdir()

    assert (
        run("incident", "check", tmp_path / "no.yaml").err == f"error: {tmp_path / 'no.yaml'}: there is no such file\n"
    )
    assert "there is no .yaml file in this folder" in run("incident", "check", tmp_path / "empty").err


def test_a_set_of_synthetic_incidents_is_passed_over(run: Run, mine: Path, tmp_path: Path) -> None:
    """It has another form, and its incidents are checked where they are made."""
    (tmp_path / "set.yaml").write_text("generate: {seed: 1}\n", "utf-8")

    assert run("incident", "check", tmp_path).out.startswith("1 file(s), 0 error(s)")


def test_a_file_that_is_no_yaml_is_one_sentence(run: Run, mine: Path) -> None:
    """The sentence says how to mend it, and the exit status is that of a mistake."""
    mine.write_text("title: one: two\n", "utf-8")
    done = run("incident", "check", mine)

    assert (done.status, done.out) == (1, "1 file(s), 1 error(s), 0 warning(s)\n")
    assert done.err.endswith("text that holds `: ` must be in quotes\n")


def test_the_published_incidents_pass(run: Run) -> None:
    """The command an author uses, on the whole folder."""
    done = run("incident", "check", PAST, "--quiet")

    assert (done.status, done.err) == (0, "")
    assert ", 0 error(s), " in done.out


def test_schema_and_fields_print_what_the_guide_has(run: Run) -> None:
    """Whoever has only the command reads the same as in the guide."""
    guide = (PAST.parents[2] / "docs" / "incident-files.md").read_text(encoding="utf-8")

    assert run("incident", "schema").out == as_text()
    assert run("incident", "fields").out.strip() in guide


def test_generate_writes_files_that_pass(run: Run, tmp_path: Path) -> None:
    """The generator and the check must agree on what a file may say."""
    made = run("incident", "generate", "--seed", "7", "--count", "3", "--out", tmp_path / "made")

    assert made.out == f"3 incident(s) in {tmp_path / 'made'}\n"
    assert run("incident", "check", tmp_path / "made", "--quiet").out.startswith("3 file(s), 0 error(s)")


# --- interlock cases export ----------------------------------------------------------------------------------------------


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    """The fleet that the case was about."""
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(FLEET.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def case(tmp_path: Path) -> str:
    """A closed case in the journal; its workflow id."""
    record = closed(target(3))
    journal = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    asyncio.run(journal.close(record.case, record.workflow_id, sealed(record).text))
    journal.dispose()
    return record.workflow_id


def test_a_closed_case_is_exported_and_passes_the_check(run: Run, case: str, fleet_file: Path, tmp_path: Path) -> None:
    """Even the strict one, so that it can be replayed as it is."""
    path = tmp_path / "out" / "case.yaml"
    path.parent.mkdir()
    done = run("cases", "export", case, "--fleet", fleet_file, "--out", path)

    assert (done.status, done.out, done.err) == (0, f"{path}\n", "")
    assert run("incident", "check", path, "--strict").status == 0
    assert read_incident(path)[1].kind == "case"


def test_without_out_it_is_printed(run: Run, case: str, fleet_file: Path) -> None:
    """Only the YAML is on stdout, so that it can be piped."""
    done = run("cases", "export", case, "--fleet", fleet_file)

    assert yaml.safe_load(done.out)["kind"] == "case"


def test_what_cannot_be_exported_is_one_sentence(run: Run, case: str, fleet_file: Path, tmp_path: Path) -> None:
    """No such case, no fleet file, the wrong one, or a broken one."""
    other = FLEET.model_dump(mode="json")
    (tmp_path / "other.yaml").write_text(json.dumps({**other, "pools": other["pools"][:0], "routes": [], "nodes": []}))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("pools: 3\n", "utf-8")

    assert (
        run("cases", "export", "remediate:x", "--fleet", fleet_file).err
        == "the journal has no closed case remediate:x\n"
    )
    assert run("cases", "export", case).err.startswith("INTERLOCK_FLEET_FILE is not set")
    assert "is not in the fleet file" in run("cases", "export", case, "--fleet", tmp_path / "other.yaml").err
    assert f"{wrong}:1: pools: " in run("cases", "export", case, "--fleet", wrong).err


def test_an_export_is_not_written_over_a_file(run: Run, case: str, fleet_file: Path, mine: Path) -> None:
    """As with a new file: what is there stays as it was."""
    done = run("cases", "export", case, "--fleet", fleet_file, "--out", mine)

    assert (done.status, mine.read_text(encoding="utf-8")) == (1, SKELETON)
