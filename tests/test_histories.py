"""Old histories replay on this version and decide the same; each kind of change that must be noticed is noticed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.common import RetryPolicy

from runbooks import safety
from runbooks.gates.question import Gate, say
from tests.histories import FOLDER, NAMES
from worker.histories import check, files_of, parsed, read
from worker.histories_beside import ENDING, read_beside
from worker.histories_compare import NOT_HELD, Checked
from worker.histories_scrub import clean
from workflows import casefile, increments
from workflows.casefile import CaseFile

KEPT = files_of([FOLDER])
HOW = "if that is as it should be: interlock histories check tests/histories --accept"
PATCH = pytest.MonkeyPatch


async def decided(name: str) -> Checked:
    """One kept history, with what stands beside it, under the code of this process."""
    path = FOLDER / f"{name}.json"
    return await check(name, read(path), read_beside(path))


async def lines(name: str) -> list[str]:
    """What differs."""
    return [d.line() for d in (await decided(name)).differences]


def test_every_scenario_has_a_history() -> None:
    """An empty folder would replay without a complaint."""
    assert {p.stem for p in KEPT} == NAMES
    assert {p.name.removesuffix(ENDING) for p in FOLDER.glob(f"*{ENDING}")} <= NAMES


def test_no_case_is_longer_than_2000_events() -> None:
    """The bound of the design: a replay stays quick and the server's limits far away."""
    lengths = {p.stem: len(json.loads(p.read_text())["events"]) for p in KEPT}

    assert max(lengths.values()) <= 2000, lengths


@pytest.mark.parametrize("path", KEPT, ids=lambda p: p.stem)
def test_a_kept_history_names_no_machine_and_holds_no_secret(path: Path) -> None:
    """It was scrubbed when it was recorded, and scrubbing it once more changes nothing."""
    text = path.read_text()

    assert clean(text) == text


@pytest.mark.parametrize("path", KEPT, ids=lambda p: p.stem)
async def test_a_kept_history_replays_and_is_decided_the_same(path: Path) -> None:
    """A case that was opened by the last release goes on under this one: commands, what is in them, verdicts."""
    found = await decided(path.stem)

    assert [d.line() for d in found.differences] == [], HOW
    assert found.compared == len(found.then) > 0
    assert NOT_HELD not in found.unseen
