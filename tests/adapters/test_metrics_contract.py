"""What every Metrics must hold to, on real engines behind a real Envoy, and in the simulated site: a value is fresh and
measured, or it is None and why.

The suite runs for each entry of KINDS; another implementation is one more entry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import httpx
import pytest

from activities.adapters.measure import Measurements
from activities.adapters.probe import HttpProber
from activities.adapters.scrape import ScrapeSource
from activities.adapters.watch import PoolWatcher
from activities.errors import Permanent, Retryable
from activities.ports import Metrics, Snapshot
from runbooks.facts import PoolState
from runbooks.fleet import Fleet
from runbooks.plan import IndicatorQuery, Sample
from tests.adapters.engine_lab import Engine, declared, engines, fleet_of, until
from tests.adapters.prom_lab import Envoy, envoy
from tests.adapters.simulated_lab import SimulatedEngines

KINDS = ("measured now", "watched", "simulated")


@dataclass
class Lab:
    """Pool `a` has two engines, pool `b` one; each engine has 2 slots and gives 60 tokens/s."""

    a: list[Engine]
    b: list[Engine]
    fleet: Fleet
    envoy: Envoy

    @property
    def all(self) -> list[Engine]:
        return self.a + self.b


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with engines(3, "--tokens-per-second", "60", "--slots", "2") as (one, two, three):
        pools = {"a": [one, two], "b": [three]}
        with envoy(tmp_path_factory.mktemp("envoy"), pools) as front:
            yield Lab([one, two], [three], fleet_of(pools, tps=60.0), front)


@dataclass
class SimulatedLab(Lab):
    """The same in a simulated site."""

    engines: SimulatedEngines


def simulated_lab() -> SimulatedLab:
    """A fresh one."""
    made = SimulatedEngines({"a": 2, "b": 1})
    a, b = made.of("a"), made.of("b")
    return SimulatedLab(a, b, made.fleet, None, made)  # type: ignore[arg-type]


@pytest.fixture(params=KINDS)
def lab(request: pytest.FixtureRequest) -> Lab:
    """Engines that are well, real or simulated."""
    if request.param == "simulated":
        return simulated_lab()
    found: Lab = request.getfixturevalue("real_lab")
    return found


@pytest.fixture
def real_lab(shared: Lab) -> Iterator[Lab]:
    """All engines healed; what the test stopped or killed is brought back."""
    for engine in shared.all:
        engine.fault()
    yield shared
    for engine in shared.all:
        if engine.process.poll() is not None:
            engine.restart()
        engine.thaw()
        engine.fault()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
async def metrics(request: pytest.FixtureRequest, lab: Lab, client: httpx.AsyncClient) -> AsyncIterator[Metrics]:
    """A Metrics over the lab. The watched one looks each 0.3 s."""
    if isinstance(lab, SimulatedLab):
        yield lab.engines.site.metrics
        return
    prober = HttpProber(lab.fleet, client, {"chat": f"{lab.envoy.front}/a"}, timeout_s=1.0)
    source = ScrapeSource(client, timeout_s=1.0)
    if request.node.callspec.params["lab"] == "measured now":
        yield Measurements(lab.fleet, prober, None, lab.envoy.admin, client, source=source, probe_timeout_s=0.8)
        return
    async with PoolWatcher(lab.fleet, prober, source, lab.envoy.admin, period_s=0.3, probe_timeout_s=0.8) as watcher:

        async def seen() -> bool:
            return all(watcher.newest(engine.address) for engine in lab.all)

        await until(seen)
        yield Measurements(lab.fleet, prober, None, lab.envoy.admin, client, source=source, watcher=watcher)


@asynccontextmanager
async def load(
    lab: Lab, client: httpx.AsyncClient, pool: str, count: int, timeout: float = 10.0
) -> AsyncIterator[None]:
    """So many clients that ask a pool through Envoy without a pause, 10 tokens each time."""
    if isinstance(lab, SimulatedLab):
        async with lab.engines.load(pool, count, timeout):
            yield
        return
    ask = {"prompt": "a", "max_tokens": 10}
    stop = False

    async def one() -> None:
        while not stop:
            try:
                await client.post(f"{lab.envoy.front}/{pool}/v1/completions", json=ask, timeout=timeout)
            except (httpx.TimeoutException, httpx.RemoteProtocolError):
                continue  # no patience left; or the route's: where its end meets the first byte, Envoy cuts the answer off

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    try:
        yield
    finally:
        stop = True  # and not cancel: httpx leaks a connection that is cancelled while it connects
        await asyncio.gather(*tasks)


async def sample(metrics: Metrics, source: Literal["scrape", "probe", "prometheus"], query: str, scope: str) -> Sample:
    [found] = await metrics.sample([IndicatorQuery(name="x", source=source, query=query, unit="1", scope=scope)])
    return found


async def pool(metrics: Metrics, lab: Lab, name: str, out: tuple[str, ...] = ()) -> PoolState:
    return (await metrics.pools("c1", declared(lab.fleet, out)))[name]


async def test_samples_come_in_the_order_of_the_queries(metrics: Metrics, lab: Lab) -> None:
    """One reading each, a failed one in its place with its reason, all with a time of now."""
    names = [("probe", "ok", lab.a[0].address), ("scrape", "nonsense", "a"), ("scrape", "queue", "b")]
    queries = [
        IndicatorQuery.model_validate({"name": q, "source": s, "query": q, "unit": "1", "scope": w})
        for s, q, w in names
    ]
    before = datetime.now(UTC)
    first, second, third = await metrics.sample(queries)

    assert (first.indicator, first.value) == ("ok", 1.0)
    assert (second.indicator, second.value) == ("nonsense", None)
    assert "no indicator 'nonsense'" in second.why
    assert (third.indicator, third.value) == ("queue", 0.0)
    assert all(before <= s.observed_at <= datetime.now(UTC) for s in (first, second, third))


async def test_a_probe_reads_one_for_a_token_and_zero_for_none(metrics: Metrics, lab: Lab) -> None:
    """Zero is a measurement, with its reason; the length of a generation that gave nothing is none."""
    assert (await sample(metrics, "probe", "ok", "route/chat")).value == 1.0
    length = (await sample(metrics, "probe", "seconds", "route/chat")).value
    assert length is not None
    assert 0 < length < 1
    lab.a[0].fault(hang=True)
    hung = await sample(metrics, "probe", "ok", lab.a[0].address)

    assert (hung.value, hung.why) == (0.0, "no token within 1.0 s")
    assert (await sample(metrics, "probe", "seconds", lab.a[0].address)).value is None


async def test_what_cannot_be_asked_is_none_and_not_zero(metrics: Metrics) -> None:
    """An endpoint, a pool or a source that is not there says nothing about any engine."""
    for source, query, scope in (
        ("probe", "ok", "127.0.0.1:1"),
        ("scrape", "queue", "nowhere"),
        ("scrape", "error_rate", "route/nowhere"),
        ("scrape", "", ""),
        ("prometheus", "up", ""),
    ):
        found = await sample(metrics, source, query, scope)  # type: ignore[arg-type]

        assert found.value is None
        assert found.why


async def test_the_token_rate_of_a_pool_is_what_its_engines_generate(
    metrics: Metrics, lab: Lab, client: httpx.AsyncClient
) -> None:
    """A saturated engine of 60 tokens/s reads near 60, by sample and by pool state; one call suffices."""
    async with load(lab, client, "b", 2):

        async def saturated() -> bool:
            read = await sample(metrics, "scrape", "tokens_per_second", "b")
            state = await pool(metrics, lab, "b")
            return all(rate is not None and 40 < rate < 70 for rate in (read.value, state.load_tps))

        await until(saturated)


async def test_a_queue_and_the_cache_are_read_from_the_engine(
    metrics: Metrics, lab: Lab, client: httpx.AsyncClient
) -> None:
    """Five clients on two slots: three wait, and at most three probes of a watcher beside them."""
    async with load(lab, client, "b", 5):

        async def queued() -> bool:
            state = await pool(metrics, lab, "b")
            read = await sample(metrics, "scrape", "queue", "b")
            return all(value is not None and 3 <= value <= 6 for value in (read.value, state.queue))

        await until(queued)
        kv = (await sample(metrics, "scrape", "kv_used", "b")).value

    assert kv is not None
    assert 0 < kv < 1


async def test_the_error_rate_is_the_share_of_failed_requests(
    metrics: Metrics, lab: Lab, client: httpx.AsyncClient
) -> None:
    """None without traffic, 0 when all is well, about a half when one of two engines fails all."""
    assert (await sample(metrics, "scrape", "requests_per_second", "b")).value is not None
    async with load(lab, client, "a", 4):

        async def rate_is(low: float, high: float) -> bool:
            read = await sample(metrics, "scrape", "error_rate", "route/chat")
            return read.value is not None and low <= read.value <= high

        await until(lambda: rate_is(0.0, 0.0))
        lab.a[0].fault(error_rate=1.0)
        await until(lambda: rate_is(0.3, 1.0))
        lab.a[0].fault()
        await until(lambda: rate_is(0.0, 0.0))

    async def silent() -> bool:
        return (await sample(metrics, "scrape", "error_rate", "a")).value is None

    await until(silent)


async def test_requests_that_clients_give_up_count_as_errors(
    metrics: Metrics, lab: Lab, client: httpx.AsyncClient
) -> None:
    """A hang has no status code: Envoy counts neither a 5xx nor an end, yet the callers got nothing."""
    lab.b[0].fault(hang=True)
    async with load(lab, client, "b", 3, timeout=0.2):

        async def all_fail() -> bool:
            return (await sample(metrics, "scrape", "error_rate", "b")).value == 1.0

        await until(all_fail)


async def test_healthy_pools_answer_in_full(metrics: Metrics, lab: Lab) -> None:
    """Counts, capacity and times of an idle fleet."""
    before = datetime.now(UTC)
    states = await metrics.pools("c1", declared(lab.fleet))

    assert set(states) == {"a", "b"}
    assert (states["a"].endpoints, states["a"].in_rotation, states["a"].answering) == (2, 2, 2)
    assert states["a"].capacity_tps == 120.0
    assert states["a"].load_tps is not None
    assert states["b"].queue == 0.0
    assert before - timedelta(seconds=3) < states.observed_at <= datetime.now(UTC)  # type: ignore[attr-defined]


async def test_an_endpoint_out_of_rotation_is_not_counted(metrics: Metrics, lab: Lab) -> None:
    """It may answer well: it serves nobody."""
    state = await pool(metrics, lab, "a", out=(lab.a[0].address,))

    assert (state.endpoints, state.in_rotation, state.answering, state.capacity_tps) == (2, 1, 1, 60.0)
    nobody = await pool(metrics, lab, "b", out=(lab.b[0].address,))
    assert (nobody.in_rotation, nobody.answering, nobody.capacity_tps, nobody.queue) == (0, 0, 0.0, None)


@pytest.mark.parametrize(
    ("lab", "fault"),
    # The model knows wrong text, and no text that is empty.
    [(k, f) for k in KINDS for f in ("frozen", "killed", "hung", "500s", "empty") if (k, f) != ("simulated", "empty")],
    indirect=["lab"],
)
async def test_an_engine_that_gives_no_token_does_not_answer(metrics: Metrics, lab: Lab, fault: str) -> None:
    """Whatever the way in which it fails, and whatever its /health says; it answers again when it is healed."""
    sick = lab.a[1]
    match fault:
        case "frozen":
            sick.freeze()
        case "killed":
            sick.kill()
        case "hung":
            sick.fault(hang=True)
        case "500s":
            sick.fault(error_rate=1.0)
        case "empty":
            sick.fault(empty=True)

    async def one_left() -> bool:
        state = await pool(metrics, lab, "a")
        return (state.in_rotation, state.answering, state.capacity_tps) == (2, 1, 60.0)

    await until(one_left)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:  # it stays so: a slow probe must not make the picture flicker to "not measured"
        assert await one_left()
        await asyncio.sleep(0.05)
    if sick.process.poll() is not None:
        sick.restart()
    sick.thaw()
    sick.fault()

    async def both() -> bool:
        return (await pool(metrics, lab, "a")).answering == 2

    await until(both)


async def test_a_busy_engine_is_not_hung(metrics: Metrics, lab: Lab, client: httpx.AsyncClient) -> None:
    """Its queue is longer than any probe waits, but it gives tokens to others meanwhile."""
    async with load(lab, client, "b", 30, timeout=30.0):

        async def queued() -> bool:
            return ((await sample(metrics, "scrape", "queue", "b")).value or 0) > 20

        await until(queued)

        async def probed() -> bool:
            said = await sample(metrics, "probe", "ok", lab.b[0].address)
            if said.value is None and "held up" in said.why:
                return False  # on a busy machine the prober itself was late, and says so: nothing else may be unknown
            assert said.value == 0.0, said
            return True

        await until(probed)
        for _ in range(3):
            assert (await pool(metrics, lab, "b")).answering == 1


async def test_the_load_of_a_pool_with_a_silent_engine_is_told_by_the_proxy(
    metrics: Metrics, lab: Lab, client: httpx.AsyncClient
) -> None:
    """Its counters cannot be read; what Envoy asks of it, at the route's tokens per request, can. Idle: zero."""
    lab.a[0].kill()

    async def load_is(low: float, high: float) -> bool:
        state = await pool(metrics, lab, "a")
        return state.load_tps is not None and low <= state.load_tps <= high

    await until(lambda: load_is(0.0, 0.0))
    async with load(lab, client, "a", 1), load(lab, client, "b", 2):
        await until(lambda: load_is(10.0, 10000.0))


