"""Sending: until 2xx, the newest state of each fault, nothing lost, one refused Detection holds up no other."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runbooks.detection import Detection, Target
from tests.demo.conftest import Plant, until
from worker.detect_send import IntakeSink, TokenCounters


class Receiver:
    """An HTTP server that answers with `status` (by endpoint, else for all) and keeps what it accepted."""

    def __init__(self) -> None:
        self.status: dict[str, int] = {}
        self.asked = 0
        self.accepted: list[dict[str, Any]] = []
        self.url = ""

    async def take(self, request: Request) -> Response:
        """POST /v1/detections."""
        self.asked += 1
        body = await request.json()
        status = self.status.get(body["target"]["endpoint"], self.status.get("", 202))
        if request.headers.get("authorization") != "Bearer t0ken":
            status = 401
        if status < 300:
            self.accepted.append(body)
        return JSONResponse({}, status)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Serves on a free loopback port while the test runs."""
    found = Receiver()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        found.url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        app = Starlette(routes=[Route("/v1/detections", found.take, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="off"))
        task = asyncio.create_task(server.serve([sock]))
        await until(lambda: server.started, 5, "the receiver")
        yield found
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def sending(url: str) -> AsyncIterator[IntakeSink]:
    """The sink at work."""
    async with httpx.AsyncClient(trust_env=False) as http:
        sink = IntakeSink(url, "t0ken", http)
        task = asyncio.create_task(sink.run())
        yield sink
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _detection(endpoint: str, status: str = "firing") -> Detection:
    now = datetime.now(UTC)
    target = Target(cluster="demo", service="chat-a", endpoint=endpoint)
    return Detection.model_validate(
        {"alert": "EngineHang", "target": target, "status": status, "started_at": now, "observed_at": now}
    )


async def test_what_the_intake_cannot_take_now_is_sent_again_until_it_does(receiver: Receiver) -> None:
    """503 is no acceptance."""
    receiver.status[""] = 503
    async with sending(receiver.url) as sink:
        await sink(_detection("a:1"))
        await until(lambda: receiver.asked >= 2, 5, "two tries")
        assert sink.waiting == 1
        receiver.status[""] = 202
        await until(lambda: sink.waiting == 0, 5, "accepted")

    assert [d["target"]["endpoint"] for d in receiver.accepted] == ["a:1"]


async def test_the_newest_state_of_a_fault_wins_while_it_waits(receiver: Receiver) -> None:
    """So the queue is bounded by the fleet."""
    receiver.status[""] = 503
    async with sending(receiver.url) as sink:
        for _ in range(50):
            await sink(_detection("a:1"))
        await sink(_detection("a:1", "resolved"))
        assert sink.waiting == 1
        receiver.status[""] = 202
        await until(lambda: sink.waiting == 0, 5, "accepted")

    assert [d["status"] for d in receiver.accepted][-1] == "resolved"
    assert len(receiver.accepted) <= 2


async def test_one_refused_detection_holds_up_no_other(receiver: Receiver) -> None:
    """It goes to the end of the queue, and stays there."""
    receiver.status["bad:1"] = 422
    async with sending(receiver.url) as sink:
        await sink(_detection("bad:1"))
        await sink(_detection("good:1"))
        await until(lambda: bool(receiver.accepted) and sink.waiting == 1, 5, "the good one is out of the queue")

    assert [d["target"]["endpoint"] for d in receiver.accepted] == ["good:1"]


async def test_a_token_counter_is_read_from_the_engine_or_not_known(plant: Plant) -> None:
    """No number is made up for an engine that does not answer."""
    async with httpx.AsyncClient(trust_env=False) as http:
        counters = TokenCounters(plant.fleet, http, timeout_s=0.3)
        address = plant.engines.addresses("chat-b")[0]
        before = await counters(address)
        answer = await http.post(f"http://{address}/v1/completions", json={"prompt": "hi", "max_tokens": 4})
        assert answer.status_code == 200
        after = await counters(address)
        plant.engines.suspend(address)
        try:
            unknown = await counters(address)
        finally:
            plant.engines.resume(address)

    assert before is not None
    assert after == before + 4
    assert unknown is None
