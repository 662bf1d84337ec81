"""SIGKILL at every point inside apply and inside close, for each of the four acting levers, on real parts.

Each lever plays all its kill points side by side, each in a domain of its own, and once without a kill. Acts are counted
by Envoy: a run with a kill takes in exactly what the run without one does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests import lab as labs
from tests.crash.cases import LEVERS, story
from tests.crash.play import Ending, Role, play

APPLY = ("after_intend", "after_before_read", "after_write", "before_read_back", "before_receipt", "before_return")
CLOSE = ("close_begin", "close_written")
NEVER = "never"


@pytest.fixture(scope="module", params=LEVERS)
async def endings(
    request: pytest.FixtureRequest, _fleet: labs.Lab, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Ending]]:
    """All kill points of one lever: point → ending."""
    one = story(request.param)
    points = {point: f"{one.lever}-{point}" for point in (NEVER, *APPLY, *CLOSE)}
    roles = [Role(name, one, None if point == NEVER else (point, 1)) for point, name in points.items()]
    found = await play(_fleet, tmp_path_factory.mktemp("crash"), roles)
    yield {point: found[name] for point, name in points.items()}
    await _fleet.heal()


@pytest.mark.timeout(400)
@pytest.mark.parametrize("point", [*APPLY, *CLOSE])
def test_a_worker_killed_anywhere_in_apply_or_close_acts_once_restores_once_and_closes(
    endings: dict[str, Ending], point: str
) -> None:
    """Killed once, gone on by another worker: mitigated, restored, closed, and Envoy took in what it takes in anyway."""
    ending, unhurt = endings[point], endings[NEVER]
    assert not ending.why, ending.why
    assert ending.deaths == 1
    assert (ending.result["outcome"], ending.result["lever"]) == ("restored", ending.role.story.lever), ending.timeline
    assert ending.taken_in == unhurt.taken_in, ending.timeline
    assert ending.unsettled == ()
    assert (ending.holder, ending.standing) == (None, 0)


@pytest.mark.timeout(400)
def test_the_run_without_a_kill_is_counted_by_envoy_as_planned(endings: dict[str, Ending]) -> None:
    """What the kills are compared with: each increment and each part of the restore is one update at Envoy."""
    ending = endings[NEVER]
    assert not ending.why, ending.why
    assert ending.acts == ending.role.story.taken, ending.timeline
    assert ending.deaths == 0
