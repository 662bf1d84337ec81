"""What a person sees while the demo runs: numbers, pools, and what Interlock is doing. Plain lines without a terminal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from worker.demo.load import TIMEOUT_S, Load, Request, window

SPAN_S = 60
BARS = "▁▂▃▄▅▆▇█"
FEED_LINES = 14
PLAIN_EVERY_S = 10.0


@dataclass(frozen=True)
class PoolLine:
    """One pool as the proxy and the detector see it. `endpoints`: address → (in rotation, detector's word)."""

    name: str
    weight: int | None
    endpoints: dict[str, tuple[bool | None, str]]


@dataclass
class View:
    """`say` adds a line to the feed. `links`: what to open, name → URL. `tty`: draw, else write plain lines to `out`."""

    out: TextIO
    tty: bool
    links: dict[str, str] = field(default_factory=dict)
    load: Load | None = None
    pools: Callable[[], Sequence[PoolLine]] = tuple
    feed: list[tuple[float, str]] = field(default_factory=list)
    ask: str = ""

    def say(self, text: str) -> None:
        """What happened just now, in one line; `ask` is for what a person must do and stays on the screen."""
        self.feed.append((time.time(), text))
        if not self.tty:
            self.out.write(f"{datetime.now():%H:%M:%S} {text}\n")
            self.out.flush()

    async def run(self) -> None:
        """Draw until cancelled."""
        if not self.tty:
            while True:
                await asyncio.sleep(PLAIN_EVERY_S)
                if self.load is not None:
                    self.out.write(f"{datetime.now():%H:%M:%S}   {numbers(self.load)}\n")
                    self.out.flush()
        console = Console(file=self.out)
        with Live(console=console, refresh_per_second=4, get_renderable=self.render, redirect_stderr=False):
            await asyncio.Event().wait()

    def render(self) -> Group:
        """The screen as it should look now."""
        parts: list[Panel | Text] = [Panel(self._head(), title="Interlock demo", title_align="left")]
        parts.append(Panel(self._pools(), title="pools", title_align="left"))
        if self.ask:
            parts.append(Panel(Text(self.ask, style="bold yellow"), title="waiting for you", border_style="yellow"))
        lines = [Text(f"{datetime.fromtimestamp(at):%H:%M:%S} {text}") for at, text in self.feed[-FEED_LINES:]]
        parts.append(Panel(Group(*lines), title="what happens", title_align="left"))
        return Group(*parts)

    def _head(self) -> Group:
        lines = [Text.assemble((f"{name:<16}", "bold"), (url, f"link {url}")) for name, url in self.links.items()]
        if self.load is not None:
            errors, p99 = sparks(self.load.requests, time.time())
            lines.append(Text.assemble(("errors          ", "bold"), (errors, "red"), f"  last {SPAN_S} s, full = all"))
            lines.append(Text.assemble(("p99             ", "bold"), (p99, "cyan"), f"  full = {TIMEOUT_S:g} s"))
            lines.append(Text(f"                {numbers(self.load)}"))
        return Group(*lines)

    def _pools(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for pool in self.pools():
            weight = "weight ?" if pool.weight is None else f"weight {pool.weight}"
            cells = [Text(pool.name, style="bold"), Text(weight)]
            cells += [_endpoint(address, *state) for address, state in pool.endpoints.items()]
            table.add_row(*cells)
        return table


def _endpoint(address: str, rotation: bool | None, word: str) -> Text:
    where = {True: "in", False: "OUT", None: "?"}[rotation]
    style = "green" if rotation and word == "answering" else "yellow" if word == "answering" else "red"
    return Text(f":{address.rpartition(':')[2]} {where} {word}", style=style)


def numbers(load: Load) -> str:
    """The last ten seconds in words."""
    now = load.window(10.0)
    if now.error_rate is None:
        return "no request has ended yet"
    took = "" if now.p50_s is None or now.p99_s is None else f", p50 {now.p50_s:.2f} s, p99 {now.p99_s:.2f} s"
    return f"{now.requests / 10.0:.1f} requests/s, {now.error_rate:.0%} failed{took} (last 10 s)"


def sparks(requests: Sequence[Request], now: float) -> tuple[str, str]:
    """Error rate and p99 of each of the last 60 s, by when requests ended; a blank where there were none."""
    seconds: list[list[Request]] = [[] for _ in range(SPAN_S)]
    for one in reversed(requests):
        ended = one.at + one.latency_s
        if ended < now - SPAN_S - TIMEOUT_S:
            break
        index = SPAN_S - 1 - int(now - ended)
        if 0 <= index < SPAN_S:
            seconds[index].append(one)
    windows = [window(part) for part in seconds]
    errors = "".join(_bar(w.error_rate) for w in windows)
    return errors, "".join(_bar(None if w.p99_s is None else w.p99_s / TIMEOUT_S) for w in windows)


def _bar(share: float | None) -> str:
    return " " if share is None else BARS[min(len(BARS) - 1, int(share * len(BARS)))]
