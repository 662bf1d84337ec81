"""SIGKILL inside the undo of an act that made it Worse, and inside the restore of one that stands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests import lab as labs
from tests.crash.cases import LEVERS, harmful, story
from tests.crash.play import Ending, Role, play

POINTS = {
    "isolate_endpoint": ("after_before_read", "after_write"),
    "reroute_traffic": ("before_read_back",),
    "recycle_connections": ("after_write",),
    "shed_load": ("before_return",),
}
"""All points of all levers are played inside the act; the way back is the same code with other values."""
WHERE = [(lever, point) for lever in LEVERS for point in POINTS[lever]]


@pytest.fixture(scope="module")
async def endings(_fleet: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Ending]]:
    """All of them side by side."""
    roles = []
    for lever, point in WHERE:
        one = story(lever)
        # The undo is the second time that anything is applied; the first part of the restore comes after all increments.
        roles.append(Role(f"undo-{lever}-{point}", harmful(one), (point, 2)))
        roles.append(Role(f"restore-{lever}-{point}", one, (point, one.increments + 1)))
    yield await play(_fleet, tmp_path_factory.mktemp("crash"), roles)
    await _fleet.heal()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("lever", "point"), WHERE)
def test_a_worker_killed_inside_undo_undoes_once_and_tells_people(
    endings: dict[str, Ending], lever: str, point: str
) -> None:
    """One act, one undo at Envoy, nothing stands, and the case goes on to its next step, which tells people."""
    ending = endings[f"undo-{lever}-{point}"]
    assert not ending.why, ending.why
    assert ending.deaths == 1
    assert (ending.result["outcome"], ending.result["lever"]) == ("paged", lever), ending.timeline
    assert ending.acts == 2, ending.timeline
    assert ending.unsettled == ()
    assert (ending.holder, ending.standing) == (None, 0)


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("lever", "point"), WHERE)
def test_a_worker_killed_inside_restore_restores_once(endings: dict[str, Ending], lever: str, point: str) -> None:
    """As many updates at Envoy as without a kill, and nothing stands."""
    ending = endings[f"restore-{lever}-{point}"]
    assert not ending.why, ending.why
    assert ending.deaths == 1
    assert (ending.result["outcome"], ending.result["lever"]) == ("restored", lever), ending.timeline
    assert ending.acts == ending.role.story.taken, ending.timeline
    assert ending.unsettled == ()
    assert (ending.holder, ending.standing) == (None, 0)