@pytest.mark.parametrize("lab", ["measured now", "watched"], indirect=True)
async def test_the_load_of_the_only_pool_of_a_route_is_told_by_its_other_engines_when_one_is_frozen(
    metrics: Metrics, lab: Lab, client: httpx.AsyncClient
) -> None:
    """No other pool tells how many tokens a request has. Unknown would keep a frozen engine in rotation for good (G3)."""
    lab.b[0].kill()  # with it the route has no other pool that can be read
    lab.a[1].freeze()
    async with load(lab, client, "a", 4, timeout=1.0):

        async def told() -> bool:
            state = await pool(metrics, lab, "a")
            return state.answering == 1 and state.load_tps is not None and 10.0 <= state.load_tps <= 10000.0

        await until(told)


async def test_the_time_to_the_first_token_is_of_requests_in_the_window(
    metrics: Metrics, lab: Lab, client: httpx.AsyncClient
) -> None:
    """From vLLM's histogram: the bound of the bucket that holds the 99th percentile."""
    lab.b[0].fault(ttft_s=0.3)
    async with load(lab, client, "b", 1):

        async def slow() -> bool:
            found = (await sample(metrics, "scrape", "ttft_p99_s", "b")).value
            return found is not None and found >= 0.5

        await until(slow)


async def test_llama_cpp_has_no_cache_gauge_and_says_so(client: httpx.AsyncClient) -> None:
    """What an engine does not tell is None; its queue and tokens are told under its own names."""
    with engines(1, "--dialect", "llamacpp") as (one,):
        fleet = fleet_of({"a": [one]}, dialect="llamacpp")
        metrics = Measurements(fleet, HttpProber(fleet, client, {}), None, None, client)
        kv = await sample(metrics, "scrape", "kv_used", "a")
        tokens = await sample(metrics, "scrape", "tokens_per_second", "a")
        states = await metrics.pools("c1", declared(fleet))

    assert (kv.value, kv.why) == (None, "kv_used a: llamacpp has no KV-cache gauge")
    assert tokens.value == 0.0
    assert (states["a"].answering, states["a"].kv_used, states["a"].queue) == (1, None, 0.0)


