"""The built-in detector: asks every endpoint for a real token each period, and says what that proves.

Health pages stay green while an engine hangs; a token cannot be faked. Rules: `detect_rules.py`. Sending: `detect_send.py`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from activities.errors import PortError
from activities.ports import Generation
from runbooks.detection import Detection, Severity, Target
from runbooks.fleet import Fleet, Pool
from worker.detect_rules import (
    ANSWERS,
    NEEDED,
    Fault,
    Outcome,
    Track,
    endpoint_fault,
    pool_answers,
    pool_lost,
    undecided,
)

log = logging.getLogger("interlock.detect")
REPEAT_S = 15.0
NAME = "generation-probe"
Sink = Callable[[Detection], Awaitable[None]]
Counter = Callable[[str], Awaitable[float | None]]
"""The engine's token counter by address; None: it could not be read."""


class Generates(Protocol):
    """The part of `Prober` that the detector needs."""

    async def generate(self, scope: str) -> Generation:
        """One real generation."""
        ...


@dataclass
class _Open:
    """A fault that was told and is not resolved."""

    fault: Fault
    started_at: datetime
    told_at: datetime


class Detector:
    """Probes all endpoints in rounds. `sink` gets firing, repeats (every `repeat_s`) and resolved Detections."""

    def __init__(
        self,
        fleet: Fleet,
        prober: Generates,
        sink: Sink,
        *,
        counter: Counter | None = None,
        period_s: float = 1.0,
        deadline_s: float = 2.0,
        repeat_s: float = REPEAT_S,
    ) -> None:
        self._fleet = fleet
        self._prober = prober
        self._sink = sink
        self._counter = counter
        self._period_s = period_s
        self._deadline_s = deadline_s
        self._repeat = timedelta(seconds=repeat_s)
        # A hung endpoint holds each generation to its deadline: one a period goes on being sent, and no more.
        self._most_at_once = math.ceil(deadline_s / period_s) + 1
        self._tracks = {p.name: {e.address: Track() for e in p.endpoints} for p in fleet.pools}
        self._busy = {e.address: 0 for p in fleet.pools for e in p.endpoints}
        self._open: dict[tuple[str, str | None, str], _Open] = {}
        self._pool_back: dict[str, datetime] = {}
        self._tasks = set[asyncio.Task[None]]()

    def states(self) -> dict[str, str]:
        """Each endpoint's state in a word, for a live view."""
        return {address: track.state.value for pool in self._tracks.values() for address, track in pool.items()}

    async def run(self) -> None:
        """Until cancelled. Endpoints of one pool are asked in the same round, so that they can be compared."""
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        try:
            while True:
                for pool in self._fleet.pools:
                    for endpoint in pool.endpoints:
                        if self._busy[endpoint.address] < self._most_at_once:
                            task = asyncio.create_task(self._ask(pool, endpoint.address))
                            self._tasks.add(task)
                            task.add_done_callback(self._done)
                next_at = max(next_at + self._period_s, loop.time())
                await asyncio.sleep(next_at - loop.time())
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a probe ended in an error of ours", exc_info=task.exception())

    async def _ask(self, pool: Pool, address: str) -> None:
        track = self._tracks[pool.name][address]
        self._busy[address] += 1
        try:
            # Its token counter is read while we wait for the token, so that a hang is not told later for it.
            counting = self._busy[address] > 1 or bool(track.failures)
            generation, _ = await asyncio.gather(
                self._prober.generate(address), self._count(address, track) if counting else asyncio.sleep(0)
            )
        except PortError as error:
            log.warning("%s could not be asked, which says nothing about it: %s", address, error)
            return
        finally:
            self._busy[address] -= 1
        track.add(generation.observed_at, outcome_of(generation, self._deadline_s))
        await self._judge(pool)

    async def _count(self, address: str, track: Track) -> None:
        tokens = None if self._counter is None else await self._counter(address)
        if tokens is not None:
            track.count(datetime.now(UTC), tokens)

    async def _judge(self, pool: Pool) -> None:
        """Everything up to the sink is without await: two probes that end together must not both tell a fault."""
        tracks, now, news = self._tracks[pool.name], datetime.now(UTC), list[Detection]()
        lost = pool_lost(tracks)
        if lost is not None:
            news += self._firing(pool, lost, now)
        elif pool_answers(tracks) and (ended := self._resolved(pool, None, now)):
            news += ended
            self._pool_back[pool.name] = now
        pool_is_out = (pool.name, None, "PoolEnginesLost") in self._open
        for address, track in tracks.items():
            if track.answers >= ANSWERS:
                news += self._resolved(pool, address, now)
                continue
            fault = endpoint_fault(address, tracks)
            known = fault is not None and (pool.name, address, fault.alert) in self._open
            # After a pool's outage its engines come back one by one: who is late is not accused of the time before.
            since = self._pool_back.get(pool.name)
            fresh = since is None or sum(1 for at, _ in track.failures if at > since) >= NEEDED
            if fault is not None and (known or (fresh and not pool_is_out and not undecided(tracks))):
                news += self._firing(pool, fault, now)
        for detection in news:
            await self._sink(detection)

    def _firing(self, pool: Pool, fault: Fault, now: datetime) -> list[Detection]:
        key = (pool.name, fault.endpoint, fault.alert)
        known = self._open.get(key)
        if known is not None and now - known.told_at < self._repeat:
            return []
        started_at = fault.since if known is None else known.started_at
        self._open[key] = _Open(fault, started_at, now)
        return [_detection(pool, fault, started_at, "firing")]

    def _resolved(self, pool: Pool, address: str | None, now: datetime) -> list[Detection]:
        ended = [k for k in self._open if k[:2] == (pool.name, address)]
        news = []
        for key in ended:
            was = self._open.pop(key)
            fault = Fault(was.fault.alert, address, was.started_at, now, {"answers": ANSWERS})
            news.append(_detection(pool, fault, was.started_at, "resolved"))
        return news


def outcome_of(generation: Generation, deadline_s: float) -> Outcome:
    """The kind of a generation. The port has words, not kinds: a time-out is told by its length."""
    if generation.ok:
        return Outcome.OK
    if generation.seconds >= 0.95 * deadline_s:
        return Outcome.TIMEOUT
    # "cannot connect" and a connection that breaks are what a process leaves behind that dies under a request.
    return Outcome.REFUSED if "refused" in generation.why or "connect" in generation.why else Outcome.OTHER


def _detection(pool: Pool, fault: Fault, started_at: datetime, status: str) -> Detection:
    target = Target(cluster=pool.cluster, service=pool.name, endpoint=fault.endpoint)
    return Detection.model_validate(
        {
            "alert": fault.alert,
            "target": target,
            "status": status,
            "severity": Severity.CRITICAL,
            "labels": {"pool": pool.name},
            "evidence": fault.evidence,
            "started_at": started_at,
            "observed_at": fault.newest,
            "detector": NAME,
            # One fault, one value, over all repeats and its end; started_at tells two faults of one endpoint apart.
            "fingerprint": f"{NAME}:{fault.alert}:{target.id}"[:128],
        }
    )
