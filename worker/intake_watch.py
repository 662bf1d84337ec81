"""The intake watches Temporal and pages by itself when it has been away too long: nobody else could.

Once per outage, by the notifier alone and never through Temporal; and when it is back, those who were woken are told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.errors import PortError
from activities.ports import Notify

log = logging.getLogger("interlock.intake")
NOBODY = "interlock-is-temporal-there"
"""A workflow that does not exist: that Temporal says so, it knows from its database."""


@dataclass
class _Outage:
    """One time that Temporal was away. `away_s` is set when it is over."""

    began: float
    since: str
    paged: bool = False
    away_s: float | None = None

    @property
    def key(self) -> str:
        return f"interlock-temporal-away-{self.since}"


class DeadMan:
    """Asks Temporal whether it is there, every few seconds, and pages once per outage."""

    def __init__(self, client: Client, notify: Notify, *, page_after_s: float, rpc_timeout_s: float) -> None:
        self._client = client
        self._notify = notify
        self._after = page_after_s
        self._timeout = rpc_timeout_s
        self._outage: _Outage | None = None
        self._over: list[_Outage] = []
        self.looks = 0

    @property
    def away_s(self) -> float:
        """How long Temporal has been away, seconds; 0 when it is there."""
        return 0.0 if self._outage is None else time.monotonic() - self._outage.began

    async def reachable(self) -> bool:
        """Asks now; remembers when an outage began and when it ended. `looks` counts the questions."""
        self.looks += 1
        why = await self._away()
        if why and self._outage is None:
            self._outage = _Outage(time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds"))
            log.error("Temporal cannot be used: %s", why)
        elif not why and self._outage is not None:
            ended, self._outage = self._outage, None
            ended.away_s = time.monotonic() - ended.began
            log.warning("Temporal is back after %.0f s", ended.away_s)
            if ended.paged:
                self._over.append(ended)
        return not why

    async def _away(self) -> str:
        """Why it cannot be used, or nothing. A health check is not enough: a Temporal that has lost its database, or does
        not know our namespace or our rights, is healthy by its own word and takes no alert."""
        timeout = timedelta(seconds=self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.get_workflow_handle(NOBODY).describe(rpc_timeout=timeout)
        except RPCError as error:
            there = error.status == RPCStatusCode.NOT_FOUND and "amespace" not in error.message
            return "" if there else f"{error.status.name}: {error.message}"
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except RuntimeError as error:  # a lazy client that could not connect
            return str(error)
        return ""

    async def run(self) -> None:
        """Until cancelled. A page that nobody acknowledged is sent again at the next look."""
        while True:
            await self.reachable()
            await self._tell()
            await asyncio.sleep(min(5.0, self._after / 4))

    async def _tell(self) -> None:
        outage = self._outage
        if outage is not None and not outage.paged and self.away_s >= self._after:
            outage.paged = await self._told(
                outage.key,
                "Interlock cannot act: Temporal is away",
                f"Temporal has not answered for {self.away_s:.0f} s, since {outage.since}: no alert is mitigated. "
                "Alerts are answered 503, so detectors send them again. `interlock undo RECEIPT` needs no Temporal.",
            )
            if outage.paged and outage.away_s is not None:
                self._over.append(outage)  # it came back while people were being told that it is away
        while self._over:
            ended = self._over[0]
            if not await self._told(
                f"{ended.key}/back",
                "Temporal is back: Interlock acts again",
                f"Temporal was away for {ended.away_s:.0f} s, since {ended.since}. Alerts are taken again; cases that were "
                "open go on where they stopped, and check everything anew before they act.",
            ):
                return
            self._over.pop(0)

    async def _told(self, key: str, title: str, body: str) -> bool:
        try:
            await self._notify.tell(key, title, body)
        except PortError as error:
            log.error("the page %r was not acknowledged: %s", title, error)
            return False
        return True
