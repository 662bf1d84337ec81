"""The sender, the same for everyone: stamps, posts, keeps what was accepted. It never sends a refused alert again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.alerts import Alert
from tests.bench.wire import Connection


@dataclass(frozen=True)
class Door:
    """Where a contestant takes alerts. `headers`: whole lines, each ended by CRLF."""

    port: int
    path: str
    headers: str = ""


@dataclass(frozen=True)
class Sent:
    """One alert: when it left and when its answer came (monotonic seconds). `status` 0: no answer. `accepted`: 2xx."""

    alert: Alert
    left: float
    answered: float
    status: int
    answer: bytes

    @property
    def accepted(self) -> bool:
        """The receiver has said that it is responsible now."""
        return 200 <= self.status < 300


async def send(connection: Connection, door: Door, alert: Alert) -> Sent:
    """One alert, once."""
    body = alert.body()
    left = time.monotonic()
    try:
        status, answer = await connection.ask("POST", door.path, body, door.headers)
    except (OSError, EOFError, asyncio.IncompleteReadError):
        status, answer = 0, b""
    return Sent(alert, left, time.monotonic(), status, answer)


async def burst(door: Door, alerts: Sequence[Alert], connections: int) -> list[Sent]:
    """All of them as fast as this many connections go, in order. What is refused or unanswered waits 50 ms for the next."""
    left, sent = iter(alerts), list[Sent]()

    async def one() -> None:
        async with Connection("127.0.0.1", door.port) as connection:
            for alert in left:
                outcome = await send(connection, door, alert)
                sent.append(outcome)
                if not outcome.accepted:
                    await asyncio.sleep(0.05)

    await asyncio.gather(*(one() for _ in range(connections)))
    return sent
