"""Where Prometheus finds what the watchman saw.

GET /metrics   Prometheus text
GET /healthz   this process is alive
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse

from worker.watchman import Watchman
from worker.watchman_text import CONTENT_TYPE, text


def build_watch(watchman: Watchman) -> FastAPI:
    """The app. It holds no secret and changes nothing, so it asks for no token: serve it on loopback or to Prometheus."""

    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(text(watchman.readings()), media_type=CONTENT_TYPE)

    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    app = FastAPI(title="Interlock watch", openapi_url=None, telemetry={"tracing": False})
    app.add_api_route("/metrics", metrics, methods=["GET"])
    app.add_api_route("/healthz", healthz, methods=["GET"])
    return app
