"""Where incidents are played: a time-skipping Temporal server of our own, and for each incident workers over its site.

The v1 test server has one clock for all workflows, so a process has one server and plays its incidents one after another.
It lacks list, count, reset and schedules (facts/temporal.md 2): nothing here asks for them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from temporalio import activity
from temporalio.api.testservice.v1 import SleepRequest
from temporalio.api.workflowservice.v1 import RecordActivityTaskHeartbeatRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from runbooks.detection import TASK_QUEUE, guard_id, guard_queue, node_queue
from worker.replay_clock import VirtualClock
from worker.replay_server import running_server
from worker.replay_watch import Watch
from worker.wiring import workers_over

LOOK_EVERY_S = 900.0
"""How often a Guard looks whether its holders live. No case dies in a replay, and each look costs real milliseconds."""
JUST_AFTER = timedelta(milliseconds=50)
"""So much of a second is left to the timers that end with it, before whoever waited for it does anything."""
SET_EVERY = 10
"""Jumps after which the clock is set anew: with each the server cuts off up to a millisecond."""
SLICE_S = 5.0
"""An activity that waits says so at least this often, in virtual seconds: well under every heartbeat time-out."""


class Stage:
    """Server, client and clock of one process."""

    def __init__(self, environment: WorkflowEnvironment, clock: VirtualClock, watch: Watch) -> None:
        self._environment = environment
        self.clock, self.watch = clock, watch
        self._agents: dict[str, Worker] = {}
        self._jumps = itertools.count()

    @property
    def client(self) -> Client:
        """Connected to the server."""
        return self._environment.client

    async def now(self) -> datetime:
        """What the server says; the clock is set by it."""
        self.clock.set(await self._environment.get_current_time())
        return self.clock()

    async def begin(self, starts: datetime) -> datetime:
        """Lets time pass until the next day's same time: texts that name a time are then right but for the date."""
        now = await self.now() + timedelta(seconds=1)
        at = starts + timedelta(days=(now - starts) // timedelta(days=1) + 1)
        await self.reach(at)
        return at

    async def reach(self, at: datetime) -> None:
        """Lets time pass until just after. Every timer until then fires in its order, and what it starts is waited for."""
        if next(self._jumps) % SET_EVERY == 0:
            await self.now()
        at += JUST_AFTER
        left = at - self.clock.exact()
        if left > timedelta(0):
            request = SleepRequest()
            request.duration.FromTimedelta(left)
            with self.clock.held():
                await self.client.test_service.unlock_time_skipping_with_sleep(request)
                self.clock.reach(at)

    async def wait_in_activity(self, seconds: float) -> None:
        """For an activity that waits for the world: virtual time passes, and its heartbeat goes on.

        The server stands still for an activity, and so must be let go for so long. Its heartbeat is sent here and not by
        the SDK, which holds heartbeats back for real seconds.
        """
        while seconds > 0:
            part = min(seconds, SLICE_S)
            beat = RecordActivityTaskHeartbeatRequest(
                namespace=self.client.namespace, task_token=activity.info().task_token
            )
            await self.client.workflow_service.record_activity_task_heartbeat(beat)
            await self.reach(self.clock.exact() + timedelta(seconds=part))
            seconds -= part

    @asynccontextmanager
    async def working(self, activities: Sequence[Any], domains: Sequence[str]) -> AsyncIterator[None]:
        """Workers over these activities and running Guards, until the block ends.

        What is then still open is terminated: its timers must not fire into the next incident.
        """
        self.watch.begin()
        async with AsyncExitStack() as stack:
            for one in workers_over(self.client, TASK_QUEUE, activities):
                await stack.enter_async_context(one)
            stack.push_async_callback(self._dismiss)
            for domain in domains:
                await self._start_guard(domain)
            try:
                yield
            finally:
                await asyncio.gather(*(self._end(one) for one in self.watch.seen))

    async def hire(self, node: str, activities: Sequence[Any]) -> None:
        """The agent of one node listens from now on, until the incident's end."""
        queue = node_queue(node)
        if queue in self._agents:
            return
        self._agents[queue] = Worker(self.client, task_queue=queue, activities=activities, max_concurrent_activities=1)
        await self._agents[queue].__aenter__()

    async def _dismiss(self) -> None:
        agents, self._agents = self._agents, {}
        await asyncio.gather(*(one.__aexit__(None, None, None) for one in agents.values()))

    async def _start_guard(self, domain: str) -> None:
        await self.client.start_workflow(
            "Guard",
            {"domain": domain, "look_every_s": LOOK_EVERY_S},
            id=guard_id(domain),
            task_queue=guard_queue(),
        )

    async def _end(self, workflow_id: str) -> None:
        try:
            await self.client.get_workflow_handle(workflow_id).terminate("the incident has been played")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """A server of this process alone. NoServer: it is not installed."""
    clock = VirtualClock()
    watch = Watch(clock)
    async with running_server(clock, watch) as server:
        stage = Stage(server, clock, watch)
        await stage.now()
        yield stage