async def test_a_pool_stands_for_its_endpoints_in_rotation(real_lab: Lab, client: httpx.AsyncClient) -> None:
    """After an isolation the pool is judged without the endpoint that is out; before it, a partial sum says so."""
    lab = real_lab
    lab.a[0].kill()
    prober = HttpProber(lab.fleet, client, {})
    blind = Measurements(lab.fleet, prober, None, None, client)

    async def read(domain: str) -> Snapshot:
        return declared(lab.fleet, out=(lab.a[0].address,))

    seeing = Measurements(lab.fleet, prober, None, None, client, declared=read)
    partial = await sample(blind, "scrape", "tokens_per_second", "a")

    assert (await sample(blind, "scrape", "queue", "a")).value is None
    assert partial.value is not None
    assert partial.why == f"lower bound, without {lab.a[0].address}: connection refused"
    assert (await sample(seeing, "scrape", "queue", "a")).value == 0.0
    assert (await sample(seeing, "scrape", "tokens_per_second", "a")).why == ""


async def test_an_unknown_domain_is_permanent(metrics: Metrics, lab: Lab) -> None:
    """Nothing is in the inventory: no empty picture."""
    with pytest.raises(Permanent, match="no pool in domain"):
        await metrics.pools("elsewhere", declared(lab.fleet))


