"""Who watches Interlock: every few seconds it asks each Guard and the open cases, and keeps what it saw for Prometheus.

It changes nothing, starts nothing, and runs as a process of its own (`interlock watch`), so that it is there when a
worker is not. A measurement that could not be made is absent, or says so; it never stays at its last value.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import httpx
from temporalio.client import Client

from worker.settings import WatchSettings
from worker.watchman_ask import Approval, Asker, CaseSeen, NoAnswer, intake_ready
from worker.watchman_gauges import Seen, of_cases, of_guard
from worker.watchman_text import Reading

log = logging.getLogger("interlock.watch")
MOST_CASES = 1000
"""Open cases that are listed in one round."""
MOST_ASKED = 50
"""Cases that are asked what they wait for in one round, the oldest first: each answer costs a worker some work."""
AT_ONCE = 10


class Watchman:
    """`domains` come from the fleet file: a Guard that is not there must be missed, and no search would find it."""

    def __init__(
        self,
        client: Client,
        http: httpx.AsyncClient,
        domains: Sequence[str],
        settings: WatchSettings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ask = Asker(client, settings.rpc_timeout_s)
        self._http = http
        self._domains = tuple(domains)
        self._settings = settings
        self._clock = clock
        self._seen: Seen | None = None
        self._since: dict[tuple[str, str], tuple[str, datetime]] = {}
        self._why: dict[str, str] = {}
        self._good_at: datetime | None = None
        self.rounds = 0
        self.failed = 0

    @property
    def stale_after_s(self) -> float:
        """What was seen is not shown any longer than this."""
        return 3 * self._settings.every_s + 10 * self._settings.rpc_timeout_s

    async def run(self) -> None:
        """Until cancelled. An error that nobody foresaw ends it, and with it the process: the dead man is noticed."""
        while True:
            await self.round()
            await asyncio.sleep(self._settings.every_s)

    async def round(self) -> None:
        """Asks everybody once. The round counts as good when the open cases could be read; a Guard that does not answer
        is a finding and not a failure."""
        guards, ready, (cases, unlisted) = await asyncio.gather(
            asyncio.gather(*(self._ask.guard(d) for d in self._domains)),
            asyncio.gather(
                *(intake_ready(self._http, u, self._settings.rpc_timeout_s) for u in self._settings.intake_urls)
            ),
            self._cases(),
        )
        waiting = sorted((c for c in cases or () if c.state == "waiting_approval"), key=lambda c: c.started_at)
        approvals, silent = await self._approvals(waiting[:MOST_ASKED])
        for guard in guards:
            if guard.why != self._why.get(guard.domain, ""):
                log.warning("the Guard of %s: %s", guard.domain, guard.why or "answers again")
            self._why[guard.domain] = guard.why
        self._seen = Seen(
            at=time.monotonic(),
            guards=tuple(guards),
            intakes=dict(zip(self._settings.intake_urls, ready, strict=True)),
            cases=cases,
            approvals=approvals,
            silent=silent,
            unread=len(waiting[MOST_ASKED:]) + unlisted,
        )
        self.rounds += 1
        if cases is None:
            self.failed += 1
        else:
            self._good_at = self._clock()

    async def _cases(self) -> tuple[tuple[CaseSeen, ...] | None, int]:
        """Open cases, and at least how many more there are."""
        try:
            found = await self._ask.open_cases(MOST_CASES + 1)
        except NoAnswer as error:
            log.error("the open cases cannot be read: %s", error)
            return None, 0
        cases = tuple(found[:MOST_CASES])
        now, had = self._clock(), self._since
        self._since = {}
        for case in cases:
            key = (case.workflow_id, case.run_id)
            before = had.get(key)
            if (
                before is None
            ):  # perhaps it went there just now; but then a watch that restarts would excuse a stuck one
                self._since[key] = (case.state, case.started_at)
            else:
                self._since[key] = before if before[0] == case.state else (case.state, now)
        return cases, len(found) - len(cases)

    async def _approvals(self, cases: Sequence[CaseSeen]) -> tuple[tuple[Approval, ...], int]:
        """What they wait for, and how many did not answer."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(case: CaseSeen) -> Approval | NoAnswer | None:
            async with gate:
                try:
                    return await self._ask.approval(case)
                except NoAnswer as error:
                    log.warning("%s does not answer: %s", case.workflow_id, error)
                    return error

        found = await asyncio.gather(*(one(c) for c in cases))
        return tuple(a for a in found if isinstance(a, Approval)), len([a for a in found if isinstance(a, NoAnswer)])

    def readings(self) -> list[Reading]:
        """What is known now. Times count on between two rounds; what is too old is left out."""
        found = [
            Reading("interlock_watch_rounds_total", self.rounds),
            Reading("interlock_watch_rounds_failed_total", self.failed),
        ]
        if self._good_at is not None:
            found.append(Reading("interlock_watch_last_good_round_timestamp_seconds", self._good_at.timestamp()))
        seen, now = self._seen, self._clock()
        if seen is None or time.monotonic() - seen.at > self.stale_after_s:
            return found
        for guard in seen.guards:
            found += of_guard(guard, now)
        found += [Reading("interlock_intake_ready", float(ok), {"intake": url}) for url, ok in seen.intakes.items()]
        if seen.cases is not None:
            found += of_cases(seen, seen.cases, self._since.values(), now)
        return found
