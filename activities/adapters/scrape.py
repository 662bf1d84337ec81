"""Reads an engine's /metrics and Envoy's admin /stats directly, and keeps what it read, so that rates can be told.

A rate needs two readings at least `gap_s` apart. The newest kept one that is old enough and not older than `window_s`
is the base; where there is none, the first reading is followed by a second after `gap_s`, so one call always suffices.
The time of a rate is that of its base, the oldest moment it rests on.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import httpx

from activities.adapters.exposition import Metric, parse, total
from activities.adapters.reading import Clock, NotMeasured, failure, utc_now

_ENVOY_STATS = (
    r"^cluster\..*\.(upstream_rq_(4xx|5xx|400|415|422|429|completed|total|tx_reset|timeout|per_try_timeout)"
    r"|upstream_cx_(destroy_local_with_active_rq|connect_fail))$"
)
_ENVOY_FORM = {"format": "json", "filter": _ENVOY_STATS}


@dataclass(frozen=True)
class Page:
    """One reading of one address. `tick` is monotonic seconds: a stepped wall clock must not bend a rate."""

    metrics: list[Metric]
    observed_at: datetime
    tick: float

    def value(self, name: str) -> float:
        """Sum over the metric's label sets. NotMeasured: the page does not have it."""
        found = total(self.metrics, name)
        if found is None:
            raise NotMeasured(f"there is no {name}")
        return found


@dataclass(frozen=True)
class Pair:
    """Two readings of one address, oldest first."""

    base: Page
    last: Page

    @property
    def seconds(self) -> float:
        """Time between the two."""
        return self.last.tick - self.base.tick

    def gain(self, name: str) -> float:
        """By how much a counter rose. NotMeasured: it is missing or went back (a restart between the two)."""
        rise = self.last.value(name) - self.base.value(name)
        if not rise >= 0:  # written so that NaN fails too
            raise NotMeasured(f"{name} went back: restarted between two readings")
        return rise


class ScrapeSource:
    """`timeout_s` bounds each reading; `gap_s` and `window_s` are as in the module's docstring."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        timeout_s: float = 1.5,
        gap_s: float = 0.5,
        window_s: float = 5.0,
        now: Clock = utc_now,
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._gap_s = gap_s
        self._window_s = window_s
        self._now = now
        self._kept: dict[str, list[Page]] = {}

    async def engine(self, address: str) -> Page:
        """An engine's metrics now. NotMeasured says why not."""
        return await self._read(f"http://{address}/metrics", {}, parse)

    async def engine_pair(self, address: str) -> Pair:
        """The same twice, for rates."""
        return await self._pair(f"http://{address}/metrics", {}, parse)

    async def envoy(self, admin: str) -> Page:
        """The counters of `envoy_pair` once: kept as the base of a later rate."""
        return await self._read(f"{admin.rstrip('/')}/stats", _ENVOY_FORM, _parse_envoy)

    async def envoy_pair(self, admin: str) -> Pair:
        """Request counters of all clusters, by their names in Envoy (`cluster.POOL.upstream_rq_5xx`), twice.

        JSON and not the Prometheus page: that one cuts a cluster's name at its first dot.
        """
        return await self._pair(f"{admin.rstrip('/')}/stats", _ENVOY_FORM, _parse_envoy)

    async def _pair(self, url: str, form: dict[str, str], read: Callable[[str], list[Metric]]) -> Pair:
        last = await self._read(url, form, read)
        base = self._base(last, self._kept[url])
        if base is not None:
            return Pair(base, last)
        await asyncio.sleep(self._gap_s)
        return Pair(last, await self._read(url, form, read))

    def _base(self, last: Page, kept: list[Page]) -> Page | None:
        fit = [page for page in kept if self._gap_s <= last.tick - page.tick <= self._window_s]
        return max(fit, key=lambda page: page.tick, default=None)

    async def _read(self, url: str, form: dict[str, str], read: Callable[[str], list[Metric]]) -> Page:
        at, tick = self._now(), time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.get(url, params=form, timeout=self._timeout_s)
        except (TimeoutError, httpx.HTTPError) as error:
            raise NotMeasured(failure(error, self._timeout_s)) from error
        if answer.status_code != 200:
            raise NotMeasured(f"HTTP {answer.status_code}")
        try:
            page = Page(read(answer.text), at, tick)
        except ValueError as error:
            raise NotMeasured(f"unreadable: {error}") from error
        fresh = [kept for kept in self._kept.get(url, []) if tick - kept.tick <= self._window_s]
        self._kept[url] = [*fresh, page]
        return page


def _parse_envoy(text: str) -> list[Metric]:
    """Counters of `/stats?format=json`. ValueError when it is something else."""
    try:
        return [Metric(s["name"], {}, float(s["value"])) for s in json.loads(text)["stats"] if "value" in s]
    except (KeyError, TypeError) as error:
        raise ValueError("this is no Envoy stats page") from error
