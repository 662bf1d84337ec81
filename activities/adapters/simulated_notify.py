"""Tells nobody, and keeps what people would have been told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from activities.ports import Told

QUIET = timedelta(hours=1)


@dataclass(frozen=True)
class Page:
    """One page, as people would have read it."""

    dedup_key: str
    title: str
    body: str
    at: datetime


class SimulatedNotify:
    """Implements Notify. `pages` holds each key once an hour, the first one first."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._told: dict[str, Told] = {}
        self.pages: list[Page] = []

    async def tell(self, dedup_key: str, title: str, body: str) -> Told:
        """Kept, unless the key was within the hour."""
        at = self._clock()
        told = self._told.get(dedup_key)
        if told is None or at - told.at >= QUIET:
            self.pages.append(Page(dedup_key, title, body, at))
            reference = f"page-{len(self.pages)}"
            told = Told(channel="simulated", dedup_key=dedup_key, reference=reference, at=at)
            self._told[dedup_key] = told
        return told
