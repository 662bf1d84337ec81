"""Just enough HTTP/1.1 for a sender and a sink that cost little beside what is measured. Loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

IDLE_S = 2.0
Handler = Callable[[str, str, bytes], Awaitable[tuple[int, Any]]]


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = raw.split("\r\n")
    return first, {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}


class Connection:
    """One kept-alive connection. Opened at the first request, and again after the other side has closed it."""

    def __init__(self, host: str, port: int) -> None:
        self._place = (host, port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = time.monotonic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, if there is one."""
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(OSError):
                await self._streams[1].wait_closed()
            self._streams = None

    async def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> tuple[int, bytes]:
        """Status and body. OSError or EOFError when there is no whole answer."""
        if time.monotonic() - self._used > IDLE_S:
            await self.close()  # servers close idle connections after five seconds: a request would run into that
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._place[0]}:{self._place[1]}\r\n{headers}"
        writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        try:
            first, fields = await _head(reader)
            closes = fields.get("connection", "").lower() == "close" or first.startswith("HTTP/1.0")
            if "content-length" in fields:
                text = await reader.readexactly(int(fields["content-length"]))
            else:
                text = await reader.read()
                closes = True
        except BaseException:
            await self.close()
            raise
        self._used = time.monotonic()
        if closes:
            await self.close()
        return int(first.split()[1]), text


async def serve(port: int, handler: Handler) -> asyncio.Server:
    """A server on 127.0.0.1. The handler gets method, path and body, and gives a status and what is sent as JSON."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
            while True:
                first, fields = await _head(reader)
                method, path, _ = first.split(" ", 2)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                status, answer = await handler(method, path, body)
                text = json.dumps(answer).encode()
                writer.write(
                    f"HTTP/1.1 {status} OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n".encode()
                    + text
                )
                await writer.drain()
                if fields.get("connection", "").lower() == "close":
                    break
        writer.close()

    return await asyncio.start_server(talk, "127.0.0.1", port)
