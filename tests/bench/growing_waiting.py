"""Many cases open at once, each waiting for people: what they cost while nothing happens.

`approval`: an engine hangs and policy asks; gates were judged, and nobody answers. `people`: no rule knows the alert, people were
told, and the case stays open for what they or the detector say next.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

from tests.bench.contestant import Target
from tests.bench.growing_alerts import group
from tests.bench.growing_site import LOOK_EVERY_S, Site
from tests.bench.procfs import Memory, cpu_s, memory
from tests.bench.wire import Connection
from worker.demo.processes import ProcessTree

AHEAD = {"approval": 8, "people": 64}
"""Alerts that are sent and whose cases do not wait yet: more would measure the queue of gates, and not what waiting costs."""
OPEN = 'WorkflowType="Remediation" AND ExecutionStatus="Running"'
WAITS = {
    "approval": f'{OPEN} AND InterlockState="waiting_approval"',
    "people": f'{OPEN} AND InterlockState="handed_over"',
}
POOLS = 5
SETTLE_S, IDLE_S = 30.0, 60.0
CHANGES = {
    "classes": {"engine.hang": {"mode": "ask", "accept_unverified": True, "approval_ttl_s": 14400}},
    # Shipped: five sick places of a cluster are one fault and one case. Here they are to be as many cases as can be.
    "domain": {"correlate_targets": 1_000_000},
    "timing": {"linger_s": 14400.0},
}


@dataclass(frozen=True)
class Waiting:
    """`asked` cases were to be open, `waiting` of them wait for `waits`. Per second: over a minute in which nothing came."""

    waits: str
    asked: int
    waiting: int
    open: int
    took_s: float
    worker: Memory
    server: Memory
    intake: Memory
    cached: float
    evicted: float
    workflow_tasks: float
    activities: float
    worker_cpu: float
    server_cpu: float
    events: int
    bytes: int


async def waiting(site: Site, sizes: list[int], waits: str) -> list[Waiting]:
    """One row for none, then one for each size, all in the same processes."""
    if waits == "approval":
        await site.hang_one_of_each()
        await asyncio.sleep(LOOK_EVERY_S)  # every engine was looked at once
    await asyncio.sleep(15.0)  # connections and caches are as they stay
    targets, rows = site.all_targets() if waits == "approval" else site.strangers(max(sizes)), list[Waiting]()
    had = 0
    for size in [0, *sizes]:
        began = time.monotonic()
        await _open(site, targets[had:size], waits)
        took = time.monotonic() - began
        had = size
        rows.append(await _idle(site, size, took, waits))
        print(f"{time.strftime('%H:%M:%S')} {rows[-1]}", flush=True)
    return rows


async def _open(site: Site, targets: list[Target], waits: str) -> None:
    """Closed loop: one more alert when fewer than so many cases are on their way to waiting."""
    before, sent = await site.count(WAITS[waits]), 0
    async with Connection("127.0.0.1", site.door.port) as connection:
        last = (before, time.monotonic())
        while sent < len(targets) or last[0] < before + sent:
            for target in targets[sent : last[0] - before + AHEAD[waits]]:
                odd = group([(target, f"waiting-{target.pool}-{target.endpoint}")])
                body = odd if waits == "people" else target.alert().body()
                status, answer = await connection.ask("POST", site.door.path, body, site.door.headers)
                if status != 202:
                    raise RuntimeError(f"the intake refused an alert: {status} {answer[:300]!r}")
                sent += 1
            now = await site.count(WAITS[waits])
            if now != last[0]:
                last = (now, time.monotonic())
            elif time.monotonic() - last[1] > 120.0:
                return  # some cases went another way; the row says how many
            await asyncio.sleep(0.1)


async def _idle(site: Site, size: int, took: float, waits: str) -> Waiting:
    worker, server = site.workers[0].pid, site.temporal.pid
    await asyncio.sleep(SETTLE_S if size else 5.0)
    counts, began, used = await site.counted(), time.monotonic(), (cpu_s(worker), cpu_s(server))
    await asyncio.sleep(IDLE_S if size else 20.0)
    after, spent = await site.counted(), time.monotonic() - began
    events, sizes = await _histories(site)
    return Waiting(
        waits=waits,
        asked=size,
        waiting=await site.count(WAITS[waits]),
        open=await site.count(OPEN),
        took_s=took,
        worker=memory(worker),
        server=memory(server),
        intake=memory(site.intake.pid),
        cached=after["cached"],
        evicted=after["evicted"],
        workflow_tasks=(after["workflow_tasks"] - counts["workflow_tasks"]) / spent,
        activities=(after["activities"] - counts["activities"]) / spent,
        worker_cpu=(cpu_s(worker) - used[0]) / spent,
        server_cpu=(cpu_s(server) - used[1]) / spent,
        events=events,
        bytes=sizes,
    )


async def _histories(site: Site) -> tuple[int, int]:
    """Medians of events and bytes over at most a hundred of the open cases; zeros when there is none."""
    events, sizes = list[int](), list[int]()
    async for one in site.client.list_workflows(OPEN, limit=100):
        about = (await site.client.get_workflow_handle(one.id, run_id=one.run_id).describe()).raw_description
        events.append(about.workflow_execution_info.history_length)
        sizes.append(about.workflow_execution_info.history_size_bytes)
    return (int(statistics.median(events)), int(statistics.median(sizes))) if events else (0, 0)


async def measure(tree: ProcessTree, sizes: list[int], domains: int, waits: str) -> list[Waiting]:
    """Endpoints for the largest size; the site is the same for all."""
    sick = -(-max(sizes) // (domains * POOLS)) if waits == "approval" else 1
    site = Site(tree, domains=domains, pools=POOLS, sick=sick, changes=CHANGES)
    await site.up()
    return await waiting(site, sizes, waits)
