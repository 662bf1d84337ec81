"""The virtual clock: hours pass in no time, and everybody reads the same time."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from temporalio import activity, workflow
from temporalio.worker import Worker

from worker.replay_stage import Stage

HOUR = timedelta(hours=1)


class Hands:
    """Activities that look at the clock; one of them waits for the world."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    @activity.defn(name="look")
    async def look(self) -> datetime:
        """The time, as every activity of a replay reads it."""
        return self._stage.clock()

    @activity.defn(name="wait")
    async def wait(self, seconds: float) -> datetime:
        """As the check of a node under load waits for its replica."""
        await self._stage.wait_in_activity(seconds)
        return self._stage.clock()


@workflow.defn(name="Day")
class Day:
    """Sleeps for hours and looks at the clock in between, remote and local; or waits in an activity."""

    @workflow.run
    async def run(self, waits_s: float) -> list[tuple[datetime, datetime]]:
        """What the workflow's clock said, and what the activity then read."""
        seen = []
        for _ in range(3):
            await workflow.sleep(HOUR)
            for local in (True, False):
                now = workflow.now()
                if local:
                    at = await workflow.execute_local_activity_method(Hands.look, start_to_close_timeout=HOUR)
                else:
                    at = await workflow.execute_activity_method(Hands.look, start_to_close_timeout=HOUR)
                seen.append((now, at))
        if waits_s:
            now = workflow.now()
            beating = {"start_to_close_timeout": timedelta(seconds=180), "heartbeat_timeout": timedelta(seconds=20)}
            at = await workflow.execute_activity_method(Hands.wait, waits_s, **beating)  # type: ignore[call-overload]
            seen.append((now, at))
        return seen


async def _day(stage: Stage, waits_s: float) -> list[tuple[datetime, datetime]]:
    hands = Hands(stage)
    async with Worker(stage.client, task_queue="days", workflows=[Day], activities=[hands.look, hands.wait]):
        name = f"day-{time.monotonic_ns()}"
        handle = await stage.client.start_workflow(Day.run, waits_s, id=name, task_queue="days")
        # The driver lets the time go on in steps, as in a play, while the activity waits. `result()` would let it run free.
        for _ in range(2000):
            if (await handle.describe()).close_time is not None:
                break
            await stage.reach(stage.clock() + timedelta(seconds=15))
        return await handle.result()


async def test_activities_read_the_workflows_time_whether_they_are_local_or_not(stage: Stage) -> None:
    """Both kinds of activity read the played clock, never the world's."""
    for now, at in await _day(stage, 0):
        assert timedelta(0) <= at - now < timedelta(seconds=15)


async def test_an_activity_that_waits_two_minutes_of_the_world_keeps_its_heartbeat_and_costs_none_of_ours(
    stage: Stage,
) -> None:
    """A wait passes in played time, so that a long incident can be played in seconds."""
    began = time.monotonic()

    *_, (now, at) = await _day(stage, 120)

    assert timedelta(seconds=119) < at - now < timedelta(seconds=180)
    assert time.monotonic() - began < 30


async def test_the_clock_never_goes_back(stage: Stage) -> None:
    """A moment already past is not reached a second time: times in a history only grow."""
    first = stage.clock()
    stage.clock.reach(first - HOUR)

    assert stage.clock() >= first
