"""`interlock policy` and `interlock cases did` as people type them: sentences, exit statuses, and no traceback ever."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from activities.adapters.sql import SqlJournal
from runbooks.library import SHIPPED, load_policy
from runbooks.policy_sample import sample_fleet
from runbooks.policy_show import Shown
from tests import lab as labs
from tests.ports import free_port
from tests.worker import observed as cases
from worker.__main__ import run as entry

Env = dict[str, str]
Run = Callable[..., "Typed"]


@pytest.fixture
def env(tmp_path: Path) -> Env:
    """Nothing set but a Temporal that is not there and a journal that is not there yet."""
    return {
        "INTERLOCK_TEMPORAL__ADDRESS": f"127.0.0.1:{free_port()}",
        "INTERLOCK_JOURNAL_URL": f"sqlite:///{tmp_path / 'journal.db'}",
        "COLUMNS": "200",
    }


class Typed(NamedTuple):
    """What a command gave."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(env: Env, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Typed]:
    """The entry point of `interlock`, in this process: a traceback would fail the test."""
    for name in [n for n in os.environ if n.startswith("INTERLOCK_")]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    def typed(*words: str) -> Typed:
        monkeypatch.setattr(sys, "argv", ["interlock", *words])
        status = entry()
        return Typed(status, *capsys.readouterr())

    return typed


def written(path: Path, data: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return str(path)


@pytest.fixture
def fleet_file(tmp_path: Path) -> str:
    """The invented fleet as somebody's own."""
    return written(tmp_path / "fleet.yaml", sample_fleet().model_dump(mode="json"))


def test_check_of_the_shipped_policy_passes_with_a_warning(run: Run) -> None:
    """Its line is named, and that it was held against an invented fleet."""
    done = run("policy", "check")
    lines = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].startswith(f"warning: {SHIPPED / 'policy.yaml'}:")
    assert lines[1] == "0 error(s), 1 warning(s)"
    assert lines[2].startswith("held against an invented fleet")


def test_check_says_each_error_with_its_line_and_exits_1(run: Run, tmp_path: Path, fleet_file: str) -> None:
    """Errors go to stderr."""
    bad = written(tmp_path / "p.yaml", {"name": "p", "classes": {"engine.hnag": {}}, "groups": {"sre-oncall": []}})
    done = run("policy", "check", bad, "--fleet", fleet_file)

    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: {bad}:3: classes.engine.hnag: there is no such failure class; did you mean engine.hang?\n"
    )
    assert done.stdout.splitlines()[-1] == "1 error(s), 2 warning(s)"


