"""`interlock backtest` over incident files: both policies are really played, and what differs is told with what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from runbooks.library import load_policy
from runbooks.policy import Policy
from tests.runbooks.report_lab import incident, spec
from worker.backtest_replay import compared, of_files
from worker.cli import app
from worker.replay_result import Harm, Row

A = load_policy(None)


def b_of(**update: Any) -> Policy:
    """The shipped policy with engine.hang changed."""
    own = A.for_class("engine.hang").model_copy(update=update)
    return A.model_copy(update={"classes": {**A.classes, "engine.hang": own}, "version": A.version + 1})


def row(**changes: Any) -> Row:
    """A hang that was isolated by itself."""
    people = {"asked": 0.0, "approved": 0.0, "rejected": 0.0, "expired": 0.0, "waited_s": 0.0}
    harm = Harm(failed_requests=-200.0, below_minimum_s=0.0)
    data: dict[str, Any] = {
        "incident": "one", "truth_class": "engine.hang", "found_class": "engine.hang", "levers": ("isolate_endpoint",),
        "refused": (), "outcome": "restored", "ttm_s": 60.0, "human_ttm_s": 1920.0, "harm": harm, "expectations_failed": (),
        "real_s": 1.0, "mode": "auto", "detail": {"people": people, "nothing_failed": 300.0},
    }  # fmt: skip
    return Row.model_validate(data | changes)


def test_a_wait_for_people_is_told_with_what_it_cost() -> None:
    """Minutes, requests, and approvals: the price of asking, each with its sign."""
    people = {"asked": 1.0, "approved": 1.0, "rejected": 0.0, "expired": 0.0, "waited_s": 300.0}
    asked = row(mode="ask", ttm_s=360.0, harm=Harm(failed_requests=-100.0, below_minimum_s=0.0),
                detail={"people": people, "nothing_failed": 300.0})  # fmt: skip
    (one,) = compared([row()], [asked], A, b_of(mode="ask")).differ

    assert one.what == (
        "mode: auto → ask",
        "people asked: 0 → 1",
        "mitigated after: 60 s → 360 s",
        "failed requests beyond doing nothing: -200 → -100",
    )
    assert (one.ttm_saved_s, one.requests_saved, one.approvals, one.waiting_saved_s) == (-300.0, -100.0, 1, -300.0)


def test_a_refusal_in_one_of_them_is_told_with_its_reason() -> None:
    """The gate's own words say why the lever is gone under B."""
    refused = row(levers=(), outcome="paged", ttm_s=None,
                  refused=({"lever": "isolate_endpoint", "gate": "G2", "why": "0 acts in the last hour; the limit is 0"},))  # fmt: skip
    (one,) = compared([row()], [refused], A, b_of(quorum=2)).differ

    assert one.what[:2] == (
        "levers: isolate_endpoint → none",
        "only B refused: isolate_endpoint by G2: 0 acts in the last hour; the limit is 0",
    )
    assert one.ttm_saved_s is None  # never is no number of minutes


def test_two_runs_that_differ_by_less_than_two_looks_of_a_detector_are_alike() -> None:
    """Such a difference is chance, and would bury the real ones."""
    near = row(ttm_s=75.0, harm=Harm(failed_requests=-190.0, below_minimum_s=0.0))

    assert compared([row()], [near], A, b_of(quorum=2)).differ == ()


def test_what_could_not_be_played_is_no_difference() -> None:
    """It is counted as lost with its reason, and not as alike either."""
    lost = row(harm=Harm(failed_requests=None, below_minimum_s=None), expectations_failed=("no end within 180 s",))
    found = compared([row()], [lost], A, b_of(quorum=2))

    assert (found.differ, found.same, found.lost) == ((), 0, ("one under B: no end within 180 s",))


def test_policies_that_decide_alike_are_not_played() -> None:
    """Another name and version decide nothing."""
    played: list[Row] = []
    found = of_files([incident()], A, A.model_copy(update={"name": "other", "version": 9}), None, 1, played.append)

    assert (found.settings, found.incidents, found.same, played) == ((), 1, 1, [])


def plain(folder: Path) -> str:
    """One of four engines hangs at 5m until somebody restarts it; alerts come with what the rule wants."""
    measured = {"generations_failed": 4, "generations_ok": 0, "siblings_ok": 3}
    one = spec("plain-hang", lasts="40m")
    one["timeline"]["faults"][0]["ends"] = "30m"
    one["timeline"]["alerts"][0] |= {"evidence": measured, "detector": "generation-probe"}
    path = folder / "plain.yaml"
    path.write_text(yaml.safe_dump(one, sort_keys=False))
    return str(path)


@pytest.mark.timeout(300)
def test_an_incident_is_really_played_under_both_policies(tmp_path: Path) -> None:
    """By itself under A; under B it waits five minutes for a person, who approves as the file says by default."""
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file, policy in zip(files, (A, b_of(mode="ask")), strict=True):
        file.write_text(yaml.safe_dump(policy.model_dump(mode="json"), sort_keys=False))
    done = CliRunner().invoke(
        app, ["backtest", "--policy", str(files[0]), "--policy", str(files[1]), plain(tmp_path), "--jobs", "1"]
    )

    assert done.exit_code == 0, done.stderr
    assert "1 incident(s), each replayed under both: 1 played otherwise, 0 alike" in done.stdout
    assert "mode: auto → ask" in done.stdout
    assert "people asked: 0 → 1" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
