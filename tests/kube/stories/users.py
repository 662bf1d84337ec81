"""Users of the service: they ask through Envoy all the while, and every answer is kept with its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

TIMEOUT_S = 30.0
"""Envoy ends every request after its route's 5 s: what takes longer than that is this process on a busy machine, and no loss."""
REFUSED_PAUSE_S = 0.3
"""Who was refused comes back soon: a surge does not go away because somebody said no."""


@dataclass(frozen=True)
class Answer:
    """One request. `status` 0: no answer at all. `at` is when it was sent, seconds since the epoch."""

    at: float
    seconds: float
    tier: str
    status: int
    tokens: int
    endpoint: str
    why: str = ""

    @property
    def served(self) -> bool:
        """It gave a token."""
        return self.status == httpx.codes.OK and self.tokens > 0

    @property
    def refused(self) -> bool:
        """Shed on purpose."""
        return self.status == httpx.codes.TOO_MANY_REQUESTS

    @property
    def failed(self) -> bool:
        """Neither answered nor refused on purpose. An answer without a token counts as answered, see `served`."""
        return self.status != httpx.codes.OK and not self.refused


@dataclass
class Users:
    """Steady users and crowds in front of one Envoy. A context manager on the test's loop."""

    front: str
    max_tokens: int = 3
    answers: list[Answer] = field(default_factory=list)
    _groups: list[asyncio.Task[None]] = field(default_factory=list)

    async def __aenter__(self) -> Users:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=200)
        self._http = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, limits=limits)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave(*self._groups)
        await self._http.aclose()

    def steady(self, per_second: float, tier: str = "paid") -> asyncio.Task[None]:
        """So many requests per second, however slow the answers are."""
        return self._group(self._paced(per_second, tier))

    def crowd(self, people: int, tier: str, every_s: float = 0.0) -> asyncio.Task[None]:
        """So many people, each asking again as soon as there is an answer, and `every_s` at the soonest."""
        return self._group(self._all(people, tier, every_s))

    async def leave(self, *groups: asyncio.Task[None]) -> None:
        """These ask nothing more; what they have asked is still answered."""
        for group in groups:
            group.cancel()
        for ended in await asyncio.gather(*groups, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        self._groups = [g for g in self._groups if g not in groups]

    def since(self, at: float, tier: str | None = None) -> list[Answer]:
        """Answers to requests sent after that time, oldest first."""
        return [a for a in sorted(self.answers, key=lambda a: a.at) if a.at >= at and tier in (None, a.tier)]

    def failures(self, since: float = 0.0) -> list[Answer]:
        """Those that failed."""
        return [a for a in self.since(since) if a.failed]

    def _group(self, work: object) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._groups.append(task)
        return task  # type: ignore[no-any-return]

    async def _paced(self, per_second: float, tier: str) -> None:
        running: set[asyncio.Task[Answer]] = set()
        due = time.monotonic()
        try:
            while True:
                task = asyncio.create_task(self.ask(tier))
                running.add(task)
                task.add_done_callback(running.discard)
                due += 1 / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            await asyncio.gather(*tuple(running))

    async def _all(self, people: int, tier: str, every_s: float) -> None:
        gone = asyncio.Event()

        async def person(number: int) -> None:
            await asyncio.sleep(every_s * number / people)
            while not gone.is_set():
                answer = await self.ask(tier)
                pause = every_s - answer.seconds
                await asyncio.sleep(max(pause, REFUSED_PAUSE_S) if answer.refused else max(pause, 0.0))

        everybody = [asyncio.create_task(person(n)) for n in range(people)]
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
            await asyncio.gather(*everybody)

    async def ask(self, tier: str) -> Answer:
        """One request of a user."""
        at, began = time.time(), time.monotonic()
        body = {"model": "smollm2", "prompt": "hello", "max_tokens": self.max_tokens}
        status, tokens, endpoint, why = 0, 0, "", ""
        try:
            answer = await self._http.post(f"{self.front}/v1/completions", json=body, headers={"x-tier": tier})
            status, endpoint = answer.status_code, answer.headers.get("x-endpoint", "")
            if status == httpx.codes.OK:
                tokens = int(answer.json()["usage"]["completion_tokens"])
            else:
                why = answer.text[:100]
        except httpx.HTTPError as error:
            why = f"{type(error).__name__} {error}"
        found = Answer(at, time.monotonic() - began, tier, status, tokens, endpoint, why)
        self.answers.append(found)
        return found


def told(answers: Sequence[Answer]) -> str:
    """For failure messages: what came back, counted."""
    counts: dict[str, int] = {}
    for a in answers:
        key = f"{a.status} {a.why}".strip() + (f" of {a.endpoint}" if a.endpoint and not a.served else "")
        counts[key] = counts.get(key, 0) + 1
    return "; ".join(f"{n} × {what}" for what, n in counts.items()) or "none"
