"""A steady open-loop load through the proxy: a request leaves every 1/rate seconds, whatever became of those before."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from worker.demo.engines import TOKENS, request

TIMEOUT_S = 3.0
"""Somebody who waits longer than this for six tokens has gone: it counts as failed."""
MOST_IN_FLIGHT = 64
BATCH_EVERY = 5
"""Every fifth request is of the tier that may be refused first."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `at`: when it left, Unix time. `pool` and `endpoint` are "" when no answer said who served."""

    at: float
    ok: bool
    latency_s: float
    status: int | None
    pool: str
    endpoint: str
    tier: str
    why: str


@dataclass(frozen=True, slots=True)
class Window:
    """Requests that ended in a span of time. Rates are None when there were none: no measurement is not zero."""

    requests: int
    failed: int
    p50_s: float | None
    p99_s: float | None

    @property
    def error_rate(self) -> float | None:
        """Share of failed requests."""
        return self.failed / self.requests if self.requests else None


class Load:
    """Sends and keeps the record. `record` gets one JSON line per request; it ends by itself after `most_s` seconds."""

    def __init__(self, url: str, rate: float, record: Path, *, most_s: float, timeout_s: float = TIMEOUT_S) -> None:
        self.requests: list[Request] = []
        self.rate = rate
        self._url = f"{url.rstrip('/')}/v1/completions"
        self._record = record
        self._most_s = most_s
        self._timeout_s = timeout_s
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def check(self) -> None:
        """Raises what ended the load, if something did."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()

    def window(self, seconds: float, until: float | None = None) -> Window:
        """What ended within the last `seconds` before `until` (now)."""
        end = time.time() if until is None else until
        return window([r for r in _recent(self.requests, end - seconds) if end - seconds < r.at + r.latency_s <= end])

    def failures(self, since: float, until: float) -> int:
        """Failed requests that were under way at `since` or left after it, and left before `until`.

        A request belongs to the moment when it left, but one that was in flight when a fault began belongs to the fault.
        """
        return sum(1 for r in self.requests if not r.ok and r.at < until and r.at + r.latency_s >= since)

    def left_and_failed(self, since: float, until: float) -> int:
        """Failed requests that left within [since, until)."""
        return sum(1 for r in self.requests if not r.ok and since <= r.at < until)

    async def _run(self) -> None:
        began, sent, under_way = time.monotonic(), 0, set[asyncio.Task[None]]()
        limits = httpx.Limits(max_connections=MOST_IN_FLIGHT, max_keepalive_connections=MOST_IN_FLIGHT)
        async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=self._timeout_s) as http:
            with self._record.open("a", buffering=1) as out:
                try:
                    while time.monotonic() - began < self._most_s:
                        await asyncio.sleep(max(0.0, began + sent / self.rate - time.monotonic()))
                        tier = "batch" if sent % BATCH_EVERY == 0 else "interactive"
                        sent += 1
                        if len(under_way) >= MOST_IN_FLIGHT:
                            self._keep(out, Request(time.time(), False, 0.0, None, "", "", tier, "too many in flight"))
                            continue
                        task = asyncio.create_task(self._one(http, tier, out))
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                finally:
                    for task in under_way:
                        task.cancel()
                    await asyncio.gather(*under_way, return_exceptions=True)

    async def _one(self, http: httpx.AsyncClient, tier: str, out: Any) -> None:
        at, began = time.time(), time.monotonic()
        status, pool, endpoint = None, "", ""
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await http.post(self._url, json=request(TOKENS), headers={"x-tier": tier})
            status = answer.status_code
            pool, endpoint = answer.headers.get("x-pool", ""), answer.headers.get("x-endpoint", "")
            why = "" if status == 200 else f"HTTP {status}"
        except TimeoutError:
            why = f"no answer within {self._timeout_s:g} s"
        except httpx.HTTPError as error:
            why = (
                f"no answer within {self._timeout_s:g} s" if isinstance(error, httpx.TimeoutException) else repr(error)
            )
        self._keep(out, Request(at, not why, time.monotonic() - began, status, pool, endpoint, tier, why))

    def _keep(self, out: Any, one: Request) -> None:
        self.requests.append(one)
        out.write(json.dumps(asdict(one)) + "\n")


def window(requests: Sequence[Request]) -> Window:
    """Counts and percentiles; latency over the answered ones alone."""
    took = sorted(r.latency_s for r in requests if r.ok)
    failed = sum(1 for r in requests if not r.ok)
    return Window(len(requests), failed, _rank(took, 0.5), _rank(took, 0.99))


def read_record(path: Path) -> list[Request]:
    """The requests of a JSONL record, as they left."""
    return sorted((Request(**json.loads(line)) for line in path.read_text().splitlines()), key=lambda r: r.at)


def _rank(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _recent(requests: Sequence[Request], since: float) -> list[Request]:
    # They are kept in the order in which they ended: walk back only as far as needed.
    found = []
    for one in reversed(requests):
        if one.at + one.latency_s < since - 1.0:
            break
        found.append(one)
    return found
