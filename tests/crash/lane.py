"""A lane: one domain of its own (Envoy, journal, task queue, worker process) over the lab's engines and server.

Lanes run side by side, so that many kill points wait out the time-outs of a dead attempt together.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import httpx
from temporalio.client import Client, WorkflowHandle

from activities.adapters.sql import SqlJournal
from runbooks.detection import Detection, Target
from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from tests import lab as labs
from tests.crash import worker_process
from tests.crash.cases import Story
from tests.crash.watched import Watched
from tests.crash.worker_process import End, Job, Part
from worker.edge import envoy_command, write_edge

PER_SECOND = 3.0
"""Load of one lane, requests per second."""
WARM = 12
"""Requests served before a case is opened: without any, no gate knows the load."""
COUNTED = "runtime.load_success|cluster_manager.cluster_modified|cluster\\..*\\.update_success"


@dataclass
class Lane(Watched):
    """Handles to one lane. `deaths` counts the worker processes that ended by their own kill point."""

    name: str
    lab: labs.Lab
    story: Story
    folder: Path
    fleet: Fleet
    admin: str
    front: str
    end: End | None = None
    workers: list[ForkServerProcess] = field(default_factory=list)
    deaths: int = 0
    detection: Detection | None = None
    handle: WorkflowHandle[Any, Any] | None = None
    before: dict[str, int] = field(default_factory=dict)
    served: int = 0

    def temporal(self) -> Client:
        """See `Watched`."""
        return self.lab.client

    @property
    def target(self) -> Target:
        """What the fault is about: the sick engine, or its pool."""
        endpoint = self.lab.engines["a0"].address if self.story.endpoint else None
        return Target(cluster=self.name, service="chat-a", endpoint=endpoint)

    async def start_workers(self) -> None:
        """The first workers: one, or apart the one that will be stopped inside its act."""
        if self.end is not None and self.end.how == "SIGSTOP":
            await self.start_worker("acts")
            await self.start_worker("decides")
        else:
            await self.start_worker()

    async def start_worker(self, part: Part = "whole") -> ForkServerProcess:
        """A new worker process; returns when it polls."""
        number = len(self.workers)
        job = Job(
            temporal=self.lab.client.service_client.config.target_host,
            task_queue=self.name,
            fleet=self.fleet,
            policy=self.story.policy,
            library=self.story.library,
            folder=self.folder,
            envoy_admin=self.admin,
            front=self.front,
            ready=self.folder / f"ready-{number}",
            part=part,
            end=self.end,
        )
        path = self.folder / f"job-{number}.json"
        path.write_text(job.model_dump_json(by_alias=True))
        worker = worker_process.start(path, self.folder / f"worker-{number}.log")
        self.workers.append(worker)

        async def polls() -> bool:
            return job.ready.exists() or worker.exitcode is not None

        await labs.until(polls, f"worker {number} of {self.name} polls", 120)
        assert job.ready.exists(), f"worker {number} of {self.name} did not start:\n{self.log()}"
        return worker

    async def warm(self) -> None:
        """Waits until the load can be measured."""
        start = self.served

        async def enough() -> bool:
            return self.served >= start + WARM

        await labs.until(enough, f"{self.name} serves its load", 60)

    async def replace_worker(self) -> None:
        """SIGKILL now, and a new worker."""
        self.workers[-1].kill()
        self.workers[-1].join(10)
        self.deaths += 1
        await self.start_worker()

    async def keep_working(self) -> None:
        """Puts a new worker in the place of one that was killed at its point; a death of another kind fails."""
        while True:
            await asyncio.sleep(0.1)
            code = self.workers[-1].exitcode
            if code is None:
                continue
            killed = code == -signal.SIGKILL and self.end is not None and self.end.marker.exists()
            assert killed, f"the worker of {self.name} ended by itself ({code}):\n{self.log()}"
            assert self.deaths == 0, f"the worker of {self.name} was killed twice"
            self.deaths += 1
            await self.start_worker()

    async def open(self) -> None:
        """Remembers Envoy's counts, and starts the case as the intake does."""
        self.before = await self.counts()
        now = datetime.now(UTC)
        self.detection = Detection.model_validate(
            {
                "alert": self.story.alert,
                "target": self.target,
                "severity": "critical",
                "evidence": self.story.evidence,
                "started_at": now,
                "observed_at": now,
                "detector": "lab",
            }
        )
        self.handle = await self.lab.client.start_workflow(
            "Remediation",
            self.detection,
            id=self.detection.workflow_id,
            task_queue=self.name,
            start_signal="detect",
            start_signal_args=[self.detection],
        )

    async def resolve(self) -> None:
        """The detector says that it is over."""
        assert self.detection is not None
        await self.lab.resolve(self.detection)

    async def counts(self) -> dict[str, int]:
        """What this lane's Envoy has taken in since it started, by kind of file."""
        text = (await self.lab.http.get(f"{self.admin}/stats", params={"filter": COUNTED})).text
        return {k: int(v) for k, v in (line.split(": ") for line in text.splitlines() if ": " in line)}

    async def taken_in(self) -> dict[str, int]:
        """Updates that Envoy has taken in since the case was opened, those that are not 0."""
        now = await self.counts()
        return {k: v - self.before.get(k, 0) for k, v in now.items() if v != self.before.get(k, 0)}

    async def unsettled(self) -> list[str]:
        """Receipts and intents that the journal counts as open."""
        assert self.handle is not None
        journal = SqlJournal(f"sqlite:///{self.folder / 'journal.db'}")
        try:
            return [r.id for r in await journal.unsettled(self.handle.id)]
        finally:
            journal.dispose()


