"""The door for detectors. 2xx means durable: Temporal has acknowledged the start or the signal, or people were told.

POST /v1/alerts/alertmanager   Alertmanager's webhook, version 4
POST /v1/detections            one Detection or a list
GET  /healthz                  this process is alive
GET  /readyz                   Temporal answers
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import SecretStr
from temporalio.client import Client

from activities.errors import PortError
from activities.ports import Notify
from runbooks.base import digest
from runbooks.detection import Detection
from runbooks.fleet import Fleet
from worker import alertmanager, intake_native
from worker.alertmanager import BadAlert
from worker.intake_calls import Away, Undeliverable
from worker.intake_delivery import Delivered, Deliverer
from worker.intake_http import Problem, answer_problems, must_be, read_json
from worker.intake_room import Room
from worker.intake_target import tenants_of
from worker.intake_watch import DeadMan
from worker.settings import IntakeSettings
from worker.telemetry import Telemetry

log = logging.getLogger("interlock.intake")
RETRY_AFTER_S = 5
PATIENCE_S = 9.0
"""Alertmanager gives up a webhook after 10 s: it must have its 503 before."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class IntakeDeps:
    """What the intake needs. `client` may be lazy; `notify` is how people are told about what cannot be delivered."""

    client: Client
    notify: Notify
    token: SecretStr
    telemetry: Telemetry
    settings: IntakeSettings = field(default_factory=IntakeSettings)
    fleet: Fleet | None = None
    eager: bool = False
    clock: Callable[[], datetime] = _now


def build_intake(deps: IntakeDeps) -> FastAPI:
    """The app. While it runs it also watches Temporal (worker/intake_watch.py)."""
    door = _Door(deps)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        door.watching = asyncio.create_task(door.watch.run())
        yield
        door.watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await door.watching

    app = FastAPI(
        title="Interlock intake",
        lifespan=lifespan,
        openapi_url=None,
        telemetry={"tracing": False},  # `request_span` is the one server span of a request
    )
    answer_problems(app)
    app.add_api_route("/v1/alerts/alertmanager", door.alertmanager, methods=["POST"])
    app.add_api_route("/v1/detections", door.detections, methods=["POST"])
    app.add_api_route("/healthz", door.healthz, methods=["GET"])
    app.add_api_route("/readyz", door.readyz, methods=["GET"])
    app.state.watch = door.watch
    app.state.room = door.deliverer.room
    return app


