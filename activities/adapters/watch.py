"""Keeps the newest look at every endpoint, so that a gate gets pool states at once instead of waiting for probes.

A look is one real generation and one scrape. An engine whose probe ran out of time is still answering when its counter
of generated tokens rose while the probe waited: a busy engine is not hung.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import TracebackType

from activities.adapters.dialects import DIALECTS, Dialect
from activities.adapters.indicators import attempt
from activities.adapters.probe import HttpProber
from activities.adapters.reading import NotMeasured
from activities.adapters.scrape import Page, Pair, ScrapeSource
from activities.errors import PortError
from activities.ports import Generation
from runbooks.fleet import Fleet, Pool

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """One endpoint at a time. `began` and `ended` are monotonic seconds; `counters` is None when the scrape failed."""

    address: str
    generation: Generation
    busy: bool
    counters: Pair | None
    began: float
    ended: float

    @property
    def answering(self) -> bool:
        """It gave a token, or gave tokens to others meanwhile."""
        return self.generation.ok or self.busy

    @property
    def observed_at(self) -> datetime:
        """The oldest moment that this look rests on."""
        at = self.generation.observed_at
        return min(at, self.counters.base.observed_at) if self.counters else at


async def look(prober: HttpProber, source: ScrapeSource, pool: Pool, address: str, timeout_s: float) -> Look:
    """Looks at one endpoint now; `timeout_s` bounds the generation. Raises the Prober's errors."""
    began = time.monotonic()
    generation, pair = await asyncio.gather(prober.within(address, timeout_s), attempt(source.engine_pair, address))
    counters = pair if isinstance(pair, Pair) else None
    busy = False
    if not generation.ok and counters is not None:
        after = await attempt(source.engine, address)
        busy = isinstance(after, Page) and _rose(DIALECTS[pool.dialect], counters.last, after)
    return Look(address, generation, busy, counters, began, time.monotonic())


def _rose(dialect: Dialect, before: Page, after: Page) -> bool:
    for name in dialect.progress:
        try:
            if Pair(before, after).gain(name) > 0:
                return True
        except NotMeasured:
            continue  # a counter that this version lacks proves nothing; the other one may
    return False


class PoolWatcher:
    """Looks at every endpoint of the fleet each `period_s` seconds, one after the other, and reads Envoy's counters as often.

    Use as `async with`, or `start` and `stop`. Looks start on the beat even while a slow one is under way: a hung
    engine takes the whole `probe_timeout_s`, and its state must not be older for it.
    """

    def __init__(
        self,
        fleet: Fleet,
        prober: HttpProber,
        source: ScrapeSource,
        envoy_admin: str | None = None,
        period_s: float = 1.0,
        probe_timeout_s: float = 1.5,
    ) -> None:
        # By address: an engine that serves in several pools is looked at once a beat, and not once for each of them.
        self._places = list({e.address: (pool, e.address) for pool in fleet.pools for e in pool.endpoints}.values())
        self._prober = prober
        self._source = source
        self._admin = envoy_admin
        self._period_s = period_s
        self._timeout_s = probe_timeout_s
        self._looks: dict[str, Look] = {}
        self._beats: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begins, in the running loop."""
        # Spread over the period: hundreds of probes at one moment would each wait for the others, and time out for it.
        apart_s = self._period_s / max(len(self._places), 1)
        self._beats = [
            asyncio.create_task(self._beat(partial(self._see, *place), n * apart_s))
            for n, place in enumerate(self._places)
        ]
        if self._admin is not None:
            self._beats.append(asyncio.create_task(self._beat(partial(self._see_envoy, self._admin))))

    async def stop(self) -> None:
        """Ends. Looks under way may finish within their deadline: a connection cancelled while it connects leaks."""
        for beat in self._beats:
            beat.cancel()
        await asyncio.gather(*self._beats, return_exceptions=True)
        self._beats = []
        if running := set(self._running):
            _, late = await asyncio.wait(running, timeout=2 * self._timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def __aenter__(self) -> PoolWatcher:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def newest(self, address: str) -> Look | None:
        """The newest look that ended within two periods; None: not measured."""
        found = self._looks.get(address)
        if found is None or time.monotonic() - found.ended > 2 * self._period_s:
            return None
        return found

    async def _beat(self, see: Callable[[], Awaitable[None]], first_s: float = 0.0) -> None:
        await asyncio.sleep(first_s)
        while True:
            task = asyncio.create_task(self._safe(see))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(self._period_s)

    async def _safe(self, see: Callable[[], Awaitable[None]]) -> None:
        try:
            await see()
        except (PortError, NotMeasured) as error:
            # Nothing is kept: the old look ages, and what is too old counts as not measured.
            _log.warning("not measured: %s", error)

    async def _see(self, pool: Pool, address: str) -> None:
        seen = await look(self._prober, self._source, pool, address, self._timeout_s)
        kept = self._looks.get(address)
        if kept is None or kept.began < seen.began:
            self._looks[address] = seen

    async def _see_envoy(self, admin: str) -> None:
        await self._source.envoy(admin)
