"""Only a token is proof: what a Prober makes of every way in which an engine can fail to give one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from activities.adapters.probe import HttpProber
from activities.errors import Permanent, Retryable
from activities.ports import Prober
from tests.adapters.engine_lab import Engine, engines, fleet_of, free_port
from tests.adapters.simulated_lab import SimulatedEngine, SimulatedEngines

KINDS = ["vllm", "llamacpp", "simulated"]
real = pytest.mark.parametrize("shared", KINDS[:2], indirect=True)
"""For what only an HTTP answer can be."""


@pytest.fixture(scope="module", params=KINDS)
def shared(request: pytest.FixtureRequest) -> Iterator[Engine | SimulatedEngine]:
    if request.param == "simulated":
        yield SimulatedEngines({"a": 1}, probe_s=0.8).of("a")[0]
        return
    with engines(1, "--dialect", request.param) as (one,):
        yield one


@pytest.fixture
def engine(shared: Engine) -> Iterator[Engine]:  # or a simulated one, with the same handles
    """A healed engine; brought back when the test killed it."""
    shared.fault()
    yield shared
    if shared.process.poll() is not None:
        shared.restart()
    shared.thaw()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def prober(engine: Engine | SimulatedEngine, client: httpx.AsyncClient) -> Prober:
    if isinstance(engine, SimulatedEngine):
        return engine.lab.site.prober
    return HttpProber(fleet_of({"a": [engine]}), client, {"chat": f"{engine.url}/"}, timeout_s=0.8)


async def test_a_real_token_is_proof(prober: Prober, engine: Engine) -> None:
    """Direct and through a route: ok, one token, its time, and the moment it was asked."""
    for scope in (engine.address, "route/chat"):
        before = datetime.now(UTC)
        seen = await prober.generate(scope)

        assert (seen.ok, seen.tokens, seen.why) == (True, 1, "")
        assert 0 < seen.seconds < 0.8
        assert before <= seen.observed_at <= datetime.now(UTC)


async def test_a_stopped_process_gives_no_token_in_time(prober: Prober, engine: Engine) -> None:
    """SIGSTOP: the kernel still takes the connection, but no token comes."""
    engine.freeze()
    seen = await prober.generate(engine.address)

    assert (seen.ok, seen.why) == (False, "no token within 0.8 s")
    assert 0.8 <= seen.seconds < 1.2


async def test_a_hung_engine_that_says_healthy_gives_no_token_in_time(prober: Prober, engine: Engine) -> None:
    """/health says 200; only the generation shows the hang."""
    engine.fault(hang=True)

    assert (await prober.generate(engine.address)).why == "no token within 0.8 s"


async def test_a_killed_engine_refuses_the_connection(prober: Prober, engine: Engine) -> None:
    """SIGKILL: nobody listens."""
    engine.kill()
    seen = await prober.generate(engine.address)

    assert (seen.ok, seen.tokens, seen.why) == (False, 0, "connection refused")


async def test_an_http_error_is_named(prober: Prober, engine: Engine) -> None:
    """A 500 is no token."""
    engine.fault(error_rate=1.0)

    assert (await prober.generate(engine.address)).why == "HTTP 500"


@real
async def test_a_200_without_text_is_not_ok(prober: Prober, engine: Engine) -> None:
    """The status code alone proves nothing."""
    engine.fault(empty=True)
    seen = await prober.generate(engine.address)

    assert (seen.ok, seen.why) == (False, "HTTP 200 with no completion token")


@real
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"choices":[{"text":""}],"usage":{"completion_tokens":1}}', "HTTP 200 with empty text"),
        (
            '{"choices":[],"usage":{"completion_tokens":1}}',
            "HTTP 200, but the body is no completion with text and usage",
        ),
        ('{"choices":[{"text":"x"}]}', "HTTP 200, but the body is no completion with text and usage"),
        (
            '{"choices":[{"text":"x"}],"usage":{"completion_tokens":true}}',
            "HTTP 200, but the body is no completion with text and usage",
        ),
        ("<html>sign in</html>", "HTTP 200, but the body is no completion with text and usage"),
        ("[]", "HTTP 200, but the body is no completion with text and usage"),
    ],
)
async def test_a_200_of_another_shape_is_not_ok(engine: Engine, body: str, why: str) -> None:
    """A login page, a truncated body, a token that is counted but not there."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    async with httpx.AsyncClient(transport=transport) as client:
        seen = await HttpProber(fleet_of({"a": [engine]}), client, {}).generate(engine.address)

    assert (seen.ok, seen.why) == (False, why)


async def test_a_place_outside_of_the_inventory_is_an_error_and_no_reading(prober: Prober) -> None:
    """ok=False would be evidence against an engine that nobody asked."""
    for scope in (f"127.0.0.1:{free_port()}", "route/none", ""):
        with pytest.raises(Permanent, match="neither an endpoint"):
            await prober.generate(scope)


@real
async def test_our_own_full_connection_pool_is_not_held_against_the_engine(engine: Engine) -> None:
    """A worker without a free connection could not ask: Retryable, not a failed generation."""
    engine.fault(hang=True)
    async with httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client:
        prober = HttpProber(fleet_of({"a": [engine]}), client, {}, timeout_s=0.5)
        async with client.stream("GET", f"{engine.url}/metrics"):
            with pytest.raises(Retryable, match="own client"):
                await prober.generate(engine.address)
