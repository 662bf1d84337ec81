"""Whole incidents, by the real workflows on a simulated site. Each takes about a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from temporalio.client import WorkflowExecutionStatus

from runbooks.library import load_library, load_policy
from runbooks.policy import Policy
from tests.replay.given import incident
from worker.replay_one import Options, replay_one
from worker.replay_result import Row
from worker.replay_stage import Stage

LIBRARY = load_library(None)
ENDPOINT = "east/service/chat-east/endpoint/chat-east-0:8000"


def asks() -> Policy:
    """Every class asks."""
    return load_policy(None).model_copy(update={"classes": {}})


async def played(stage: Stage, folder: Path, policy: Policy | None = None, **changed: Any) -> Row:
    """The skeleton of an incident file, changed."""
    return await replay_one(stage, incident(folder, **changed), Options(policy or load_policy(None)), LIBRARY)


async def test_a_hung_engine_is_out_of_rotation_in_a_minute_and_back_once_it_is_well(
    stage: Stage, tmp_path: Path
) -> None:
    """The whole way from alert to restored, far sooner than people, and with less harm than doing nothing."""
    row = await played(stage, tmp_path, lasts="30m", truth={"mitigated": "10:25"})

    assert row.expectations_failed == ()
    assert (row.found_class, row.levers, row.outcome) == ("engine.hang", ("isolate_endpoint",), "restored")
    assert row.ttm_s is not None
    assert 60 < row.ttm_s < 120  # the alert came a minute after the fault
    assert row.human_ttm_s == 21 * 60
    assert row.harm.failed_requests is not None
    assert row.harm.failed_requests < -100
    assert row.harm.violations == ()


async def test_the_truth_never_reaches_the_engine(stage: Stage, tmp_path: Path) -> None:
    """The file claims a crash; the engine still finds the hang that its evidence shows."""
    told = {"failure_class": "engine.crash", "group": "engine", "levers": ["restart_engine"], "words": "a crash"}

    row = await played(stage, tmp_path, lasts="30m", truth={**told, "mitigated": "10:25"})

    assert (row.truth_class, row.found_class, row.levers) == ("engine.crash", "engine.hang", ("isolate_endpoint",))


async def test_people_answer_after_the_files_default_time_and_what_they_say_counts(
    stage: Stage, tmp_path: Path
) -> None:
    """Four minutes of waiting for the approval are part of the time to mitigate."""
    answers = {"decision": "approve", "after": "4m", "people": ["ben"]}

    row = await played(
        stage, tmp_path, asks(), lasts="30m", timeline={"answers": answers}, truth={"mitigated": "10:25"}
    )

    assert row.levers == ("isolate_endpoint",)
    assert row.ttm_s is not None
    assert 5 * 60 < row.ttm_s < 6 * 60
    assert row.detail["people"]["approved"] == 1
    assert 230 < row.detail["people"]["waited_s"] < 260


async def test_nobody_answers_and_the_request_expires(stage: Stage, tmp_path: Path) -> None:
    """Silence is no approval: nothing is done, and people are paged."""
    answers = {"decision": "nobody", "people": ["ana"]}

    row = await played(stage, tmp_path, asks(), timeline={"answers": answers})

    assert row.levers == ()
    assert {r["gate"] for r in row.refused} >= {"people"}
    assert row.detail["people"]["expired"] == 1
    assert row.outcome == "paged"


async def test_the_timelines_own_word_goes_before_the_default(stage: Stage, tmp_path: Path) -> None:
    """A rejection in the timeline counts, whatever people of the file answer otherwise."""
    says = [{"at": "15m", "who": "eva", "says": "reject", "about": ENDPOINT}]

    row = await played(stage, tmp_path, asks(), timeline={"people": says})

    assert row.levers == ()
    assert "people rejected it" in {r["why"] for r in row.refused}
    assert row.detail["people"]["approved"] == 0


async def test_nothing_moves_while_somebody_has_it_halted(stage: Stage, tmp_path: Path) -> None:
    """G4 refuses until the resume, and the case then goes on by itself."""
    says = [
        {"at": "1m", "who": "ana", "says": "halt", "about": "east"},
        {"at": "12m", "who": "ana", "says": "resume", "about": "east"},
    ]

    row = await played(stage, tmp_path, lasts="30m", timeline={"people": says}, truth={"mitigated": "10:25"})

    assert row.outcome == "restored"
    assert row.ttm_s is not None
    assert row.ttm_s > 8 * 60  # the fault came at four minutes, the resume at twelve
    assert "G4" in {r["gate"] for r in row.refused}


async def test_whoever_aborts_a_case_gets_it_taken_back(stage: Stage, tmp_path: Path) -> None:
    """The act was done before; the case ends as aborted."""
    says = [{"at": "10m", "who": "ana", "says": "abort", "about": ENDPOINT}]

    row = await played(stage, tmp_path, lasts="30m", timeline={"people": says}, truth={"mitigated": "10:25"})

    assert row.outcome == "aborted"


async def test_observing_touches_nothing(stage: Stage, tmp_path: Path) -> None:
    """The baseline that only watches costs what doing nothing does, apart from noise."""
    given = incident(tmp_path, lasts="30m", truth={"mitigated": "10:25"})

    row = await replay_one(stage, given, Options(load_policy(None), baseline="observe"), LIBRARY)

    assert (row.levers, row.outcome, row.mode) == ((), "observed", "observe")
    assert row.harm.failed_requests is not None
    assert abs(row.harm.failed_requests) < 5


async def test_the_script_without_gates_is_played_on_the_same_site(stage: Stage, tmp_path: Path) -> None:
    """It helps here, and nothing refuses it: a fair comparison needs the same site and the same measure."""
    given = incident(tmp_path, lasts="30m", truth={"mitigated": "10:25"})

    row = await replay_one(stage, given, Options(load_policy(None), baseline="naive"), LIBRARY)

    assert row.levers == ("isolate_endpoint",)
    assert row.refused == ()
    assert row.harm.failed_requests is not None
    assert row.harm.failed_requests < -100


async def test_nothing_of_an_incident_is_left_for_the_next_one(stage: Stage, tmp_path: Path) -> None:
    """No Guard and no case still runs, and the same target can be played again on the same stage."""
    nobody = {"answers": {"decision": "nobody"}}
    await played(stage, tmp_path, asks(), lasts="20m", timeline=nobody, truth={"mitigated": "10:19"})

    for name in ("guard:east", f"remediate:{ENDPOINT}"):
        found = await stage.client.get_workflow_handle(name).describe()
        assert found.status is not WorkflowExecutionStatus.RUNNING, name
    again = await played(stage, tmp_path, lasts="20m", truth={"mitigated": "10:19"})
    assert again.outcome == "restored"


async def test_a_play_comes_out_the_same_each_time(stage: Stage, tmp_path: Path) -> None:
    """The machine's pace, and what was played before, change no figure of it."""
    given: dict[str, Any] = {"lasts": "30m", "truth": {"mitigated": "10:25"}}

    first, again = [(await played(stage, tmp_path, asks(), **given)).as_json() for _ in range(2)]

    for row in (first, again):
        row.pop("real_s")
        row["detail"].pop("slowest_s")
        for case in row["detail"]["cases"]:
            case["case"] = case["case"].partition("#")[0]  # a part of the run's id is in it
    assert first == again


async def test_what_it_says_is_of_the_incidents_own_day(stage: Stage, tmp_path: Path) -> None:
    """It is played on the server's clock, years later, at the same time of the day."""
    row = await played(stage, tmp_path, asks(), timeline={"answers": {"decision": "nobody", "people": ["ana"]}})

    asked = next(r for r in row.detail["rows"] if r["what"] == "approval asked")
    assert "until 10:35:00" in asked["text"]  # asked at 10:05, for half an hour
    assert "2026" not in str(row.as_json())


async def test_nothing_done_is_no_harm(stage: Stage, tmp_path: Path) -> None:
    """The run that is compared with is cut into the same steps: a model's own error is not called harm."""
    crash = {"fault": "crash", "at": "10:04", "pool": "chat-east", "replicas": 3, "every": "40s"}

    given = incident(tmp_path, timeline={"faults": [crash]})
    row = await replay_one(stage, given, Options(load_policy(None), baseline="observe"), LIBRARY)

    assert row.levers == ()
    assert row.harm.failed_requests == 0
    assert row.harm.below_minimum_s == 0
