"""A worker that is stopped inside apply and wakes when another one has gone on; and workers killed while a case waits.

The stopped attempt runs into its time-out (15 s) and is tried again elsewhere. What it does when it wakes must change
nothing: it is refused by the fence or by its permit's end, or finds its own permit's act there already.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests import lab as labs
from tests.crash.cases import asking, harmful, long_permits, slow_to_verify, story
from tests.crash.lane import Lane
from tests.crash.play import Ending, Role, play


async def killed_while_people_are_asked(lane: Lane) -> None:
    """The worker dies while the case waits for approval; the decision is sent to its successor."""
    await lane.in_state("waiting_approval")
    await lane.replace_worker()
    waiting = (await lane.in_state("waiting_approval"))["waiting"]
    assert lane.handle is not None
    decision = {"step": waiting["step"], "plan": waiting["digest"], "decision": "approve", "reason": "go"}
    await lane.handle.signal("decide", decision)


async def killed_in_the_middle_of_verify(lane: Lane) -> None:
    """The worker dies while the effect soaks."""
    await lane.in_state("verifying")
    await lane.replace_worker()


def late(when: Callable[[Lane], Awaitable[bool]], word: str = "") -> Callable[[Lane], Awaitable[None]]:
    """The first worker stops itself inside apply, a second one is started, and the first goes on when `when` is true.

    `word` is what the first must then say, in its log.
    """

    async def script(lane: Lane) -> None:
        assert lane.end is not None
        marker = lane.end.marker

        async def stopped() -> bool:
            return marker.exists()

        await labs.until(stopped, f"the worker of {lane.name} stops inside apply", 60)
        await lane.start_worker()  # it finds the marker, and so does not stop
        await labs.until(lambda: when(lane), f"the other worker of {lane.name} goes on", 150)
        first = lane.workers[0].pid
        assert first is not None
        os.kill(first, signal.SIGCONT)

        async def said() -> bool:
            return word in lane.log()

        await labs.until(said, f"the late worker of {lane.name} says {word!r}", 30)

    return script


async def tried_again(lane: Lane) -> bool:
    """The server has handed the act out a second time."""
    assert lane.handle is not None
    pending = (await lane.handle.describe()).raw_description.pending_activities
    return any(p.activity_type.name == "apply_traffic" and p.attempt > 1 for p in pending)


async def acted(lane: Lane) -> bool:
    """Envoy has taken the act in."""
    return (await lane.taken_in()).get(lane.story.proof, 0) == 1


async def undone(lane: Lane) -> bool:
    """Envoy has taken act and undo in."""
    return (await lane.taken_in()).get(lane.story.proof, 0) == 2


EXPIRED, FENCED = "expired at", "fenced: "
ROLES = (
    Role("approval", asking(story("reroute_traffic")), script=killed_while_people_are_asked),
    Role("verify", slow_to_verify(story("recycle_connections"), 6.0), script=killed_in_the_middle_of_verify),
    # Stopped with the edge folder's lock in its hand: nobody can act before it wakes, and then its permit has ended.
    Role("late-expired", story("shed_load"), ("after_before_read", 1), "SIGSTOP", late(tried_again, EXPIRED)),
    # Stopped before the lock: the second worker acts under a new permit.
    Role("late-fenced", story("recycle_connections"), ("after_intend", 1), "SIGSTOP", late(acted, FENCED)),
    # The same, and the first permit lives long enough for the second attempt.
    Role("late-same", long_permits(story("reroute_traffic"), 30.0), ("after_intend", 1), "SIGSTOP", late(acted)),
    # The second attempt acted and the act was undone: the first must not do it again.
    Role(
        "late-undone",
        long_permits(harmful(story("isolate_endpoint")), 30.0),
        ("after_intend", 1),
        "SIGSTOP",
        late(undone, FENCED),
    ),
)


@pytest.fixture(scope="module")
async def endings(_fleet: labs.Lab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Ending]]:
    """All of them side by side."""
    yield await play(_fleet, tmp_path_factory.mktemp("crash"), ROLES)
    await _fleet.heal()


def settled(ending: Ending) -> None:
    """Nothing is open in the journal or at the Guard."""
    assert ending.unsettled == ()
    assert (ending.holder, ending.standing) == (None, 0)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["approval", "verify"])
def test_a_worker_killed_while_its_case_waits_is_replaced_and_nothing_is_done_twice(
    endings: dict[str, Ending], name: str
) -> None:
    """Waiting for people, or for proof: the next worker goes on where the case stood."""
    ending = endings[name]
    assert not ending.why, ending.why
    assert ending.deaths == 1
    assert ending.result["outcome"] == "restored", ending.timeline
    assert ending.acts == ending.role.story.taken, ending.timeline
    settled(ending)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", ["late-expired", "late-fenced", "late-same"])
def test_an_attempt_that_wakes_late_changes_nothing(endings: dict[str, Ending], name: str) -> None:
    """Envoy has taken each act in exactly once; the late worker was refused, or found its own permit's act."""
    ending = endings[name]
    assert not ending.why, ending.why
    assert ending.result["outcome"] == "restored", ending.timeline
    assert ending.acts == ending.role.story.taken, ending.timeline
    settled(ending)


@pytest.mark.timeout(400)
def test_an_attempt_that_wakes_after_its_own_undo_is_fenced_and_cannot_undo_the_undo(
    endings: dict[str, Ending],
) -> None:
    """One act, one undo, and the endpoint stays in rotation."""
    ending = endings["late-undone"]
    assert not ending.why, ending.why
    assert ending.result["outcome"] == "paged", ending.timeline
    assert ending.acts == 2, ending.timeline
    settled(ending)
