"""One virtual clock for a whole replay: the test server's, as activities, the simulated site and the driver read it.

The server's clock runs at the wall's pace while anything is under way in it, and jumps to the next timer while nothing is
(facts/temporal.md 2). Local activities see the wall clock, so nobody may take the time from there: each activity first
sets this clock by what the server last said, and from then on it runs on with the wall.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

LONG_AGO = datetime.min.replace(tzinfo=UTC)


class VirtualClock:
    """Call it for the time. Never goes back: what was read once is past."""

    def __init__(self) -> None:
        self._at, self._set_at = LONG_AGO, time.monotonic()

    def __call__(self) -> datetime:
        """The time now."""
        return self._at + timedelta(seconds=time.monotonic() - self._set_at)

    def reach(self, at: datetime) -> None:
        """The server has said that it is this time, or later."""
        if at > (now := self()):
            now = at
        self._at, self._set_at = now, time.monotonic()


class ClockKeeper(Interceptor):
    """Sets the clock whenever the server has told a worker what time it is. Needs the workflows in this process and
    outside of the sandbox, which would give each of them a clock of its own."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """A remote one carries the server's time."""
        return _Activity(next, self._clock)

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """A local one runs in a workflow task, which carries it."""
        clock = self._clock

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(_Outbound(outbound, clock))

        return Inbound


class _Activity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, clock: VirtualClock) -> None:
        super().__init__(next)
        self._clock = clock

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if not info.is_local:
            self._clock.reach(info.started_time)
        return await super().execute_activity(input)


class _Outbound(WorkflowOutboundInterceptor):
    def __init__(self, next: WorkflowOutboundInterceptor, clock: VirtualClock) -> None:
        super().__init__(next)
        self._clock = clock

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        self._clock.reach(workflow.now())
        return super().start_local_activity(input)
