"""The four measures, the same for every contestant: paced latency, burst, kill -9 in a burst, slow actions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.contestant import Contestant, SinkView, until
from tests.bench.sender import Sent, burst, send
from tests.bench.stats import Audit, Spread, audit, rate, spread
from tests.bench.wire import Connection

CONNECTIONS = 32
ACT_S = 30.0
"""An alert whose act has not come by then counts as missed in the paced measure."""


@dataclass(frozen=True)
class Paced:
    """Alert sent → first actuator call. `missed`: accepted, and nothing came."""

    act: Spread | None
    answer: Spread
    missed: int


@dataclass(frozen=True)
class Storm:
    """A burst. Rates are per second; `kept` is how many accepted alerts are durably known, by `kept_by`."""

    sent: int
    accepted: int
    accepted_rate: float
    answer: Spread
    acts_rate: float
    last_act_s: float
    audit: Audit
    kept: int
    kept_by: str
    back_s: float = 0.0


async def paced(who: Contestant, sink: SinkView, samples: int, gap_s: float) -> Paced:
    """One alert at a time, the next `gap_s` after the last act at the earliest."""
    acts, answers, missed = list[float](), list[float](), 0
    async with Connection("127.0.0.1", who.door.port) as connection:
        for _ in range(samples):
            target = await who.next()
            alert = target.alert()
            sent = await send(connection, who.door, alert)
            if not sent.accepted:
                raise RuntimeError(f"{who.name} refused a paced alert: {sent.status} {sent.answer[:300]!r}")
            answers.append(sent.answered - sent.left)
            at = await sink.first(who.act_of(alert), sent.left, ACT_S)
            if at is None:
                missed += 1
            else:
                acts.append(at - sent.left)
            await who.over(target, alert)
            await asyncio.sleep(gap_s)
    return Paced(spread(acts) if acts else None, spread(answers), missed)


async def storm(
    who: Contestant, sink: SinkView, count: int, quiet_s: float, most_s: float, kill: bool = False
) -> Storm:
    """A burst over 32 connections; with `kill`, SIGKILL when half of it has been accepted, and a start as before.

    Over when no act has come for `quiet_s`, or after `most_s`.
    """
    alerts = who.storm(count)
    seen = len(await sink.acts())
    began = time.monotonic()
    back_s = 0.0
    if kill:
        sent, back_s = await _killed(who, alerts)
    else:
        sent = await burst(who.door, alerts, CONNECTIONS)
    good = [s for s in sent if s.accepted]
    due = await who.due(good)

    async def over() -> bool:
        mine = (await sink.acts())[seen:]
        done = set(due) <= {a["key"] for a in mine}
        quiet = time.monotonic() - max([began, *(s.answered for s in sent), *(a["at"] for a in mine)])
        # Once all have come, a second act on one of them would come soon: it is waited for as well.
        return bool(quiet > (quiet_s / 3 if done else quiet_s))

    await until(over, most_s)
    mine: Sequence[dict[str, Any]] = [a for a in (await sink.acts())[seen:] if not a["key"].endswith("=in")]
    times = [a["at"] for a in mine]
    kept, kept_by = await who.kept(good)
    return Storm(
        sent=len(sent),
        accepted=len(good),
        accepted_rate=rate([s.answered for s in good], began),
        answer=spread([s.answered - s.left for s in sent if s.status]),
        acts_rate=rate(times, began),
        last_act_s=max(times) - began if times else 0.0,
        audit=audit(due, [a["key"] for a in mine]),
        kept=kept,
        kept_by=kept_by,
        back_s=back_s,
    )


async def _killed(who: Contestant, alerts: Sequence[Any]) -> tuple[list[Sent], float]:
    sent: list[Sent] = []
    half = len(alerts) // 2
    left = iter(alerts)

    async def one() -> None:
        async with Connection("127.0.0.1", who.door.port) as connection:
            for alert in left:
                outcome = await send(connection, who.door, alert)
                sent.append(outcome)
                if not outcome.accepted:
                    await asyncio.sleep(1.0)  # the receiver is away: the rest is for when it is back

    jobs = [asyncio.create_task(one()) for _ in range(CONNECTIONS)]

    async def half_way() -> bool:
        return sum(s.accepted for s in sent) >= half or all(j.done() for j in jobs)

    await until(half_way, 120, every_s=0.005)
    who.kill()
    died = time.monotonic()
    await who.again()
    back = time.monotonic() - died
    await asyncio.gather(*jobs)
    return sent, back
