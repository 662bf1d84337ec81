"""What the harness asks of whoever is measured, so that the measures are written once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.bench.alerts import Alert
from tests.bench.sender import Door, Sent
from tests.bench.wire import Connection
from worker.demo.processes import Child, ProcessTree


class CannotRun(Exception):
    """This contestant cannot be made to run here; the sentence is what its row in the table says."""


@dataclass(frozen=True)
class Target:
    """One engine that an alert can be about."""

    cluster: str
    pool: str
    endpoint: str

    def alert(self) -> Alert:
        """A new alert about it, with its own fingerprint."""
        return Alert(self.cluster, self.pool, self.endpoint)


class Contestant(Protocol):
    """One row of the table."""

    name: str
    version: str
    settings: tuple[str, ...]
    """What was set, a sentence each; all else is the documented default."""
    door: Door
    tree: ProcessTree

    async def start(self, sink: int) -> None:
        """Makes its environment if need be, starts it, returns when it takes alerts. CannotRun says why not."""
        ...

    async def next(self) -> Target:
        """A target on which an act is due now: the fault has been there for seconds, and nothing is under way there."""
        ...

    async def over(self, target: Target, alert: Alert) -> None:
        """The act was seen: the fault goes, and the detector says so."""
        ...

    def act_of(self, alert: Alert) -> str:
        """The key by which the sink will know the act on this alert."""
        ...

    def storm(self, count: int) -> list[Alert]:
        """So many distinct alerts, in the order in which they are sent."""
        ...

    async def due(self, accepted: Sequence[Sent]) -> dict[str, str]:
        """Key at the sink → what it is, of every act that these accepted alerts make due, once each."""
        ...

    async def kept(self, accepted: Sequence[Sent]) -> tuple[int, str]:
        """How many of these are durably known to it now, and by what that was looked up; (-1, why) when it keeps nothing."""
        ...

    def kill(self) -> None:
        """SIGKILL to all of its own processes."""
        ...

    async def again(self) -> None:
        """Started as before; returns when it takes alerts."""
        ...

    def stop(self) -> None:
        """Ends what its process tree does not end."""
        ...


class SinkView:
    """Acts as the sink stamped them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = Connection("127.0.0.1", port)
        self._lock = asyncio.Lock()
        self._seen: list[dict[str, Any]] = []

    async def acts(self) -> list[dict[str, Any]]:
        """All of them, oldest first."""
        async with self._lock:
            _, text = await self._connection.ask("GET", f"/acts/{len(self._seen)}")
            self._seen += json.loads(text)
            return list(self._seen)

    async def slow(self, seconds: float) -> None:
        """How long an action takes from now on."""
        async with self._lock:
            await self._connection.ask("POST", "/slow", f'{{"slow_s": {seconds}}}'.encode())

    async def first(self, key: str, after: float, deadline_s: float, every_s: float = 0.1) -> float | None:
        """When the sink first saw this key after a moment (monotonic); None: not within the deadline."""
        until = time.monotonic() + deadline_s
        while True:
            for act in await self.acts():
                if act["key"] == key and act["at"] >= after:
                    return float(act["at"])
            if time.monotonic() > until:
                return None
            await asyncio.sleep(every_s)


async def until(probe: Callable[[], Awaitable[bool]], deadline_s: float, every_s: float = 0.25) -> bool:
    """Polls; False when it never came true."""
    end = time.monotonic() + deadline_s
    while not await probe():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(every_s)
    return True


def descendants(pid: int) -> list[int]:
    """All processes that this one started, and theirs: some of them make a session or a group of their own."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # After the name, which is in brackets and may hold anything: state, parent.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found, rest = list[int](), [pid]
    while rest:
        parent = rest.pop()
        mine = [child for child, its in parents.items() if its == parent]
        found += mine
        rest += mine
    return found


def kill_all(child: Child, tree: ProcessTree) -> None:
    """SIGKILL to a child and to everything that it started, each by its own id."""
    child.expected_dead = True
    for pid in [child.pid, *descendants(child.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.process.wait()
    if child in tree.children:
        tree.children.remove(child)


def cache() -> Path:
    """Where the peers' environments are kept between runs, outside of the repository."""
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return root / "interlock" / "bench"