async def test_a_worker_that_cannot_ask_says_so(real_lab: Lab) -> None:
    """Its own connections are used up: Retryable, and no engine is called dead."""
    lab = real_lab
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client:
        prober = HttpProber(lab.fleet, client, {})
        metrics = Measurements(lab.fleet, prober, None, None, client, probe_timeout_s=0.3)
        async with client.stream("GET", f"{lab.b[0].url}/metrics"):
            with pytest.raises(Retryable, match="could be measured"):
                await metrics.pools("c1", declared(lab.fleet))


async def test_a_watched_fleet_answers_within_milliseconds(real_lab: Lab, client: httpx.AsyncClient) -> None:
    """Also while an engine hangs: gates wait for nothing. After the watcher ends, it is measured anew."""
    lab = real_lab
    prober = HttpProber(lab.fleet, client, {})
    source = ScrapeSource(client)
    lab.a[0].freeze()
    async with PoolWatcher(lab.fleet, prober, source, period_s=0.3, probe_timeout_s=0.8) as watcher:
        metrics = Measurements(
            lab.fleet, prober, None, None, client, source=source, watcher=watcher, probe_timeout_s=0.8
        )

        async def seen() -> bool:
            return all(watcher.newest(engine.address) for engine in lab.all)

        await until(seen)
        times = []
        for _ in range(20):
            began = time.monotonic()
            states = await metrics.pools("c1", declared(lab.fleet))
            times.append(time.monotonic() - began)
            assert states["a"].answering == 1
            assert timedelta(0) <= datetime.now(UTC) - states.observed_at < timedelta(seconds=5)
            await asyncio.sleep(0.03)

    assert sorted(times)[10] < 0.01

    async def forgotten() -> bool:
        return all(watcher.newest(engine.address) is None for engine in lab.all)

    await until(forgotten)
    assert (await metrics.pools("c1", declared(lab.fleet)))["a"].answering == 1