def test_check_names_the_line_in_the_fleet_file(run: Run, tmp_path: Path) -> None:
    """What the fleet lacks is said of the fleet, with the YAML to add."""
    data = sample_fleet().model_dump(mode="json")
    own = written(tmp_path / "fleet.yaml", {**data, "controls": []})
    done = run("policy", "check", "--fleet", own)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {own}:")
    assert (
        "add `controls: [{cluster: sample, kind: traffic, runs_on: []}, {cluster: sample, kind: cluster" in done.stderr
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: p\ndefalt: {}\n", "defalt"),
        ("name: p\ndefault: {mode: atuo}\n", "default.mode"),
        ("name: [\n", "not readable as YAML"),
    ],
)
def test_check_of_what_is_no_policy_is_a_sentence(run: Run, tmp_path: Path, content: str, said: str) -> None:
    """An unknown field, a wrong word, no YAML."""
    path = tmp_path / "p.yaml"
    path.write_text(content)
    done = run("policy", "check", str(path))

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {path}")
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "nowhere.yaml"), "error: nowhere.yaml: cannot be read"),
        (("check", "--runbooks", "nowhere"), "error: nowhere/taxonomy.yaml: cannot be read"),
        (("check", "--fleet", "nowhere.yaml"), "error: nowhere.yaml: cannot be read"),
        (("show", "engine.hnag"), "there is no failure class 'engine.hnag'; did you mean engine.hang?"),
        (("show", "engine.hang", "--target", "pod"), "--target pod: there is no such kind; there are cluster, service"),
        (("show", "engine.hang", "--target", "gpu"), "there is no runbook for engine.hang on a gpu"),
        (("show", "engine.hang", "--fleet", "nowhere.yaml"), "interlock: nowhere.yaml: cannot be read"),
        (("show", "engine.hang", "--since", "soon"), "interlock: 'soon' is no time: write 30d, 12h"),
        (("score", "engine.hnag"), "there is no failure class 'engine.hnag'; did you mean engine.hang?"),
        (("score", "engine.hang"), "there is no journal at"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run: Run, words: tuple[str, ...], said: str) -> None:
    """Exit 1."""
    done = run("policy", *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_show_explains_a_class_while_temporal_and_journal_are_away(run: Run, env: Env, fleet_file: str) -> None:
    """What cannot be known is said so, and the rest is there."""
    done = run("policy", "show", "engine.hang", "--fleet", fleet_file)

    assert done.returncode == 0
    assert done.stdout.startswith("engine.hang on an endpoint: ")
    assert f"policy {load_policy().ref};" in done.stdout
    assert (
        f"budgets left are not known, because Temporal does not answer at {env['INTERLOCK_TEMPORAL__ADDRESS']}"
        in done.stdout
    )
    assert done.stdout.splitlines()[-1].startswith("Observed: there is no journal at ")


def test_show_as_json_is_the_model_and_the_score(run: Run) -> None:
    """For programs."""
    data = json.loads(run("policy", "show", "engine.crash", "--target", "service", "--json").stdout)
    score = data.pop("score")

    assert Shown.model_validate(data).steps[0].lever == "reroute_traffic"
    assert score["why"].startswith("there is no journal at ")


def test_show_takes_another_policy(run: Run, tmp_path: Path) -> None:
    """To see what an edit means before it is rolled out."""
    other = written(
        tmp_path / "p.yaml", {"name": "bold", "version": 7, "default": {"mode": "auto"}, "groups": {"sre-oncall": []}}
    )
    done = run("policy", "show", "engine.crash", "--policy", other)

    assert "AUTO: the gates decide" in done.stdout
    assert "policy bold/7@" in done.stdout


async def test_show_asks_the_guards_that_there_are(env: Env, tmp_path: Path, lab: labs.Lab) -> None:
    """The lab's Guard is free, and its budgets are whole but for what the session has spent."""
    async with labs.running_worker(lab.parts(labs.policy())):
        own = written(tmp_path / "lab.yaml", lab.fleet.model_dump(mode="json"))
        address = lab.client.service_client.config.target_host
        there = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")} | env
        command = [sys.executable, "-m", "worker", "policy", "show", "engine.hang", "--fleet", own, "--json"]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            env=there | {"INTERLOCK_TEMPORAL__ADDRESS": address},
            capture_output=True,
            timeout=60,
        )
    (domain,) = json.loads(done.stdout)["domains"]

    assert domain["view"]["domain"] == labs.CLUSTER, domain["why"]
    assert domain["left"]["nodes_per_hour"] == "4 of 4"


@pytest.fixture
async def kept(env: Env) -> str:
    """A journal with one observed case; its id."""
    journal = SqlJournal(env["INTERLOCK_JOURNAL_URL"])
    record = cases.record(0)
    await journal.close(record.case, record.workflow_id, cases.text(record))
    journal.dispose()
    return record.case


def test_people_tell_and_the_score_has_it(run: Run, kept: str) -> None:
    """`cases did`, then `policy score`, then the last block of `policy show`."""
    words = (
        "--lever",
        "isolate_endpoint",
        "--who",
        "ana",
        "--at",
        "2026-11-24T12:02",
        "--helped",
        "yes",
        "--note",
        "by hand",
    )
    told = run("cases", "did", kept, *words)
    score = run("policy", "score", "engine.hang")
    shown = run("policy", "show", "engine.hang")
    data = json.loads(run("policy", "score", "engine.hang", "--json").stdout)

    assert (told.returncode, told.stdout) == (
        0,
        f"kept for {kept}: agreed: Interlock isolate_endpoint; people isolate_endpoint and it helped (ana: by hand)\n",
    )
    assert score.stdout.startswith("Observed: 1 closed case(s) of engine.hang; people told what they did in 1\n")
    assert "earlier than people by 119 s (median of 1)" in score.stdout
    assert "TOO FEW TO PROMOTE: 1 case(s)" in score.stdout
    assert shown.stdout.endswith(score.stdout)
    assert data["cases"][0]["ending"] == "agreed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing", "--lever", "none", "--who", "ana"), "interlock: the journal has no closed case nothing"),
        (("CASE", "--lever", "isolate", "--who", "ana"), "interlock: --lever: there is no lever 'isolate'"),
        (("CASE", "--lever", "none", "--who", "ana", "--target", "a//"), "interlock: --target: 'a//' is no target id"),
        (
            ("CASE", "--lever", "none", "--who", "ana", "--at", "2099-01-01"),
            "interlock: --at: 2099-01-01 00:00:00 is still",
        ),
        (("CASE", "--lever", "none", "--who", "ana", "--at", "noon"), "interlock: 'noon' is no time"),
    ],
)
def test_a_word_that_cannot_be_is_one_sentence(run: Run, kept: str, words: tuple[str, ...], said: str) -> None:
    """Nothing is kept."""
    done = run("cases", "did", *(kept if w == "CASE" else w for w in words))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
