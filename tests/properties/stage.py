"""What a stateful test needs to drive real workflows step by step: a server, a worker that can be crashed, and a count.

Hypothesis calls its rules one after another, so server and worker live on an event loop of a thread of their own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test
from temporalio.api.testservice.v1 import SleepRequest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from tests import lab as labs
from worker.plugin import interlock_plugin

T = TypeVar("T")
SHUTDOWN_S = 45.0
"""A worker that takes longer to end is left behind, as one that was killed."""
STEPS, SEED = "INTERLOCK_PROPERTY_STEPS", "INTERLOCK_PROPERTY_SEED"
DEFAULT_STEPS = 400
told: list[str] = []
"""What the end of the run says: steps, time and seeds. See conftest.py."""


def steps_wanted() -> int:
    """Steps over all properties of this run."""
    return int(os.environ.get(STEPS, DEFAULT_STEPS))


@dataclass
class Stage:
    """Thread, loop, server and worker. `skipping`: the v1 test server, whose clock jumps."""

    folder: Path
    skipping: bool = False
    steps: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _worker: Worker | None = None
    _running: asyncio.Task[None] | None = None
    _make: Callable[[], Worker] | None = None

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="stage", daemon=True)
        self._thread.start()
        self.environment: WorkflowEnvironment = self.do(self._serve(), 60)

    @property
    def client(self) -> Client:
        """With Interlock's plugin."""
        return self.environment.client

    def do(self, work: Coroutine[Any, Any, T], limit_s: float = 120.0) -> T:
        """Runs it on the stage's loop and waits. A stuck workflow fails here, and says so."""
        found = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return found.result(limit_s)
        except TimeoutError:
            found.cancel()
            raise AssertionError(f"no end within {limit_s} s: {work}") from None

    async def _serve(self) -> WorkflowEnvironment:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.skipping:
            return await self._stack.enter_async_context(labs.temporal_server(self.folder))
        path = shutil.which("temporal-test-server", path=str(Path(sys.executable).parent))
        server = await WorkflowEnvironment.start_time_skipping(
            test_server_existing_path=path, plugins=[interlock_plugin()]
        )
        return await self._stack.enter_async_context(server)

    def employ(self, make: Callable[[], Worker]) -> None:
        """Starts the worker that `make` makes; `crash` starts another one of it."""
        self.do(self._fire())
        self._make = make
        self.do(self._hire())

    async def _hire(self) -> None:
        assert self._make is not None
        worker = self._make()
        self._worker, self._running = worker, asyncio.create_task(worker.run())

    async def _fire(self) -> None:
        if self._worker is None or self._running is None:
            return
        worker, running = self._worker, self._running
        self._worker = self._running = None
        going = asyncio.gather(worker.shutdown(), running, return_exceptions=True)
        _, hangs = await asyncio.wait([going], timeout=SHUTDOWN_S)
        if hangs:
            # Rare, and not understood: who it waits for is told. A crash needs no good end, and what it held is taken over.
            self.counts["shutdowns that hung"] += 1
            for task in asyncio.all_tasks():
                task.print_stack(limit=6)

    def crash(self) -> None:
        """The worker goes, with what it has under way and all that it remembers; another one begins."""
        self.do(self._crash())

    async def _crash(self) -> None:
        await self._fire()
        await self._hire()

    async def now(self) -> datetime:
        """The server's clock."""
        if not self.skipping:
            return datetime.now(UTC)
        return await self.environment.get_current_time()

    def jump(self, seconds: float) -> None:
        """v1 alone: the server's clock goes on by so much, and every timer on the way fires in its order."""
        assert self.skipping
        request = SleepRequest()
        request.duration.FromTimedelta(timedelta(seconds=seconds))
        self.do(self.client.test_service.unlock_time_skipping_with_sleep(request), 120)

    def close(self) -> None:
        """Ends worker, server and loop."""
        self.do(self._fire())
        self.do(self._stack.aclose())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


def play(name: str, stage: Stage, machine: type[RuleBasedStateMachine], steps: int, per_example: int) -> None:
    """Runs sequences of `machine` until the stage has counted `steps`. Every seed is told, and one seed replays its part:
    INTERLOCK_PROPERTY_SEED with the same number of steps."""
    given = os.environ.get(SEED)
    # The default run plays the same sequences each time: what it finds must be the change's, not the day's.
    usual = steps_wanted() == DEFAULT_STEPS
    root = int(given) if given else 20_261_124 if usual else time.time_ns() % 10**9
    began, start = time.monotonic(), stage.steps
    part = 0
    try:
        while stage.steps - start < steps:
            left = steps - (stage.steps - start)
            rules = settings(
                max_examples=max(1, min(20, left // per_example)),
                stateful_step_count=per_example,
                deadline=None,
                database=None,
                print_blob=False,
                verbosity=Verbosity.normal,
                phases=(Phase.generate,),
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            )
            run_state_machine_as_test(seed(root + part)(machine), settings=rules)
            part += 1
    finally:
        took = time.monotonic() - began
        hung = stage.counts["shutdowns that hung"]
        told.append(
            f"{name}: {stage.steps - start} steps in {took:.0f} s; {SEED}={root} plays them again (part {part})"
            + (f"; {hung} shutdown(s) of a worker hung" if hung else "")
        )
