"""The simulated engine behaves as an engine: tokens, a real queue, honest counters, faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from activities.adapters.exposition import parse, total
from tests.adapters.engine_lab import Engine, engines, until

ASK = {"model": "smollm2", "prompt": "one two three", "max_tokens": 5}


@pytest.fixture(scope="module")
def shared() -> Iterator[Engine]:
    with engines(1, "--tokens-per-second", "100", "--slots", "2") as (one,):
        yield one


@pytest.fixture
def engine(shared: Engine) -> Engine:
    """A healed engine."""
    shared.fault()
    return shared


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=engine.url, timeout=10.0) as client:
        yield client


async def metric(client: httpx.AsyncClient, name: str) -> float:
    value = total(parse((await client.get("/metrics")).text), name)
    assert value is not None, name
    return value


async def idle(client: httpx.AsyncClient) -> bool:
    return await metric(client, "vllm:num_requests_running") == 0


async def test_a_completion_carries_text_and_counts_its_tokens(client: httpx.AsyncClient) -> None:
    """The answer has the OpenAI shape, and the token counter rises by exactly its usage."""
    before = await metric(client, "vllm:generation_tokens_total")
    answer = (await client.post("/v1/completions", json=ASK)).json()

    assert answer["choices"][0]["text"] == " one two three four five"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert await metric(client, "vllm:generation_tokens_total") == before + 5


async def test_a_chat_streams_its_tokens_one_by_one_and_ends_with_done(client: httpx.AsyncClient) -> None:
    """Server-sent events: a chunk per token, then the usage, then [DONE]."""
    ask = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True}
    async with client.stream("POST", "/v1/chat/completions", json=ask) as answer:
        lines = [line.removeprefix("data: ") async for line in answer.aiter_lines() if line]

    chunks = [json.loads(line) for line in lines[:-1]]
    assert lines[-1] == "[DONE]"
    assert [c["choices"][0]["delta"]["content"] for c in chunks] == [" one", " two", " three", ""]
    assert chunks[-1]["usage"]["completion_tokens"] == 3


async def test_busy_slots_share_the_speed_of_the_engine(client: httpx.AsyncClient) -> None:
    """Two requests of 40 tokens at 100 tokens/s for the engine take about 0.8 s, not 0.4."""
    began = time.monotonic()
    await asyncio.gather(*(client.post("/v1/completions", json=ASK | {"max_tokens": 40}) for _ in range(2)))

    assert time.monotonic() - began > 0.7


async def test_requests_beyond_the_slots_wait_in_a_queue(client: httpx.AsyncClient) -> None:
    """Five requests on two slots: two run, three wait, and all are served in the end."""
    jobs = [asyncio.create_task(client.post("/v1/completions", json=ASK | {"max_tokens": 30})) for _ in range(5)]

    async def queued() -> bool:
        return await metric(client, "vllm:num_requests_waiting") == 3

    await until(queued)
    assert await metric(client, "vllm:num_requests_running") == 2
    assert await metric(client, "vllm:kv_cache_usage_perc") > 0
    assert [(await job).status_code for job in jobs] == [200] * 5
    assert await metric(client, "vllm:num_requests_waiting") == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_gives_its_slot_back(
    engine: Engine, client: httpx.AsyncClient, stream: bool
) -> None:
    """A hung engine holds the slot until the client goes, and no longer."""
    engine.fault(hang=True)
    with pytest.raises(httpx.ReadTimeout):
        await client.post("/v1/completions", json=ASK | {"stream": stream}, timeout=0.3)

    await until(lambda: idle(client))


async def test_a_hung_engine_still_says_that_it_is_healthy_and_goes_on_when_healed(
    engine: Engine, client: httpx.AsyncClient
) -> None:
    """/health is 200 while no token comes; the waiting request is served after the heal."""
    engine.fault(hang=True)
    job = asyncio.create_task(client.post("/v1/completions", json=ASK))

    async def running() -> bool:
        return await metric(client, "vllm:num_requests_running") == 1

    await until(running)
    before = await metric(client, "vllm:generation_tokens_total")
    assert (await client.get("/health")).status_code == 200
    assert await metric(client, "vllm:generation_tokens_total") == before
    engine.fault()
    assert (await job).json()["usage"]["completion_tokens"] == 5


async def test_the_error_rate_answers_500(engine: Engine, client: httpx.AsyncClient) -> None:
    """With error_rate 1 every request fails, streamed or not, before anything is sent."""
    engine.fault(error_rate=1.0)

    assert (await client.post("/v1/completions", json=ASK)).status_code == 500
    assert (await client.post("/v1/completions", json=ASK | {"stream": True})).status_code == 500


async def test_an_empty_engine_answers_200_with_no_text(engine: Engine, client: httpx.AsyncClient) -> None:
    """The fault that status codes do not show."""
    engine.fault(empty=True)
    answer = await client.post("/v1/completions", json=ASK)

    assert answer.status_code == 200
    assert answer.json()["choices"][0]["text"] == ""
    assert answer.json()["usage"]["completion_tokens"] == 0


async def test_a_misspelt_fault_is_refused_and_changes_nothing(client: httpx.AsyncClient) -> None:
    """A test that thinks it broke something must not pass on a healthy engine."""
    answer = await client.post("/admin/fault", json={"errors": 1})

    assert answer.status_code == 400
    assert (await client.get("/admin/fault")).json() == {"error_rate": 0, "ttft_s": 0, "hang": False, "empty": False}


@pytest.mark.parametrize("body", ["", "[]", '{"max_tokens": 3}', '{"prompt": "a", "max_tokens": 0}'])
async def test_a_bad_request_is_a_400(client: httpx.AsyncClient, body: str) -> None:
    """Never a 500: that would count as the engine's fault."""
    assert (await client.post("/v1/completions", content=body)).status_code == 400


def test_the_engine_stays_under_60_mb(engine: Engine) -> None:
    """A test fleet of many must fit a laptop."""
    status = Path(f"/proc/{engine.process.pid}/status").read_text().splitlines()
    rss_kb = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    assert rss_kb < 60_000


async def test_llama_cpp_names_are_used_for_its_dialect() -> None:
    """The same counters under llama.cpp's names; 503 while it loads."""
    with engines(1, "--dialect", "llamacpp", "--startup-s", "0.3") as (one,):
        async with httpx.AsyncClient(base_url=one.url) as client:
            await client.post("/v1/completions", json=ASK)

            assert await metric(client, "llamacpp:tokens_predicted_total") == 5
            assert await metric(client, "llamacpp:requests_deferred") == 0
