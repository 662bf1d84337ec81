"""The harness's own arithmetic. Nothing here is timed."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.bench.alerts import Alert
from tests.bench.measures import Paced, Storm
from tests.bench.plot import draw
from tests.bench.sender import Door, burst
from tests.bench.sink import Sink
from tests.bench.stats import audit, percentile, rate, spread
from tests.bench.wire import serve
from worker.demo.processes import free_ports


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """Nearest rank: of 100 values the 99th, of three the largest for p95, of one always that one."""
    values = [float(n) for n in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert percentile([7.0], 0.01) == 7.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.01)])
def test_no_percentile_is_made_up(values: list[float], share: float) -> None:
    """Nothing measured, or no such share: an error, never a default."""
    with pytest.raises(ValueError, match=r"measured|share"):
        percentile(values, share)


def test_a_spread_is_in_milliseconds() -> None:
    """Seconds go in."""
    found = spread([0.010, 0.030, 0.020])
    assert (found.count, round(found.p50, 6), round(found.most, 6)) == (3, 20.0, 30.0)


def test_the_audit_tells_lost_from_twice_from_stray() -> None:
    """b was accepted and never acted on, c was acted on twice, d nobody said was accepted; order does not matter."""
    found = audit(["a", "b", "c"], ["c", "d", "a", "c"])
    assert (found.due, found.acted) == (3, 2)
    assert (found.lost, found.twice, found.stray) == (("b",), ("c",), ("d",))


def test_a_rate_counts_from_the_beginning_to_the_last() -> None:
    """Four acts, the last two seconds after the beginning."""
    assert rate([10.5, 11.0, 12.0, 11.5], 10.0) == 2.0
    assert rate([], 10.0) == 0.0


def test_the_sender_and_the_sink_lose_nothing_between_them() -> None:
    """Fifty alerts over eight connections to a receiver that refuses every fifth: the sender counts the rest, the sink has each."""

    async def play() -> tuple[int, int, int]:
        port = free_ports(1)[0]
        sink, asked = Sink(), 0

        async def receiver(method: str, path: str, body: bytes) -> tuple[int, object]:
            nonlocal asked
            asked += 1
            if asked % 5 == 0:
                return 503, {}
            key = json.loads(body)["alerts"][0]["fingerprint"]
            return await sink.handle("POST", "/act", json.dumps({"key": key}).encode())

        server = await serve(port, receiver)
        sent = await burst(Door(port, "/alerts"), [Alert("c", "p", "127.0.0.1:1") for _ in range(50)], 8)
        server.close()
        good = [s.alert.fingerprint for s in sent if s.accepted]
        found = audit(good, [a["key"] for a in sink.acts])
        return len(good), found.acted, len(found.lost) + len(found.twice) + len(found.stray)

    assert asyncio.run(play()) == (40, 40, 0)


def test_the_plot_names_a_contestant_that_cannot_run_and_says_why() -> None:
    """Its reason stands where its bar would be, and the ratio is against the named peer."""

    class Row:
        def __init__(self, name: str, paced: Paced | None, cannot: str = "") -> None:
            self.name, self.paced, self.cannot = name, paced, cannot
            self.burst: Storm | None = None

    fast, slow = spread([0.004]), spread([0.040])
    rows = [Row("Interlock", Paced(slow, slow, 0)), Row("Robusta", Paced(fast, fast, 0)), Row("Third", None, "no JVM")]
    picture = draw(rows, 4.0)
    assert "no JVM" in picture
    assert "×10.00" in picture
