"""One virtual clock for a whole replay: the test server's, as activities, the simulated site and the driver read it.

The server's clock runs at the wall's pace while anything is under way in it, and jumps to the next timer while nothing is
(facts/temporal.md 2). Local activities see the wall clock, so nobody may take the time from there: each activity first
sets this clock by what the server last said, and from then on it runs on with the wall.

What is read is the second that has begun: see replay_runner.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

LONG_AGO = datetime.min.replace(tzinfo=UTC)


class VirtualClock:
    """Call it for the time: never goes back. `exact` is the server's, or a little less: what is told is the least that it can
    be, and `set` corrects it."""

    def __init__(self) -> None:
        self._told = (LONG_AGO, time.monotonic())
        """One value, for workflows tell it from threads of their own: the time, and when it was told, by the wall."""
        self._held = 0
        self._read = LONG_AGO

    def __call__(self) -> datetime:
        """The time now, in whole seconds."""
        self._read = max(self._read, this_second(self.exact()))
        return self._read

    def exact(self) -> datetime:
        """As the server has it, or a little less."""
        at, since = self._told
        return at if self._held else at + timedelta(seconds=time.monotonic() - since)

    def reach(self, at: datetime) -> None:
        """The server has said that it is this time, or later."""
        self._told = (max(at, self.exact()), time.monotonic())

    def set(self, at: datetime) -> None:
        """The server has said that it is this time, and no other."""
        self._told = (at, time.monotonic())

    @contextmanager
    def held(self) -> Iterator[None]:
        """While time jumps, the server's clock stands still between what is under way: the wall's says nothing of it."""
        self.reach(LONG_AGO)
        self._held += 1
        try:
            yield
        finally:
            self._told = (self.exact(), time.monotonic())
            self._held -= 1


def this_second(at: datetime) -> datetime:
    """Its beginning."""
    return at.replace(microsecond=0)


def next_second(at: datetime) -> datetime:
    """The same when it is the beginning of one already."""
    return at if at.microsecond == 0 else this_second(at) + timedelta(seconds=1)


class ClockKeeper(Interceptor):
    """Sets the clock at each remote activity, which carries the server's time. A local one runs in a workflow task, which has
    set it: see replay_runner.py."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """See above."""
        return _Activity(next, self._clock)


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, clock: VirtualClock) -> None:
        super().__init__(next)
        self._clock = clock

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if not info.is_local:
            self._clock.reach(info.started_time)
        return await super().execute_activity(input)
