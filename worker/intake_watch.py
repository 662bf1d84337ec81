"""The intake watches Temporal and pages by itself when it has been away too long: nobody else could."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from activities.errors import PortError
from activities.ports import Notify

log = logging.getLogger("interlock.intake")


class DeadMan:
    """Asks Temporal whether it is there, every few seconds, and pages once per outage."""

    def __init__(self, client: Client, notify: Notify, *, page_after_s: float, rpc_timeout_s: float) -> None:
        self._client = client
        self._notify = notify
        self._after = page_after_s
        self._timeout = rpc_timeout_s
        self._away_since: float | None = None
        self._outage = ""
        self._paged = False
        self.looks = 0

    @property
    def away_s(self) -> float:
        """How long Temporal has been away, seconds; 0 when it is there."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    async def reachable(self) -> bool:
        """Asks now; remembers when an outage began and when it ended. `looks` counts the questions."""
        self.looks += 1
        try:
            async with asyncio.timeout(self._timeout):
                there = await self._client.service_client.check_health(timeout=timedelta(seconds=self._timeout))
        except (RPCError, RuntimeError, TimeoutError):
            there = False
        if there:
            if self._away_since is not None:
                log.warning("Temporal is back after %.0f s", self.away_s)
            self._away_since, self._paged = None, False
        elif self._away_since is None:
            self._away_since, self._outage = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
            log.error("Temporal does not answer")
        return there

    async def run(self) -> None:
        """Until cancelled. A page that nobody acknowledged is sent again at the next look."""
        while True:
            await self.reachable()
            if self._away_since is not None and not self._paged and self.away_s >= self._after:
                await self._page()
            await asyncio.sleep(min(5.0, self._after / 4))

    async def _page(self) -> None:
        try:
            await self._notify.tell(
                f"interlock-temporal-away-{self._outage}",
                "Interlock cannot act: Temporal is away",
                f"Temporal has not answered for {self.away_s:.0f} s, since {self._outage}: no alert is mitigated. "
                "Alerts are answered 503, so detectors send them again. `interlock undo RECEIPT` needs no Temporal.",
            )
            self._paged = True
        except PortError as error:
            log.error("the page about Temporal being away was not acknowledged: %s", error)
