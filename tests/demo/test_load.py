"""The load: open loop, every request on record, failures counted to the moment when they left."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.demo.conftest import Plant, until
from worker.demo.load import Load, Request, read_record, window


async def test_every_request_is_on_record_with_who_served_it(plant: Plant, tmp_path: Path) -> None:
    """Both pools serve, and the record on disk is the record in memory."""
    async with Load(plant.url, 20, tmp_path / "requests.jsonl", most_s=20) as load:
        await until(lambda: len(load.requests) >= 30, 10, "30 requests")
        load.check()
        now = load.window(5)

    assert {r.pool for r in load.requests} == {"chat-a", "chat-b"}
    addresses = {e.address for p in plant.fleet.pools for e in p.endpoints}
    assert {r.endpoint for r in load.requests if r.ok} <= addresses
    assert {r.tier for r in load.requests} == {"batch", "interactive"}
    assert now.error_rate == 0
    assert now.p50_s is not None
    assert 0 < now.p50_s < 1
    on_disk = read_record(tmp_path / "requests.jsonl")
    assert sorted(load.requests, key=lambda r: r.at) == on_disk


async def test_a_stopped_engine_makes_requests_fail_and_does_not_slow_the_rest(plant: Plant, tmp_path: Path) -> None:
    """Open loop: what hangs does not hold back what comes after."""
    victim = plant.engines.addresses("chat-a")[0]
    async with Load(plant.url, 20, tmp_path / "requests.jsonl", most_s=30, timeout_s=1.0) as load:
        await until(lambda: len(load.requests) >= 10, 10, "10 requests")
        fault = time.time()
        plant.engines.suspend(victim)
        try:
            await until(lambda: load.failures(fault, time.time()) >= 3, 10, "3 failed requests")
            ok = [r for r in load.requests if r.at > fault and r.ok]
            assert ok
            assert all(r.endpoint != victim for r in ok)
        finally:
            plant.engines.resume(victim)

    took = max(r.at for r in load.requests) - min(r.at for r in load.requests)
    assert len(load.requests) >= 0.8 * 20 * took - 25


async def test_the_load_ends_by_itself(plant: Plant, tmp_path: Path) -> None:
    """However long the demo waits for a person, the load is bounded."""
    began = time.monotonic()
    async with Load(plant.url, 50, tmp_path / "requests.jsonl", most_s=0.5) as load:
        await until(lambda: load._task is not None and load._task.done(), 5, "the end of the load")
    assert time.monotonic() - began < 5
    await asyncio.sleep(0)


def test_a_request_in_flight_at_the_fault_counts_to_the_fault() -> None:
    """And one that left before the mitigation counts to the time before it, although it failed later."""
    load = Load("http://127.0.0.1:1", 1, Path("unused"), most_s=1)
    for at, ok in ((90.0, False), (98.0, False), (105.0, False), (109.0, False), (109.5, True), (111.0, False)):
        load.requests.append(Request(at, ok, 3.0, None, "", "", "batch", ""))

    assert load.failures(100.0, 110.0) == 3
    assert load.left_and_failed(110.0, 120.0) == 1


def test_no_requests_are_no_measurement() -> None:
    """An error rate of nothing is not zero."""
    assert window([]).error_rate is None
    assert window([]).p99_s is None
