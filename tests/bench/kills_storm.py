"""The storm: engines that really hang and are really mended, bursts of other alerts beside them, and kills at random moments.

A detector comes again with the same fingerprint until it has its 202, as real ones do. What it was told 202 for is accepted,
and that is what the audit asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from temporalio.client import WorkflowQueryFailedError
from temporalio.service import RPCError

from runbooks.detection import Detection
from runbooks.fleet import Pool
from tests.bench.kills_faults import ILL_S
from tests.bench.kills_plant import Kind, Plant
from tests.bench.kills_site import TOKEN

BURST, EVERY_S, NODES = 10, 1.5, 3
"""Alerts of one burst in one domain, seconds between two bursts, and nodes beside the pool that they are about."""
GAP_S = (0.2, 6.0)
"""Before a kill."""
AIMED, AIM_AT_MOST_S = 0.4, 20.0
"""Share of kills that wait for the next hang to be told or to be over, and seconds for which they wait at most."""
WHEN_ALL_ARE_UP = 0.4
"""Share that wait until nobody is down any more, so that work is under way on a slow machine too. The rest wait for nothing,
and may fall into somebody's start."""
SHOWN_S = 3.0
"""A hang is there this long before its alert: a detector's failed generations, and two looks of the watcher."""
HANGS = 5
"""Fingerprints that tell of one hung engine."""
PATIENCE_S = 150.0
"""For one case to get from one state to the next, whatever died meanwhile: an attempt that died is known after 15 s."""


@dataclass
class Storm:
    """What was accepted, where it went, and what was seen of it in a case that was still open."""

    plant: Plant
    dice: random.Random
    accepted: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    resolved: set[str] = field(default_factory=set)
    sent: int = 0
    refused: int = 0
    over: bool = False
    told: asyncio.Event = field(default_factory=asyncio.Event)
    ills: int = 0
    _numbers: Any = field(default_factory=itertools.count)

    async def tell(self, target: dict[str, str], alert: str, **more: Any) -> dict[str, Any]:
        """One detection of a new fingerprint, told until it is accepted."""
        now = datetime.now(UTC).isoformat()
        body = {
            "alert": alert,
            "target": target,
            "severity": "critical",
            "started_at": now,
            "observed_at": now,
            "detector": "storm",
            "fingerprint": f"storm-{next(self._numbers):06d}",
            **more,
        }
        await self.send(body)
        self.accepted[body["fingerprint"]] = Detection.model_validate(body).workflow_id
        return body

    async def send(self, body: dict[str, Any]) -> None:
        """Until 2xx."""
        while True:
            self.sent += 1
            with contextlib.suppress(httpx.HTTPError):
                answer = await self.plant.http.post(
                    f"{self.plant.url}/v1/detections", json=body, headers={"authorization": f"Bearer {TOKEN}"}
                )
                if answer.status_code == 202:
                    return
                assert answer.status_code in (500, 503), (
                    f"a good alert was answered {answer.status_code}: {answer.text}"
                )
            self.refused += 1
            await asyncio.sleep(0.5)

    async def status(self, workflow_id: str) -> dict[str, Any]:
        """The newest run's own word; nothing while nobody can answer."""
        handle = self.plant.client.get_workflow_handle(workflow_id)
        with contextlib.suppress(RPCError, WorkflowQueryFailedError):
            found: dict[str, Any] = await handle.query("status", rpc_timeout=timedelta(seconds=3))
            return found
        return {"state": ""}


async def raging(storm: Storm, blows: int, fault: bool = False) -> None:
    """Everything at once until so many blows are done; then what is under way comes to its end. A blow is a kill, or with
    `fault` a time for which the plant's fault is there."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_ill(storm, blows) if fault else _kills(storm, blows))
        for pool in storm.plant.fleet.pools:
            group.create_task(_bursts(storm, pool.cluster, pool.name))
            group.create_task(_hangs(storm, pool))


async def _kills(storm: Storm, kills: int) -> None:
    kinds: list[Kind] = ["worker", "intake", "temporal"]
    for number in range(kills):
        if number % len(kinds) == 0:
            storm.dice.shuffle(kinds)  # in rounds of all three: a short run must not leave one out by luck
        when = storm.dice.random()
        if when < AIMED:  # into a case that is about to act: without an aim most kills find cases that only page
            storm.told.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(storm.told.wait(), AIM_AT_MOST_S)
        elif when < AIMED + WHEN_ALL_ARE_UP:
            await _within(storm.plant.up, PATIENCE_S)
        await asyncio.sleep(storm.dice.uniform(*GAP_S))
        storm.plant.kept[kinds[number % len(kinds)]].kill()
    storm.over = True


async def _ill(storm: Storm, times: int) -> None:
    for _ in range(times):
        await _within(storm.plant.up, PATIENCE_S)
        await asyncio.sleep(storm.dice.uniform(*GAP_S))
        with storm.plant.ill():
            await asyncio.sleep(storm.dice.uniform(*ILL_S))
        storm.ills += 1
    storm.over = True


async def _bursts(storm: Storm, cluster: str, pool: str) -> None:
    """Alerts that nothing is known of: each ends in a case that pages and closes, so the next one may find it closing."""
    targets = [{"cluster": cluster, "service": pool}]
    targets += [{"cluster": cluster, "node": f"{cluster}-node-{n}"} for n in range(NODES)]
    while not storm.over:
        async with asyncio.TaskGroup() as group:
            for number in range(BURST):
                group.create_task(storm.tell(targets[number % len(targets)], "StormNoise"))
        await asyncio.sleep(EVERY_S)


async def _hangs(storm: Storm, pool: Pool) -> None:
    """One engine after the other hangs, is isolated, is mended, and comes back."""
    for number in itertools.count():
        if storm.over:
            return
        await _hang(storm, pool, pool.endpoints[number % len(pool.endpoints)].address)


async def _hang(storm: Storm, pool: Pool, address: str) -> None:
    target = {"cluster": pool.cluster, "service": pool.name, "endpoint": address}
    proof = {"generations_failed": 3, "generations_ok": 0, "siblings_ok": 2, "tokens_rising": False}
    await storm.plant.hang(address, True)
    await asyncio.sleep(SHOWN_S)
    try:
        told = await asyncio.gather(*(storm.tell(target, "EngineHang", evidence=proof) for _ in range(HANGS)))
        storm.told.set()
        name, mine = storm.accepted[told[0]["fingerprint"]], {t["fingerprint"] for t in told}

        async def mitigated() -> bool:
            status = await storm.status(name)
            inside = {d["fingerprint"] for d in status.get("record", {}).get("detections", [])}
            storm.seen |= mine & inside
            return status["state"] == "closed" or (status["state"] == "mitigated" and mine <= storm.seen)

        await _within(mitigated, PATIENCE_S)
    finally:
        await storm.plant.hang(address, False)
    now = datetime.now(UTC).isoformat()
    for body in told:
        if body["fingerprint"] in storm.seen:  # one that no open case knows must be found in a closed one, as it fired
            storm.resolved.add(body["fingerprint"])
            await storm.send({**body, "status": "resolved", "observed_at": now})
    storm.told.set()

    async def closed() -> bool:
        return bool((await storm.status(name))["state"] == "closed")

    await _within(closed, PATIENCE_S)


async def _within(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Whether it became true. What did not is the audit's to find."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if await condition():
            return True
        await asyncio.sleep(0.3)
    return False
