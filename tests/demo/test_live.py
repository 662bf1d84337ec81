"""The live view, with and without a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import io
from pathlib import Path

from rich.console import Console

from worker.demo.live import SPAN_S, PoolLine, View, sparks
from worker.demo.load import Load, Request


def _request(at: float, ok: bool) -> Request:
    return Request(at, ok, 0.3 if ok else 3.0, 200 if ok else None, "chat-a", "", "batch", "")


def test_without_a_terminal_every_line_is_written_at_once() -> None:
    """A log of a run reads from top to bottom."""
    out = io.StringIO()
    view = View(out, tty=False)
    view.say("EngineHang of chat-a")

    assert out.getvalue().endswith(" EngineHang of chat-a\n")


def test_the_screen_shows_links_pools_and_what_waits_for_a_person() -> None:
    """In one look."""
    view = View(io.StringIO(), tty=True, links={"Temporal UI": "http://127.0.0.1:1/"}, ask="Approve this")
    view.load = Load("http://127.0.0.1:1", 1, Path("unused"), most_s=1)
    view.pools = lambda: [PoolLine("chat-a", 50, {"127.0.0.1:7": (True, "answering"), "127.0.0.1:8": (False, "hung")})]
    view.say("isolated :8")
    console = Console(file=io.StringIO(), width=100, record=True)
    console.print(view.render())
    text = console.export_text()

    for part in ("http://127.0.0.1:1/", "weight 50", ":7 in answering", ":8 OUT hung", "Approve this", "isolated :8"):
        assert part in text


def test_a_second_without_requests_is_blank_and_not_good() -> None:
    """No measurement is not zero."""
    errors, p99 = sparks([_request(99.0, True), _request(94.5, False)], 100.0)

    assert len(errors) == len(p99) == SPAN_S
    assert errors[-1] == "▁"
    assert errors[-3] == "█"
    assert errors.count(" ") == SPAN_S - 2


async def test_the_drawn_view_ends_when_it_is_cancelled() -> None:
    """And leaves the terminal as it was."""
    view = View(io.StringIO(), tty=True)
    task = asyncio.create_task(view.run())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.done()