def timeline(status: dict[str, Any]) -> str:
    """A case's timeline for a failed test."""
    return "\n".join(f"{e['at'][11:23]} {e['what']}: {e['text']}" for e in status.get("timeline", []))


def _fleet(lab: labs.Lab, cluster: str, number: int) -> Fleet:
    """A few engines of the lab, as a domain of its own; the healthy ones are shared out, or they would queue."""
    shared = {"chat-a": ("a0", f"a{1 + number % 2}"), "chat-b": (f"b{number % 3}",)}
    return Fleet(
        routes=(Route(name="chat", pools=("chat-a", "chat-b"), tiers=("batch", "paid")),),
        pools=tuple(
            Pool(
                name=pool,
                cluster=cluster,
                dialect="vllm",
                model="smollm2",
                # More than the engines can: all lanes' load is seen at them, and room must not decide how much moves.
                tokens_per_second=5000,
                endpoints=tuple(Endpoint(address=lab.engines[name].address) for name in names),
            )
            for pool, names in shared.items()
        ),
        controls=outside(cluster),
    )


@asynccontextmanager
async def running_lane(
    lab: labs.Lab,
    folder: Path,
    story: Story,
    name: str,
    end: tuple[str, int] | None = None,
    how: Literal["SIGKILL", "SIGSTOP"] = "SIGKILL",
    number: int = 0,
) -> AsyncIterator[Lane]:
    """A lane with Envoy and a load, and no worker yet. `end`: point and the how-manieth time it is reached.

    `number` says which of the healthy engines it shares.
    """
    folder = folder / name
    folder.mkdir(parents=True)
    fleet = _fleet(lab, name, number)
    admin, front = labs.free_port(), labs.free_port()
    boot = write_edge(
        fleet,
        folder / "edge",
        admin_port=admin,
        listen_port=front,
        weights={"chat": {"chat-a": 50, "chat-b": 50}},
        route_timeout_s=1.0,
    )
    async with AsyncExitStack() as stack:
        stack.callback(_finish, _start(envoy_command(boot), folder / "envoy.log", folder / "edge"))
        lane = Lane(
            name=name,
            lab=lab,
            story=story,
            folder=folder,
            fleet=fleet,
            admin=f"http://127.0.0.1:{admin}",
            front=f"http://127.0.0.1:{front}",
            end=End(point=end[0], nth=end[1], how=how, marker=folder / "ended") if end else None,
        )
        stack.callback(lane.end_workers)

        async def live() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return (await lab.http.get(f"{lane.admin}/ready")).text.strip() == "LIVE"
            return False

        await labs.until(live, f"Envoy of {name} is live", 60)
        task = asyncio.create_task(_load(lane))
        try:
            yield lane
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _start(argv: list[str], log: Path, folder: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, cwd=folder)


def _finish(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(10)


async def _load(lane: Lane) -> None:
    body = {"model": "smollm2", "prompt": "hello", "max_tokens": 4}
    running: set[asyncio.Task[None]] = set()

    async def one() -> None:
        # Its result is Envoy's to count.
        with contextlib.suppress(httpx.HTTPError):
            answer = await lane.lab.http.post(f"{lane.front}/v1/completions", json=body, timeout=3)
            lane.served += answer.status_code == 200

    while True:
        task = asyncio.create_task(one())
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(1 / PER_SECOND)


__all__ = ["Lane", "running_lane", "timeline"]
