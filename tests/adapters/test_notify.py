"""People are told once, and only an acknowledgement counts as told. One suite for every Notify."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from activities.adapters.simulated_notify import SimulatedNotify
from activities.adapters.webhook import LogNotify, WebhookNotify
from activities.errors import Retryable
from activities.ports import Notify

TOKEN = "s3cret-token-of-the-pager"


class Receiver:
    """A real HTTP server on loopback that keeps what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b'{"id": "page-1"}'
        self.pages: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        self.pages.append(json.loads(await reader.readexactly(length)))
        self.heads.append(head)
        writer.write(
            b"HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (self.status, len(self.body))
        )
        writer.write(self.body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/pages"
    async with server:
        yield receiver


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


class Lab:
    """A Notify, its clock, and what its receiver has got."""

    def __init__(self, notify: Notify, clock: Clock, got: Callable[[], list[dict[str, Any]]]) -> None:
        self.notify, self.clock, self.got = notify, clock, got


@pytest.fixture(params=["webhook", "file", "simulated"])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    clock = Clock()
    if request.param == "simulated":
        pager = SimulatedNotify(clock)
        yield Lab(pager, clock, lambda: [{**asdict(p), "at": p.at.isoformat()} for p in pager.pages])
        return
    if request.param == "file":
        path = tmp_path / "pages" / "pages.jsonl"
        yield Lab(LogNotify(path, clock), clock, lambda: [json.loads(line) for line in path.read_text().splitlines()])
        return
    async with receiving() as receiver, httpx.AsyncClient() as client:
        yield Lab(WebhookNotify(receiver.url, client, TOKEN, now=clock), clock, lambda: receiver.pages)


async def test_a_page_reaches_its_receiver_with_its_key_and_time(lab: Lab) -> None:
    """Key, title, body and time, as given."""
    told = await lab.notify.tell("case-1:held", "Case held", "G1: facts are stale\n<b>")

    assert lab.got() == [
        {
            "dedup_key": "case-1:held",
            "title": "Case held",
            "body": "G1: facts are stale\n<b>",
            "at": told.at.isoformat(),
        }
    ]
    assert told.dedup_key == "case-1:held"
    assert told.reference


async def test_the_same_key_within_an_hour_is_one_page(lab: Lab) -> None:
    """Also when two callers tell it at the same moment; another key is another page."""
    first, second = await asyncio.gather(lab.notify.tell("k", "t", "b"), lab.notify.tell("k", "t", "b"))
    await lab.notify.tell("other", "t", "b")

    assert first == second
    assert [page["dedup_key"] for page in lab.got()] == ["k", "other"]


async def test_the_same_key_after_an_hour_is_a_new_page(lab: Lab) -> None:
    """What still burns an hour later is told again."""
    await lab.notify.tell("k", "t", "b")
    lab.clock.at += timedelta(hours=1)
    await lab.notify.tell("k", "t", "b")

    assert len(lab.got()) == 2


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500])
async def test_only_a_2xx_counts_as_told(status: int) -> None:
    """Anything else is Retryable, is not remembered, and shows no token."""
    async with receiving() as receiver, httpx.AsyncClient() as client:
        notify = WebhookNotify(receiver.url, client, TOKEN)
        receiver.status = status
        with pytest.raises(Retryable, match=f"HTTP {status}") as caught:
            await notify.tell("k", "t", "b")
        receiver.status = 202
        told = await notify.tell("k", "t", "b")

    assert TOKEN not in str(caught.value)
    assert told.reference == "page-1"
    assert len(receiver.pages) == 2
    assert f"authorization: bearer {TOKEN}" in receiver.heads[0]
    assert "idempotency-key: k" in receiver.heads[0]


async def test_a_receiver_without_a_body_has_acknowledged_too() -> None:
    """204 or an empty 200: told, without a reference."""
    async with receiving() as receiver, httpx.AsyncClient() as client:
        receiver.body = b""

        assert (await WebhookNotify(receiver.url, client).tell("k", "t", "b")).reference == ""


async def test_a_receiver_that_is_away_or_silent_is_retryable() -> None:
    """Refused, and no answer in time; the URL may hold a key and is not in the message."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook-key"
    async with httpx.AsyncClient() as client:
        notify = WebhookNotify(url, client, timeout_s=0.3)
        async with server:
            with pytest.raises(Retryable, match="no answer within"):
                await notify.tell("k", "t", "b")
        with pytest.raises(Retryable, match="connection refused") as caught:
            await notify.tell("k", "t", "b")

    assert "hook-key" not in str(caught.value)


async def test_a_file_that_cannot_be_written_is_retryable(tmp_path: Path) -> None:
    """A full or read-only disk must not look like people told."""
    (tmp_path / "blocked").write_text("")
    with pytest.raises(Retryable, match="not written"):
        await LogNotify(tmp_path / "blocked" / "pages.jsonl").tell("k", "t", "b")
