"""A storm through the shipped intake: what it takes a second, in how much memory, and whether every alert is in a case afterwards.

What is refused is sent again, as Alertmanager does; so all are accepted in the end, and all must be found.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.contestant import Target, until
from tests.bench.growing_alerts import group
from tests.bench.growing_site import Site
from tests.bench.procfs import cpu_s, memory
from tests.bench.stats import Spread, spread
from tests.bench.wire import Connection
from worker.demo.processes import ProcessTree

CONNECTIONS, AGAIN_S, GIVE_UP_S, MOST_S = 32, 1.0, 240.0, 420.0
LINGER_S = 15.0
CHANGES = {"timing": {"linger_s": LINGER_S}}
OPEN = 'WorkflowType="Remediation" AND ExecutionStatus="Running"'


@dataclass(frozen=True)
class Storm:
    """`alerts` distinct ones over `targets`, `size` in a request. `refused` requests were sent again after a second.

    `in_records`: fingerprints found in the journal's records of closed cases; `in_histories`: in those of Temporal.
    `signals`: of one target, median and most. `closed_s`: from the first alert until no case was open, `linger` included.
    """

    alerts: int
    targets: int
    size: int
    accepted: int
    took_s: float
    accepted_per_s: float
    answer: Spread
    refused: int
    statuses: dict[str, int]
    intake_peak: float
    intake_before: float
    intake_cpu: float
    worker_peak: float
    signals_median: float
    signals_most: int
    in_histories: int
    in_records: int
    closed_s: float
    still_open: int


async def measure(tree: ProcessTree, alerts: int, targets: int, size: int, domains: int) -> Storm:
    """One storm on a fresh site."""
    site = Site(tree, domains=domains, pools=1, sick=1, changes=CHANGES)
    await site.up()
    await asyncio.sleep(15.0)
    places = site.strangers(targets)
    told = [(places[n % targets], f"storm-{n}") for n in range(alerts)]
    before, used = memory(site.intake.pid).rss, cpu_s(site.intake.pid)
    began = time.monotonic()
    answers, statuses, accepted = await _send(site, [told[n : n + size] for n in range(0, alerts, size)])
    took, spent = time.monotonic() - began, cpu_s(site.intake.pid) - used
    peak = memory(site.intake.pid).peak
    fingerprints = {f for _, f in told}

    async def over() -> bool:
        return await site.count(OPEN) == 0

    await until(over, MOST_S, 1.0)
    closed_s = time.monotonic() - began
    signals, found = await _histories(site, places)
    return Storm(
        alerts=alerts,
        targets=targets,
        size=size,
        accepted=accepted,
        took_s=took,
        accepted_per_s=accepted / took,
        answer=spread(answers),
        refused=sum(n for status, n in statuses.items() if status != 202),
        statuses={str(status): n for status, n in statuses.items()},
        intake_peak=peak,
        intake_before=before,
        intake_cpu=spent / took,
        worker_peak=memory(site.workers[0].pid).peak,
        signals_median=statistics.median(signals),
        signals_most=max(signals),
        in_histories=len(found & fingerprints),
        in_records=len(_recorded(site) & fingerprints),
        closed_s=closed_s,
        still_open=await site.count(OPEN),
    )


async def _send(site: Site, groups: Sequence[list[tuple[Target, str]]]) -> tuple[list[float], Counter[int], int]:
    """Answer times of all requests, their statuses, and alerts accepted. A group that is refused comes again."""
    left, times, statuses = iter(groups), list[float](), Counter[int]()
    accepted, ends = 0, time.monotonic() + GIVE_UP_S

    async def one() -> None:
        nonlocal accepted
        async with Connection("127.0.0.1", site.door.port) as connection:
            for each in left:
                body = group(each)
                while time.monotonic() < ends:
                    left_at, status = time.monotonic(), 0
                    with contextlib.suppress(OSError, EOFError):
                        status, _ = await connection.ask("POST", site.door.path, body, site.door.headers)
                    times.append(time.monotonic() - left_at)
                    statuses[status] += 1
                    if status == 202:
                        accepted += len(each)
                        break
                    await asyncio.sleep(AGAIN_S)

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    return times, statuses, accepted


async def _histories(site: Site, places: Sequence[Target]) -> tuple[list[int], set[str]]:
    """Signals of each target over all its runs, and every fingerprint in their starts and signals."""
    ids = (f"remediate:{t.cluster}/service/{t.pool}/endpoint/{t.endpoint}" for t in places)
    signals, found = dict.fromkeys(ids, 0), set[str]()
    async for one in site.client.list_workflows('WorkflowType="Remediation"'):
        handle = site.client.get_workflow_handle(one.id, run_id=one.run_id)
        async for event in handle.fetch_history_events():
            started, told = (
                event.workflow_execution_started_event_attributes,
                event.workflow_execution_signaled_event_attributes,
            )
            signals[one.id] += event.HasField("workflow_execution_signaled_event_attributes")
            for payload in (*started.input.payloads, *told.input.payloads):
                found |= _fingerprints(json.loads(payload.data))
    return list(signals.values()), found


def _fingerprints(value: object) -> set[str]:
    if isinstance(value, list):
        return {f for one in value for f in _fingerprints(one)}
    return {str(value.get("fingerprint"))} if isinstance(value, dict) else set()


def _recorded(site: Site) -> set[str]:
    with contextlib.closing(sqlite3.connect(f"file:{site.journal}?mode=ro", uri=True)) as db:
        texts = [str(row[0]) for row in db.execute("select record from cases")]
    return {d["fingerprint"] for text in texts for d in json.loads(text)["detections"]}
