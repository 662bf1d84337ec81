"""A whole worker as a process of its own, that ends or stops itself, once, at a named point. It reads a file with a Job.

The processes are forked from one that has imported everything already: many of them start at once on few cores.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from activities.adapters.sql import SqlJournal
from activities.adapters.webhook import LogNotify
from runbooks.base import Model
from runbooks.change import Change, Permit, Receipt
from runbooks.fleet import Fleet
from runbooks.library import Library
from runbooks.policy import Policy
from worker import wiring
from worker.plugin import interlock_plugin
from worker.wiring import Parts

FORKS = get_context("forkserver")
Part = Literal["whole", "acts", "decides"]


class End(Model):
    """The `nth` time that this worker comes to `point`, it gets the signal, unless the marker says that one got it."""

    point: str
    nth: int = 1
    how: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL"
    marker: Path


class Job(Model):
    """What a worker process is made of. It writes `ready` when it polls. `part`: activities, workflows, or both."""

    temporal: str
    task_queue: str
    fleet: Fleet
    policy: Policy
    library: Library
    folder: Path
    envoy_admin: str
    front: str
    ready: Path
    part: Part = "whole"
    end: End | None = None


class Reaper:
    """The checkpoint that is handed to the parts."""

    def __init__(self, end: End | None) -> None:
        self._end = end
        self._seen = 0
        self._lock = threading.Lock()

    def __call__(self, point: str) -> None:
        """Ends or stops this process when it is time."""
        if self._end is None or point != self._end.point:
            return
        with self._lock:
            self._seen += 1
            if self._seen != self._end.nth:
                return
            try:
                self._end.marker.touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), getattr(signal, self._end.how))


class PointedJournal(SqlJournal):
    """The journal with one more point: the intent is written, and the actuator's lock is not yet taken."""

    def __init__(self, url: str, checkpoint: Reaper) -> None:
        super().__init__(url)
        self._checkpoint = checkpoint

    async def intend(self, permit: Permit, change: Change, receipt: Receipt) -> bool:
        """As SqlJournal, then the point."""
        first = await super().intend(permit, change, receipt)
        self._checkpoint("after_intend")
        return first


def start(job: Path, log: Path) -> ForkServerProcess:
    """A new worker process; what it says goes to `log`."""
    FORKS.set_forkserver_preload(["pytest", "tests.crash.warm"])
    process = FORKS.Process(target=_run, args=(job, log))
    process.start()
    return process


def _run(job: Path, log: Path) -> None:
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    asyncio.run(_work(Job.model_validate_json(job.read_bytes())))


def _worker(part: Part, client: Client, **options: Any) -> Worker:
    match part:
        case "acts":
            # A stopped process keeps its long polls, and each would swallow a task: with its one slot taken it has none.
            return Worker(client, **{**options, "max_concurrent_activities": 1})
        case "decides":
            return Worker(client, **options, no_remote_activities=True)
        case "whole":
            return Worker(client, **options)


async def _work(job: Job) -> None:
    """Polls until the process is ended."""
    if job.part == "acts":
        client = await Client.connect(job.temporal, data_converter=pydantic_data_converter)  # no plugin, no workflows
    else:
        client = await Client.connect(job.temporal, plugins=[interlock_plugin()])
    reaper = Reaper(job.end)
    parts = Parts(
        client=client,
        fleet=job.fleet,
        policy=job.policy,
        library=job.library,
        journal=PointedJournal(f"sqlite:///{job.folder / 'journal.db'}", reaper),
        notify=LogNotify(job.folder / "pages.jsonl"),
        claim_key=b"k" * 32,
        envoy_folder=job.folder / "edge",
        envoy_admin=job.envoy_admin,
        route_urls={r.name: job.front for r in job.fleet.routes},
        watch_period_s=1.0,
        probe_timeout_s=0.7,
        task_queue=job.task_queue,
        checkpoint=reaper,
    )
    wiring.Worker = partial(_worker, job.part)  # type: ignore[attr-defined, assignment]
    async with wiring.running_worker(parts):
        job.ready.touch()
        await asyncio.Event().wait()
