"""Old histories replay on this version, and a changed workflow would be noticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.histories import CHOSEN, FOLDER
from worker.plugin import interlock_plugin

KEPT = sorted(FOLDER.glob("*.json"))


def replayer() -> Replayer:
    """As production runs it: the same plugin."""
    return Replayer(workflows=[], plugins=[interlock_plugin()])


def kept(text: str) -> WorkflowHistory:
    """The history under its own id: a case under another id would forward its detection."""
    started = json.loads(text)["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], text)


def test_every_scenario_has_a_history() -> None:
    """An empty folder would replay without a complaint."""
    assert {p.stem for p in KEPT} == set(CHOSEN.values())


def test_no_case_is_longer_than_2000_events() -> None:
    """The bound of the design: a replay stays quick and the server's limits far away."""
    lengths = {p.stem: len(json.loads(p.read_text())["events"]) for p in KEPT}

    assert max(lengths.values()) <= 2000, lengths


@pytest.mark.parametrize("path", KEPT, ids=lambda p: p.stem)
async def test_a_kept_history_replays(path: Path) -> None:
    """A case that was opened by the last release goes on under this one."""
    await replayer().replay_workflow(kept(path.read_text()))


async def test_a_history_whose_commands_differ_does_not_replay() -> None:
    """The replay is no rubber stamp: with the first scheduled activity renamed it must fail."""
    path = FOLDER / "engine-hang-restored.json"
    data = json.loads(path.read_text())
    first = next(e for e in data["events"] if "activityTaskScheduledEventAttributes" in e)
    first["activityTaskScheduledEventAttributes"]["activityType"]["name"] = "something_else"

    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(kept(json.dumps(data)))
