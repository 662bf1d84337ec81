"""Serves an app of ours on loopback for the length of a block, in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield  # pytest keeps its own Ctrl-C


@asynccontextmanager
async def serve(app: FastAPI) -> AsyncIterator[str]:
    """Serves an app on a free port of the loopback; yields its base URL."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = _Quiet(uvicorn.Config(app, log_level="error", ws="none"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            assert not task.done(), "the server ended before it began"
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