class _Door:
    def __init__(self, deps: IntakeDeps) -> None:
        self._deps = deps
        self._settings = deps.settings
        self.deliverer = Deliverer(
            deps.client,
            rpc_timeout_s=deps.settings.rpc_timeout_s,
            eager=deps.eager,
            batch_signals=deps.settings.batch_signals,
            room=Room(deps.settings.most_waiting, deps.settings.most_waiting_bytes),
            tenant_of=tenants_of(deps.fleet),
        )
        self.watch = DeadMan(
            deps.client,
            deps.notify,
            page_after_s=deps.settings.page_after_s,
            rpc_timeout_s=deps.settings.rpc_timeout_s,
        )
        self.watching: asyncio.Task[None] | None = None

    async def detections(self, request: Request) -> JSONResponse:
        """Native JSON: all or nothing, since its sender can mend what is wrong."""
        must_be(request, self._deps.token)
        with self._deps.telemetry.request_span("POST /v1/detections", request.headers), self._place(request):
            body = await read_json(request, self._settings.max_body_bytes)
            try:
                found = intake_native.parse(body, self._deps.clock())
            except Problem:
                self._count("bad")
                raise
            outcomes = await self._deliver(found)
            for index, outcome in enumerate(outcomes):
                if isinstance(outcome, Undeliverable):
                    raise Problem(422, f"detection {index} was not accepted: {outcome}", field=str(index))
            return JSONResponse(_report(outcomes), 202)

    async def alertmanager(self, request: Request) -> JSONResponse:
        """Good alerts are delivered, bad ones paged about: a 4xx would make Alertmanager drop the whole group."""
        must_be(request, self._deps.token)
        with self._deps.telemetry.request_span("POST /v1/alerts/alertmanager", request.headers), self._place(request):
            try:
                body = await read_json(request, self._settings.max_body_bytes)
                group = alertmanager.parse(body, self._deps.clock(), self._settings, self._deps.fleet)
            except Problem as problem:  # Alertmanager will drop it without another try: people must know
                self._count("bad")
                await self._page_about("whole body", [BadAlert("(whole request)", problem.field, problem.error)], 0)
                raise
            outcomes = await self._deliver(group.good)
            bad = [*group.bad]
            for detection, outcome in zip(group.good, outcomes, strict=True):
                if isinstance(outcome, Undeliverable):
                    bad.append(BadAlert(detection.alert, "", str(outcome)))
            self._count("bad", len(group.bad))
            await self._page_about(group.key, bad, group.truncated)
            answer = _report(outcomes) | {"truncated": group.truncated}
            answer["bad"] = [{"alert": b.alert, "field": b.field, "error": b.error} for b in bad]
            return JSONResponse(answer, 202)

    async def healthz(self) -> JSONResponse:
        """200 while the process and its watch over Temporal are alive."""
        if self.watching is None or self.watching.done():
            raise Problem(503, "the watch over Temporal has stopped: restart the intake")
        return JSONResponse({"status": "alive"})

    async def readyz(self) -> JSONResponse:
        """200 when Temporal answers now."""
        if not await self.watch.reachable():
            raise Problem(503, "Temporal does not answer: alerts cannot be accepted now", retry_after_s=RETRY_AFTER_S)
        return JSONResponse({"status": "ready"})

    @contextlib.contextmanager
    def _place(self, request: Request) -> Iterator[None]:
        """For its body, before it is read and until it is answered. 503 when there is none."""
        most, declared = self._settings.max_body_bytes, request.headers.get("content-length", "")
        size = min(int(declared), most) if declared.isdigit() else most
        try:
            with self.deliverer.room.body(size):
                yield
        except Away as full:
            self._count("away")
            raise Problem(503, f"not accepted, send it again: {full}", retry_after_s=RETRY_AFTER_S) from None

    async def _deliver(self, detections: Sequence[Detection]) -> list[Delivered | Undeliverable]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                outcomes = await self.deliverer.deliver(detections)
        except (Away, TimeoutError) as error:
            self._count("away", len(detections))
            why = str(error) or f"it took longer than {PATIENCE_S:.0f} s"
            log.error("%d detections were not acknowledged: %s", len(detections), why)
            raise Problem(503, f"not accepted, send it again: {why}", retry_after_s=RETRY_AFTER_S) from None
        for outcome in outcomes:
            self._count("bad" if isinstance(outcome, Undeliverable) else outcome.result)
        return outcomes

    async def _page_about(self, key: str, bad: Sequence[BadAlert], truncated: int) -> None:
        """503 when nobody could be told: a bad alert must not vanish, and the good ones are repeats next time."""
        if not bad and not truncated:
            return
        lines = [f"- {b.alert}: {b.field}: {b.error}" for b in bad]
        if truncated:
            lines.append(f"- {truncated} more alerts were cut off by Alertmanager: raise max_alerts of the webhook")
        what = digest({"key": key, "bad": sorted({f"{b.alert} {b.error}" for b in bad}), "cut": truncated > 0})
        try:
            await self._deps.notify.tell(
                f"interlock-bad-alerts-{what}",
                f"Interlock could not take {len(bad) + truncated} alerts",
                "Nobody is mitigating these:\n" + "\n".join(lines),
            )
        except PortError as error:
            log.error("people could not be told about %d bad alerts: %s", len(bad), error)
            raise Problem(
                503,
                "some alerts are bad and people could not be told: send the group again",
                retry_after_s=RETRY_AFTER_S,
            ) from None

    def _count(self, result: str, number: int = 1) -> None:
        if number:
            self._deps.telemetry.instruments.intake_alerts.add(number, {"result": result})


def _report(outcomes: Sequence[Delivered | Undeliverable]) -> dict[str, Any]:
    done = [o for o in outcomes if isinstance(o, Delivered)]
    return {
        "accepted": len(done),
        "results": [
            {
                "alert": o.detection.alert,
                "workflow_id": o.detection.workflow_id,
                "run_id": o.run_id,
                "result": o.result.replace("_", " "),
            }
            for o in done
        ],
    }
