"""Readings of a real Prometheus: one fresh number, or None and why."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from activities.adapters.exposition import buckets, parse, quantile, total
from activities.adapters.prometheus import PrometheusSource
from tests.adapters.engine_lab import Engine, engines, free_port, until
from tests.adapters.prom_lab import PROMETHEUS, Prometheus, exporter, prometheus

pytestmark = pytest.mark.skipif(not PROMETHEUS.exists(), reason="no Prometheus on this machine (Debian: prometheus)")


class Lab:
    """A Prometheus that scrapes one engine and one hand-written page."""

    def __init__(self, server: Prometheus, engine: Engine, source: PrometheusSource) -> None:
        self.server, self.engine, self.source = server, engine, source


@pytest.fixture(scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with exporter() as page, httpx.AsyncClient() as client:
        old = int((time.time() - 60) * 1000)
        page.page = f'fresh 4\nworked_out NaN\nendless +Inf\nold 7 {old}\nlabelled{{path="{{a}}"}} 3\n'
        with (
            engines(1) as (engine,),
            prometheus(
                tmp_path_factory.mktemp("prometheus"), {"engine": engine.address, "page": page.address}
            ) as server,
        ):
            source = PrometheusSource(server.url, client, max_age_s=5.0, timeout_s=1.0)

            async def scraped() -> bool:
                seen = [await source.query(q) for q in ("fresh", "vllm:num_requests_waiting")]
                return all(reading.value is not None for reading in seen)

            await until(scraped)
            yield Lab(server, engine, source)


async def test_a_bare_selector_gives_the_value_and_the_time_of_its_sample(lab: Lab) -> None:
    """The sample's own time, not that of the question."""
    for query in ("fresh", 'fresh{job="page"}', 'labelled{path="{a}"}'):
        before = datetime.now(UTC)
        reading = await lab.source.query(query)

        assert reading.value in (4.0, 3.0)
        assert before - timedelta(seconds=5) < reading.observed_at < datetime.now(UTC)


async def test_an_expression_gives_its_value_at_the_time_of_evaluation(lab: Lab) -> None:
    """Sums and scalars, too."""
    assert (await lab.source.query("sum(fresh) * 2")).value == 8.0
    assert (await lab.source.query("scalar(fresh)")).value == 4.0

    async def rated() -> bool:
        return (await lab.source.query("sum(rate(vllm:generation_tokens_total[5s]))")).value == 0.0

    await until(rated)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("nothing_like_it", "no series"),
        ("worked_out", "nan"),
        ("vector(0)/0", "nan"),
        ("endless", "inf"),
        ("up", "2 series"),
        ("fresh[5s]", "is a matrix"),
        ('"text"', "is a string"),
        ("fresh{", "HTTP 400"),
        ("old", "stale: the sample is 6"),
    ],
)
async def test_what_is_no_single_fresh_number_is_none(lab: Lab, query: str, why: str) -> None:
    """Missing, NaN, infinite, several, wrong, stale: never a default."""
    reading = await lab.source.query(query)

    assert reading.value is None
    assert why in reading.why


async def test_a_killed_engine_has_no_value_rather_than_its_last_one(lab: Lab) -> None:
    """Prometheus marks the series stale at the first failed scrape."""
    lab.engine.kill()

    async def gone() -> bool:
        return (await lab.source.query("vllm:num_requests_waiting")).value is None

    await until(gone)
    lab.engine.restart()


async def test_a_prometheus_that_is_stopped_or_away_gives_none(lab: Lab, tmp_path: Path) -> None:
    """SIGSTOP: no answer in time. Nobody there: refused. Another service: no query result."""
    os.kill(lab.server.process.pid, signal.SIGSTOP)
    try:
        assert "no answer within" in (await lab.source.query("fresh")).why
    finally:
        os.kill(lab.server.process.pid, signal.SIGCONT)
    async with httpx.AsyncClient() as client:
        away = PrometheusSource(f"http://127.0.0.1:{free_port()}", client, 5.0)
        other = PrometheusSource(lab.engine.url, client, 5.0)

        assert (await away.query("fresh")).why == "Prometheus: connection refused"
        assert (await other.query("fresh")).value is None


async def test_a_clock_far_from_ours_makes_no_value(lab: Lab) -> None:
    """Its times would mean nothing beside other facts."""
    async with httpx.AsyncClient() as client:
        source = PrometheusSource(lab.server.url, client, 5.0, now=lambda: datetime.now(UTC) + timedelta(seconds=60))

        assert "clock" in (await source.query("fresh")).why


def test_the_text_format_is_read_strictly() -> None:
    """Labels with quotes, commas and braces; timestamps; NaN; and a torn line fails the whole page."""
    [metric] = parse('# HELP x y\nx{a="q\\"},{",b="l\\nm\\\\",} 1.5e3 1700000000000\n')

    assert (metric.labels, metric.value) == ({"a": 'q"},{', "b": "l\nm\\"}, 1500.0)
    assert total(parse('x 1\nx{a="b"} 2\n'), "x") == 3
    assert total(parse("x 1\n"), "y") is None
    for torn in ("x", 'x{a="b} 1', "x{a=b} 1", "x one", "x 1 2 3", "<html>"):
        with pytest.raises(ValueError, match="line 1"):
            parse(torn)


def test_a_quantile_is_of_what_came_between_two_readings() -> None:
    """Nothing came: None. Beyond the last bound: infinite, which is no measurement."""
    page = 'h_bucket{le="0.1"} {a}\nh_bucket{le="1"} {b}\nh_bucket{le="+Inf"} {c}\n'

    def read(a: int, b: int, c: int) -> dict[float, float]:
        filled = page.replace("{a}", str(a)).replace("{b}", str(b)).replace("{c}", str(c))
        return buckets(parse(filled), "h")

    assert quantile(read(5, 9, 10), read(15, 19, 20), 0.99) == 0.1
    assert quantile(read(5, 9, 10), read(5, 19, 20), 0.99) == 1.0
    assert quantile(read(5, 9, 10), read(5, 9, 20), 0.99) == float("inf")
    assert quantile(read(5, 9, 10), read(5, 9, 10), 0.99) is None
