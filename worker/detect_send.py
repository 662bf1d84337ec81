"""Detections to the intake, over HTTP, until it says 2xx; and the engines' own token counters."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict

import httpx

from activities.adapters.dialects import DIALECTS
from activities.adapters.exposition import parse, total
from runbooks.detection import Detection
from runbooks.fleet import Fleet

log = logging.getLogger("interlock.detect")
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0


class IntakeSink:
    """A queue with one place per fault: the newest state wins, so it is bounded by the fleet, and nothing is dropped."""

    def __init__(self, url: str, token: str, http: httpx.AsyncClient) -> None:
        self._url = f"{url.rstrip('/')}/v1/detections"
        self._headers = {"authorization": f"Bearer {token}"}
        self._http = http
        self._waiting: OrderedDict[str, Detection] = OrderedDict()
        self._some = asyncio.Event()

    async def __call__(self, detection: Detection) -> None:
        """Takes it at once; `run` sends it."""
        self._waiting[detection.key] = detection
        self._some.set()

    @property
    def waiting(self) -> int:
        """Faults whose newest state the intake has not acknowledged."""
        return len(self._waiting)

    async def run(self) -> None:
        """Send until cancelled. What is refused goes to the end of the queue and is sent again: others must not wait."""
        wait_s = FIRST_WAIT_S
        while True:
            await self._some.wait()
            key, detection = next(iter(self._waiting.items()))
            if why := await self._post(detection):
                log.warning("%s of %s not accepted yet: %s", detection.alert, detection.target.id, why)
                self._waiting.move_to_end(key)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            wait_s = FIRST_WAIT_S
            # Only what was sent is done: a newer state may have come while we were waiting for the answer.
            if self._waiting[key] is detection:
                del self._waiting[key]
            if not self._waiting:
                self._some.clear()

    async def _post(self, detection: Detection) -> str:
        """Why it was not accepted; "" when it was."""
        body = detection.model_dump(mode="json", exclude={"received_at"})
        try:
            answer = await self._http.post(self._url, json=body, headers=self._headers, timeout=10)
        except httpx.HTTPError as error:
            return f"the intake does not answer ({type(error).__name__})"
        return "" if answer.is_success else f"HTTP {answer.status_code} {answer.text[:200]}"


class TokenCounters:
    """Reads each engine's progress counters from its /metrics."""

    def __init__(self, fleet: Fleet, http: httpx.AsyncClient, timeout_s: float = 0.5) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self._names = {e.address: DIALECTS[p.dialect].progress for p in fleet.pools for e in p.endpoints}

    async def __call__(self, address: str) -> float | None:
        """Sum of the counters that rise while it generates; None when the page cannot be had or lacks them."""
        try:
            answer = await self._http.get(f"http://{address}/metrics", timeout=self._timeout_s)
            if not answer.is_success:
                return None
            metrics = parse(answer.text)
        except (httpx.HTTPError, ValueError):
            return None  # a missed scrape proves nothing: the evidence leaves it out
        values = [total(metrics, name) for name in self._names[address]]
        return sum(v for v in values if v is not None) if any(v is not None for v in values) else None
