"""A simulated inference engine: OpenAI-style HTTP, a real queue, real metrics, faults on demand; no model, no GPU.

    python -m worker.engine --port 8101 --tokens-per-second 30 --slots 2 --model smollm2 --dialect vllm

Serves /health, /v1/models, /v1/completions, /v1/chat/completions (plain and SSE), /metrics and POST /admin/fault
`{"error_rate": 0..1, "ttft_s": s, "hang": true, "empty": true}`; the body replaces the fault, `{}` heals. A hung
engine still answers /health with 200, as vLLM does. It listens on loopback unless told otherwise:
/admin has no password.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from worker.engine_core import Failed, Fault, Simulation
from worker.engine_metrics import Dialect, render


class EngineApp:
    """The HTTP face of one Simulation. `startup_s`: how long /health and generations answer 503 after the start."""

    def __init__(self, engine: Simulation, model: str, dialect: Dialect, startup_s: float = 0.0) -> None:
        self._engine = engine
        self._model = model
        self._dialect = dialect
        self._ready_at = time.monotonic() + startup_s
        self.asgi = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/completions", self._complete, methods=["POST"]),
                Route("/v1/chat/completions", self._complete, methods=["POST"]),
                Route("/metrics", self._metrics),
                Route("/admin/fault", self._admin, methods=["GET", "POST"]),
            ]
        )

    async def _health(self, request: Request) -> Response:
        if time.monotonic() < self._ready_at:
            return _error(503, "loading model")
        return JSONResponse({"status": "ok"})

    async def _models(self, request: Request) -> Response:
        return JSONResponse(
            {"object": "list", "data": [{"id": self._model, "object": "model", "owned_by": "interlock"}]}
        )

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(
            render(self._engine, self._model, self._dialect), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def _admin(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                self._engine.fault = Fault.model_validate_json(await request.body())
            except ValidationError as error:
                return _error(
                    400, error.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
                )
        return JSONResponse(self._engine.fault.model_dump())

    async def _complete(self, request: Request) -> Response:
        if time.monotonic() < self._ready_at:
            return _error(503, "loading model")
        try:
            body = json.loads(await request.body())
            chat = request.url.path.endswith("/chat/completions")
            prompt = " ".join(str(m["content"]) for m in body["messages"]) if chat else str(body["prompt"])
            limit = int(body.get("max_tokens", body.get("max_completion_tokens", 16)))
        except ClientDisconnect:
            return Response(status_code=499)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return _error(400, f"bad request: {type(error).__name__} {error}")
        if not 1 <= limit <= self._engine.context:
            return _error(400, f"max_tokens must be 1 to {self._engine.context}")
        try:
            self._engine.admit()
        except Failed as error:
            return _error(500, str(error))
        prompt_tokens = max(1, len(prompt.split()))
        if body.get("stream"):
            return StreamingResponse(self._events(chat, prompt_tokens, limit), media_type="text/event-stream")
        text = await _unless_gone(request, self._whole(prompt_tokens, limit))
        if text is None:  # nobody is there to read it
            return Response(status_code=499)
        answer = self._frame(chat, stream=False, text="".join(text), finish="length" if text else "stop")
        return JSONResponse(answer | {"usage": _usage(prompt_tokens, len(text))})

    async def _whole(self, prompt_tokens: int, limit: int) -> list[str]:
        async with aclosing(self._engine.generate(prompt_tokens, limit)) as tokens:
            return [token async for token in tokens]

    async def _events(self, chat: bool, prompt_tokens: int, limit: int) -> AsyncIterator[str]:
        count = 0
        async with aclosing(self._engine.generate(prompt_tokens, limit)) as tokens:
            async for token in tokens:
                count += 1
                yield _event(self._frame(chat, stream=True, text=token, finish=None))
        last = self._frame(chat, stream=True, text="", finish="length" if count else "stop")
        yield _event(last | {"usage": _usage(prompt_tokens, count)})
        yield "data: [DONE]\n\n"

    def _frame(self, chat: bool, *, stream: bool, text: str, finish: str | None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
        if chat:
            choice["delta" if stream else "message"] = {"role": "assistant", "content": text}
            kind = "chat.completion.chunk" if stream else "chat.completion"
        else:
            choice["text"] = text
            kind = "text_completion"
        return {
            "id": "cmpl-sim",
            "object": kind,
            "created": int(time.time()),
            "model": self._model,
            "choices": [choice],
        }


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "code": status}}, status_code=status)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, list[str]]) -> list[str] | None:
    """The work's result, or None when the client hung up first: a request nobody waits for must not hold a slot."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    job, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({job, watch}, return_when=asyncio.FIRST_COMPLETED)
        return job.result() if job.done() else None
    finally:
        job.cancel()
        watch.cancel()
        await asyncio.gather(job, watch, return_exceptions=True)


def main() -> None:
    """Parses the arguments and serves until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m worker.engine", description="A simulated inference engine.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--tokens-per-second", type=float, default=30.0, help="of the whole engine; busy slots share it"
    )
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--dialect", choices=["vllm", "llamacpp"], default="vllm")
    parser.add_argument("--startup-s", type=float, default=0.0, help="answers 503 for this long after the start")
    options = parser.parse_args()
    if options.tokens_per_second <= 0 or options.slots < 1:
        parser.error("--tokens-per-second must be over 0 and --slots at least 1")
    app = EngineApp(
        Simulation(options.tokens_per_second, options.slots), options.model, options.dialect, options.startup_s
    )
    uvicorn.run(
        app.asgi,
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=1,  # a hung generation must not keep a stopped engine alive
    )


if __name__ == "__main__":
    main()
