"""Tells people: by a webhook, or, when none is set, by a file that `interlock up` shows.

Both send the same dedup_key once per process and hour; the receiver gets the key as well and can drop what a second
process sends. What was not acknowledged is not remembered, so it is sent again.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from activities.adapters.reading import Clock, failure, utc_now
from activities.errors import Retryable
from activities.ports import Told

_QUIET = timedelta(hours=1)


class _Once:
    """Remembers what was told. One lock, so that two callers with the same key make one page."""

    def __init__(self, now: Clock) -> None:
        self.now = now
        self._told: dict[str, Told] = {}
        self._lock = asyncio.Lock()

    async def tell(self, key: str, send: Callable[[datetime], Awaitable[Told]]) -> Told:
        async with self._lock:
            at = self.now()
            self._told = {k: told for k, told in self._told.items() if at - told.at < _QUIET}
            if key not in self._told:
                self._told[key] = await send(at)
            return self._told[key]


class WebhookNotify:
    """Implements Notify by POST of {dedup_key, title, body, at}; a 2xx is an acknowledgement, all else Retryable.

    `token` goes into the Authorization header and nowhere else. The reference is the receiver's own `id`, if any.
    """

    def __init__(
        self,
        url: str,
        client: httpx.AsyncClient,
        token: str | None = None,
        timeout_s: float = 5.0,
        now: Clock = utc_now,
    ) -> None:
        self._url = url
        self._client = client
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._timeout_s = timeout_s
        self._once = _Once(now)

    async def tell(self, dedup_key: str, title: str, body: str) -> Told:
        """Sends it, unless the key was acknowledged within the hour."""

        async def send(at: datetime) -> Told:
            page = {"dedup_key": dedup_key, "title": title, "body": body, "at": at.isoformat()}
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._client.post(
                        self._url, json=page, headers={**self._headers, "idempotency-key": dedup_key}
                    )
            except (TimeoutError, httpx.HTTPError) as error:
                raise Retryable(f"the page was not delivered: {failure(error, self._timeout_s)}") from error
            if not answer.is_success:
                raise Retryable(f"the page was not acknowledged: HTTP {answer.status_code}")
            return Told(channel="webhook", dedup_key=dedup_key, reference=_reference(answer), at=at)

        return await self._once.tell(dedup_key, send)


def _reference(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return ""  # an acknowledgement needs no body
    found = body.get("id") if isinstance(body, dict) else None
    return str(found) if isinstance(found, str | int) else ""


class LogNotify:
    """Implements Notify by a line of JSON in a file, on disk before it returns. Its reference is `FILE:BYTE`."""

    def __init__(self, path: Path, now: Clock = utc_now) -> None:
        self._path = path
        self._once = _Once(now)

    async def tell(self, dedup_key: str, title: str, body: str) -> Told:
        """Writes it, unless the key was written within the hour. Retryable: the disk refused."""

        async def send(at: datetime) -> Told:
            page = {"dedup_key": dedup_key, "title": title, "body": body, "at": at.isoformat()}
            try:
                offset = await asyncio.to_thread(_append, self._path, json.dumps(page, ensure_ascii=False) + "\n")
            except OSError as error:
                raise Retryable(f"the page was not written to {self._path.name}: {error.strerror}") from error
            return Told(channel="file", dedup_key=dedup_key, reference=f"{self._path.name}:{offset}", at=at)

        return await self._once.tell(dedup_key, send)


def _append(path: Path, line: str) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        offset = file.tell()
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    return offset
