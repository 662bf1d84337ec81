"""Many cases that run to a close, with one worker and with two: what a second process brings on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from dataclasses import dataclass

from tests.bench.contestant import until
from tests.bench.growing_alerts import group
from tests.bench.growing_site import Site
from tests.bench.procfs import cpu_s, memory
from tests.bench.wire import Connection
from worker.demo.processes import ProcessTree

SENDERS = 8
MOST_S = 420.0
CHANGES = {"timing": {"linger_s": 0.0}}
"""A class that only pages, and no waiting for repeats: page, record, close. No engine is asked to act, no Guard is."""


@dataclass(frozen=True)
class Closing:
    """`closed` of `asked` within `took_s`, seconds from the first alert to the last close. CPU in cores meanwhile."""

    workers: int
    asked: int
    closed: int
    took_s: float
    per_s: float
    workers_cpu: float
    server_cpu: float
    worker_peak: float


async def measure(tree: ProcessTree, workers: int, count: int, domains: int) -> Closing:
    """One storm, each alert about a target of its own."""
    site = Site(tree, domains=domains, pools=1, sick=1, changes=CHANGES, workers=workers)
    await site.up()
    await asyncio.sleep(15.0)
    used = [cpu_s(w.pid) for w in site.workers], cpu_s(site.temporal.pid)
    left, began = iter(site.strangers(count)), time.monotonic()

    async def one() -> None:
        async with Connection("127.0.0.1", site.door.port) as connection:
            for target in left:
                body = group([(target, f"closing-{target.pool}-{target.endpoint}")])
                status, answer = await connection.ask("POST", site.door.path, body, site.door.headers)
                if status != 202:
                    raise RuntimeError(f"the intake refused an alert: {status} {answer[:300]!r}")

    await asyncio.gather(*(one() for _ in range(SENDERS)))

    async def all_closed() -> bool:
        return await asyncio.to_thread(_closed, site) >= count

    await until(all_closed, MOST_S)
    took = time.monotonic() - began
    closed = _closed(site)
    return Closing(
        workers=workers,
        asked=count,
        closed=closed,
        took_s=took,
        per_s=closed / took,
        workers_cpu=sum(cpu_s(w.pid) - u for w, u in zip(site.workers, used[0], strict=True)) / took,
        server_cpu=(cpu_s(site.temporal.pid) - used[1]) / took,
        worker_peak=max(memory(w.pid).peak for w in site.workers),
    )


def _closed(site: Site) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{site.journal}?mode=ro", uri=True)) as db:
        return int(db.execute("select count(*) from cases where closed_at is not null").fetchone()[0])
