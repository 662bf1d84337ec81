"""The generation-probe detector against real engines that are stopped, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from activities.adapters.probe import HttpProber
from runbooks.detection import Detection
from tests.demo.conftest import Plant, until
from worker.detect import Detector
from worker.detect_rules import Outcome, Track, endpoint_fault, pool_lost, undecided
from worker.detect_send import TokenCounters

PERIOD_S, DEADLINE_S = 0.2, 0.5
T0 = datetime(2026, 1, 1, tzinfo=UTC)


@contextlib.asynccontextmanager
async def detecting(plant: Plant, repeat_s: float = 15.0) -> AsyncIterator[list[Detection]]:
    """The detector at work, and what it says."""
    said: list[Detection] = []

    async def sink(detection: Detection) -> None:
        said.append(detection)

    async with httpx.AsyncClient(trust_env=False) as http:
        prober = HttpProber(plant.fleet, http, {}, timeout_s=DEADLINE_S)
        detector = Detector(
            plant.fleet, prober, sink, counter=TokenCounters(plant.fleet, http, timeout_s=0.2),
            period_s=PERIOD_S, deadline_s=DEADLINE_S, repeat_s=repeat_s,
        )  # fmt: skip
        task = asyncio.create_task(detector.run())
        try:
            await until(lambda: set(detector.states().values()) == {"answering"}, 10, "all engines answer")
            yield said
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_a_stopped_engine_is_a_hang_repeated_and_resolved_under_one_name(plant: Plant) -> None:
    """Same fingerprint and start over the life of the fault; the evidence gets newer."""
    victim = plant.engines.addresses("chat-a")[0]
    async with detecting(plant, repeat_s=1.0) as said:
        before = datetime.now(UTC)
        plant.engines.suspend(victim)
        try:
            await until(lambda: len(said) >= 2, 15, "a hang and its repeat")
        finally:
            plant.engines.resume(victim)
        await until(lambda: said[-1].status == "resolved", 15, "resolved")

    first, repeat, last = said[0], said[1], said[-1]
    assert {(d.alert, d.target.endpoint) for d in said} == {("EngineHang", victim)}
    assert len({(d.key, d.started_at) for d in said}) == 1
    assert float(first.evidence["generations_failed"]) >= 3
    assert first.evidence["generations_ok"] == 0
    assert first.evidence["siblings_ok"] == 2
    assert first.evidence.get("tokens_rising") is not True
    assert before - timedelta(seconds=DEADLINE_S) <= first.started_at <= first.observed_at < repeat.observed_at
    assert last.observed_at > repeat.observed_at


async def test_one_killed_engine_is_a_crash_of_that_endpoint(plant: Plant) -> None:
    """Refused three times; resolved when it answers again."""
    victim = plant.engines.addresses("chat-b")[1]
    async with detecting(plant) as said:
        plant.engines.kill(victim)
        await until(lambda: len(said) == 1, 10, "a crash")
        await plant.engines.restart(victim)
        await until(lambda: len(said) == 2, 10, "resolved")

    assert [(d.alert, d.status, d.target.endpoint) for d in said] == [
        ("EngineCrash", "firing", victim),
        ("EngineCrash", "resolved", victim),
    ]
    assert float(said[0].evidence["refused"]) >= 3


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_pool_that_lost_most_engines_is_one_detection_about_the_pool(plant: Plant, how: str) -> None:
    """No endpoint of it is accused, although its engines do not end in the same moment."""
    victims = plant.engines.addresses("chat-a")[:2]
    async with detecting(plant) as said:
        for victim in victims:
            if how == "killed":
                plant.engines.kill(victim)
            else:
                plant.engines.suspend(victim)
            await asyncio.sleep(PERIOD_S / 2)
        try:
            await until(lambda: len(said) == 1, 15, "the pool's detection")
        finally:
            if how == "killed":
                await asyncio.gather(*(plant.engines.restart(victim) for victim in victims))
            else:
                for victim in victims:
                    plant.engines.resume(victim)
        await until(lambda: said[-1].status == "resolved", 15, "resolved")

    assert [(d.alert, d.status, d.target.id) for d in said] == [
        ("PoolEnginesLost", "firing", "demo/service/chat-a"),
        ("PoolEnginesLost", "resolved", "demo/service/chat-a"),
    ]
    assert said[0].evidence == {"endpoints": 3, "answering": 1, "lost": 2}


def _track(outcomes: str, first: int = 0) -> Track:
    kinds = {".": Outcome.OK, "t": Outcome.TIMEOUT, "r": Outcome.REFUSED, "o": Outcome.OTHER}
    track = Track()
    for index, letter in enumerate(outcomes):
        track.add(T0 + timedelta(seconds=first + index), kinds[letter])
    return track


def test_a_busy_engine_whose_token_counter_rises_is_not_hung() -> None:
    """It makes tokens, only not ours in time."""
    tracks = {"a": _track("..ttt"), "b": _track(".....")}
    assert endpoint_fault("a", tracks) is not None

    tracks["a"].count(T0, 100)
    tracks["a"].count(T0 + timedelta(seconds=1), 130)

    assert endpoint_fault("a", tracks) is None


def test_a_flat_counter_is_evidence_and_an_unread_one_is_left_out() -> None:
    """What was not measured is never claimed."""
    tracks = {"a": _track("..ttt"), "b": _track(".....")}
    unread = endpoint_fault("a", tracks)
    tracks["a"].count(T0, 100)
    tracks["a"].count(T0 + timedelta(seconds=1), 100)
    flat = endpoint_fault("a", tracks)

    assert unread is not None
    assert "tokens_rising" not in unread.evidence
    assert flat is not None
    assert flat.evidence["tokens_rising"] is False


def test_without_a_sibling_that_answered_meanwhile_nothing_is_said() -> None:
    """It may be the network, or this detector."""
    assert endpoint_fault("a", {"a": _track("..ttt"), "b": _track("..", first=-9)}) is None


def test_an_answer_that_overtakes_older_failures_ends_them() -> None:
    """Generations count in the order in which they were sent."""
    track = _track("tt")
    track.add(T0 + timedelta(seconds=9), Outcome.OK)
    track.add(T0 + timedelta(seconds=3), Outcome.TIMEOUT)

    assert track.failures == []


def test_mixed_failures_are_neither_hang_nor_crash() -> None:
    """HTTP 500 and an empty text have classes of their own."""
    assert endpoint_fault("a", {"a": _track("ooo"), "b": _track("...")}) is None
    assert endpoint_fault("a", {"a": _track("trt"), "b": _track("...")}) is None


def test_half_of_a_pool_is_not_most_of_it_and_most_of_it_waits_for_proof() -> None:
    """Two of four are endpoints' faults; two of three that have begun to fail accuse nobody yet."""
    half = {"a": _track("ttt"), "b": _track("rrr"), "c": _track("..."), "d": _track("...")}
    begun = {"a": _track("rrr"), "b": _track(".rr"), "c": _track("...")}

    assert pool_lost(half) is None
    assert not undecided(half)
    assert pool_lost(begun) is None
    assert undecided(begun)
