"""Single faults instead of kills: one thing that everybody depends on is ill for a while, several times, and then well.

journal-full   the journal's file system has no byte left (a real, small one: it needs the right to mount)
envoy-dead     Envoy answers nothing, neither requests nor its admin API
slow-temporal  each word between Temporal and worker or intake takes a second longer
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Fault = Literal["journal-full", "envoy-dead", "slow-temporal"]
FAULTS: tuple[Fault, ...] = ("journal-full", "envoy-dead", "slow-temporal")
ILL_S = (4.0, 15.0)
"""How long it lasts."""
SLOWER_S = 1.0
ROOM = "24m"


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of its own, so that filling it hurts nobody else."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def full(place: Path) -> Iterator[None]:
    """Not one byte more goes onto it."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(b"\0" * 4096)
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Accepts connections and answers nothing. Not killed: its counters are the audit's witness."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@dataclass
class Line:
    """A TCP line to Temporal that can be made slow. `port` is where it listens."""

    target: int
    port: int
    delay_s: float = 0.0

    async def open(self) -> asyncio.Server:
        """Serves until closed."""
        return await asyncio.start_server(self._talk, "127.0.0.1", self.port)

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Each piece of what is said waits, one after the other."""
        self.delay_s = SLOWER_S
        try:
            yield
        finally:
            self.delay_s = 0.0

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            both = [asyncio.create_task(self._carry(reader, back)), asyncio.create_task(self._carry(there, writer))]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for one in both:
                one.cancel()
            back.close()
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(piece)
                await writer.drain()
