"""`interlock report` on a real journal and on files: the command as people run it, and the page as they open it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from activities.adapters.sql import SqlJournal
from runbooks.did import Did
from runbooks.record import sealed
from tests.runbooks.report_lab import closed, replayed, spec
from tests.worker.report_cases import weeks
from worker.cli import app

HOSTILE = "<script>alert(1)</script>"


def run(*words: str, **env: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, ["report", *words], env=env)


def process(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The real command, in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    argv = [sys.executable, "-m", "worker", "report", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=90, env={**clean, **env})


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty-nine closed cases of a month, with people's word on those that only observed, and one that is no incident."""
    url = f"sqlite:///{tmp_path_factory.mktemp('report') / 'journal.db'}"
    opened = SqlJournal(url)

    async def fill() -> None:
        for one in (*weeks(), closed("refused-input")):
            await opened.close(one.case, one.workflow_id, sealed(one).text)
            if one.outcome == "observed":
                did = Did(case=one.case, lever="increase_capacity", who="ana", at=one.opened_at)
                await opened.did(one.case, did.model_dump_json())
        await opened.close("old#1", "old", json.dumps({"from": "another version"}))

    asyncio.run(fill())
    opened.dispose()
    return url


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two incidents, one of them labelled twice, and what a replay said of both and of a third."""
    folder = tmp_path / "incidents"
    folder.mkdir()
    twice = {"second_label": "engine.timeout", "hotfix": True, "levers": ["rollout_hotfix"]}
    for one in (spec("one"), spec("two", truth=twice)):
        (folder / f"{one['incident']}.yaml").write_text(yaml.safe_dump(one))
    rows = [
        replayed("one"),
        replayed("two", **{"class": "engine.timeout"}, levers=[], outcome="paged", ttm_s=None,
                 refused=[{"lever": "rollout_hotfix", "gate": "G15", "why": "frozen"}]),
        replayed("three", expectations_failed=["outcome: restored, expected paged"]),
    ]  # fmt: skip
    (tmp_path / "replay.json").write_text(json.dumps(rows))
    return tmp_path


def said(*words: str) -> dict[str, Any]:
    """As JSON."""
    done = run(*words, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_journal_gives_every_table_in_eighty_columns(journal: str) -> None:
    """It is read in a terminal; the first line says what and when."""
    done = run("--journal", journal)
    lines = done.stdout.splitlines()

    assert done.exit_code == 0, done.stderr
    assert max(map(len, lines)) <= 80
    assert lines[0] == "69 incident(s), 2026-10-01 to 2026-11-01, from the journal"
    for title in (
        "In short",
        "What failed",
        "Levers",
        "Time to detect: fault began → first detection",
        "Time to mitigate by Interlock: fault began → proven better",
        "What was refused, by which gate",
        "People's time by class",
        "Automation opportunities",
    ):
        assert title in lines


def test_what_is_left_out_is_counted_with_its_reason(journal: str) -> None:
    """A share of the incidents means little if some vanish unheard."""
    assert said("--journal", journal)["left_out"] == {
        "no incident of its own: refused input": 1,
        "record of another version": 1,
    }


def test_the_journal_of_the_settings_is_read_when_none_is_named(journal: str) -> None:
    """On the machine of the worker no option is needed."""
    done = run("--json", INTERLOCK_JOURNAL_URL=journal)

    assert json.loads(done.stdout)["report"]["incidents"] == 69


def test_since_leaves_out_what_is_older(journal: str) -> None:
    """What is left out is counted, so that both numbers add up to the whole."""
    found = said("--journal", journal, "--since", "2026-10-20")

    assert 0 < found["report"]["incidents"] < 69
    assert found["report"]["incidents"] + found["left_out"]["opened before --since"] == 69


def test_counts_add_up_over_every_way_of_counting(journal: str) -> None:
    """Groups, classes, who ended it, outcomes: each is all of them."""
    one = said("--journal", journal)["report"]

    for lines in (one["groups"], one["classes"]):
        assert sum(line["of_all"]["part"] for line in lines) == 69
    for counted in (one["ended_by"], one["outcomes"], one["modes"]):
        assert sum(counted.values()) == 69
    spent = sum(e["seconds"] or 0.0 for e in one["effort"])
    assert 0 < sum(c["seconds"] or 0.0 for c in one["chances"]) <= spent + 1e-6


def test_files_and_their_replay_are_put_together_by_name(files: Path) -> None:
    """Labels come from the files and what was found from the replay; each alone would have no kappa."""
    found = said(str(files / "incidents"), str(files / "replay.json"))
    one = found["report"]

    assert (one["incidents"], one["labelled"]) == (3, 3)
    assert one["hotfix"] == {"part": 1, "whole": 2, "unknown": 1, "share": 0.5, "interval": one["hotfix"]["interval"]}
    assert found["classifier"]["kappa"]["n"] == 3
    assert [(c["truth"], c["found"], c["incidents"]) for c in found["classifier"]["cells"]] == [
        ("engine.hang", "engine.hang", 2),
        ("engine.hang", "engine.timeout", 1),
    ]
    assert found["labellers"]["kappa"]["n"] == 1
    assert [(g["gate"], g["levers"]) for g in one["gates"]] == [("G15", {"rollout_hotfix": 1})]
    assert one["failed"] == {"three": ["outcome: restored, expected paged"]}


def test_files_alone_leave_what_only_a_replay_can_tell_unknown(files: Path) -> None:
    """No class by Interlock: no kappa; no lever done: no share of nothing."""
    done = run(str(files / "incidents"))
    found = said(str(files / "incidents"))

    assert found["classifier"] is None
    assert found["report"]["unattended"]["whole"] == 0
    assert "not known of any of 2" in done.stdout
    assert re.search(r"kappa, Interlock against people +– ", done.stdout)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{0}/nothing.yaml"], "nothing.yaml: there is no such file"),
        (["{0}/notes.txt"], "notes.txt:1: (whole file)"),
        (["{0}/empty"], "empty: there is no .yaml file in this folder"),
        (["{0}/incidents", "{0}/again.yaml"], "incident one: two files have this name"),
        (["{0}/replay.json", "{0}/twice.json"], "twice.json: the incident one was replayed before"),
        (["{0}/broken.json"], "broken.json: it is not JSON"),
        (["{0}/object.json"], "object.json: a list of incidents is wanted"),
        (["{0}/short.json"], "short.json: row 1: outcome: field required"),
        (["{0}/wrong.yaml"], "wrong.yaml:1: starts:"),
        (["{0}/incidents", "--journal", "sqlite:///x.db"], "give files or --journal, not both"),
        (["{0}/incidents", "--since", "yesterday"], "'yesterday' is no time"),
        (["--journal", "sqlite:////{0}/no.db"], "there is no journal at"),
        (["{0}/incidents", "--html", "{0}/no/such/page.html"], "page.html: cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(files: Path, words: list[str], says: str) -> None:
    """It names the file, and what to do."""
    (files / "empty").mkdir()
    (files / "notes.txt").write_text("x")
    (files / "again.yaml").write_text(yaml.safe_dump(spec("one")))
    (files / "twice.json").write_text(json.dumps([replayed("one")]))
    (files / "broken.json").write_text("[")
    (files / "object.json").write_text("{}")
    (files / "short.json").write_text(json.dumps([{k: v for k, v in replayed().items() if k != "outcome"}]))
    (files / "wrong.yaml").write_text(yaml.safe_dump({k: v for k, v in spec().items() if k != "starts"}))
    done = run(*(w.format(files) for w in words))

    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.startswith("interlock: ")
    assert "Traceback" not in done.stderr


def test_without_matplotlib_the_page_says_what_to_install(files: Path) -> None:
    """The tables need none of it."""
    hidden = files / "hidden"
    hidden.mkdir()
    (hidden / "matplotlib.py").write_text("raise ModuleNotFoundError('no matplotlib', name='matplotlib')")
    done = process(str(files / "incidents"), "--html", str(files / "page.html"), PYTHONPATH=str(hidden))
    plain = process(str(files / "incidents"), PYTHONPATH=str(hidden))

    assert (done.returncode, plain.returncode) == (2, 0)
    assert "take the extra `demo` (`uv sync --extra demo`" in done.stderr
    assert not (files / "page.html").exists()


def test_the_page_is_one_file_with_every_plot_and_loads_nothing(journal: str, tmp_path: Path) -> None:
    """It can be mailed and opened anywhere: each link is to an id within it, and ids are unique."""
    done = run("--journal", journal, "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', page)

    assert done.exit_code == 0, done.stderr
    assert page.count("<svg") == 5  # no label, no confusion matrix
    assert "60 % P" in page
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)
    assert not re.findall(r'(?:src|href)="(?!#)', page)


def test_the_same_report_gives_the_same_page(files: Path) -> None:
    """No date, no random id: it can be kept beside the incident files and compared."""
    for name in ("a.html", "b.html"):
        assert run(str(files / "incidents"), str(files / "replay.json"), "--html", str(files / name)).exit_code == 0

    assert (files / "a.html").read_text() == (files / "b.html").read_text()


def test_a_strangers_words_stay_words(files: Path) -> None:
    """On the page they are escaped, in the terminal they have no control characters."""
    rows = [replayed("one", levers=[], outcome="paged", ttm_s=None, expectations_failed=[f"{HOSTILE}\x1b[31m"],
                     refused=[{"lever": "shed_load", "gate": "G3", "why": f"{HOSTILE} $x^2$ [red]no[/red] \x1b[31m"}])]  # fmt: skip
    (files / "hostile.json").write_text(json.dumps(rows))
    words = (str(files / "incidents" / "one.yaml"), str(files / "hostile.json"))
    shown, drawn = run(*words), run(*words, "--html", str(files / "page.html"))
    page = (files / "page.html").read_text()

    assert (shown.exit_code, drawn.exit_code) == (0, 0)
    assert "\x1b" not in shown.stdout
    assert "[red]no" in shown.stdout
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)" in page
