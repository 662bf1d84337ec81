"""What both doors share: one-sentence errors, the bearer token, and a body that is counted while it arrives."""

from __future__ import annotations

import asyncio
import hmac
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import SecretStr, ValidationError
from pydantic_core import from_json
from starlette.exceptions import HTTPException

BODY_PATIENCE_S = 10.0
"""A body that is not complete after this holds a connection for nothing."""


class Problem(Exception):
    """An answer that is not 2xx: one clear sentence, the field where there is one, and when to come again."""

    def __init__(self, status: int, error: str, *, field: str = "", retry_after_s: int | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.field = field
        self.retry_after_s = retry_after_s

    def response(self) -> JSONResponse:
        """As JSON: {"error": sentence, "field": name or ""}."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse({"error": self.error, "field": self.field}, self.status, headers)


def answer_problems(app: FastAPI) -> None:
    """Every error of the app leaves in the one shape, framework errors included."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, problem: Problem) -> JSONResponse:
        return problem.response()

    @app.exception_handler(Exception)
    async def _ours(_: Request, error: Exception) -> JSONResponse:
        return Problem(500, "a fault of Interlock itself: its log has it; nothing was acknowledged").response()

    @app.exception_handler(HTTPException)
    async def _framework(_: Request, error: HTTPException) -> JSONResponse:
        text = {404: "there is nothing at this address", 405: "this address takes another method"}
        return Problem(error.status_code, text.get(error.status_code, str(error.detail))).response()


def bearer(request: Request) -> str:
    """The bearer token of a request; Problem 401 without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(401, "send the header `Authorization: Bearer TOKEN`", field="authorization")
    return token.strip()


def must_be(request: Request, token: SecretStr) -> None:
    """Problem 401 unless the request carries exactly this token. Compared in constant time."""
    if not hmac.compare_digest(bearer(request).encode(), token.get_secret_value().encode()):
        raise Problem(401, "this bearer token is not the intake's token", field="authorization")


async def read_json(request: Request, limit: int) -> Any:
    """The JSON body, of at most `limit` bytes. Problem 413, 415, 408 or 422.

    Counted while it arrives: Content-Length may be absent or lie, and a chunked body has none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "send JSON with the header `Content-Type: application/json`", field="content-type")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "send the body uncompressed, without Content-Encoding", field="content-encoding")
    too_large = Problem(413, f"the body is larger than {limit} bytes: send fewer alerts in one request", field="body")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_PATIENCE_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise Problem(
            408, f"the body did not arrive within {BODY_PATIENCE_S:.0f} s: send it again", field="body"
        ) from None
    try:
        return from_json(bytes(body), allow_inf_nan=False)
    except ValueError as error:
        why = (
            "leave out what was not measured, NaN is not JSON" if b"NaN" in body or b"Infinity" in body else str(error)
        )
        raise Problem(422, f"the body is not valid JSON: {why}", field="body") from None


def first_error(error: ValidationError, what: str) -> tuple[str, str]:
    """Field and one sentence, with the fix, of the first thing that is wrong with a model."""
    details = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(p) for p in details["loc"] if p not in ("float", "bool", "str"))
    kind, message = details["type"], str(details["msg"]).removeprefix("Value error, ")
    match kind:
        case "missing":
            sentence = f"{field} is missing: every {what} needs it"
        case "extra_forbidden":
            sentence = f"{field} is not a field of a {what}: remove it or correct its name"
        case "string_pattern_mismatch":
            sentence = f"{field} must be one word: no space, slash, |, `, < or >"
        case "timezone_aware" | "timezone_naive":
            sentence = f"{field} has no time zone: add one, for example 2026-01-31T12:00:00Z"
        case "value_error" if message.startswith("target."):
            field, sentence = message.partition(" ")[0], message
        case _:
            sentence = f"{field or what}: {message[0].lower()}{message[1:]}"
    return field or "body", sentence
