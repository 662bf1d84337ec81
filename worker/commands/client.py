"""How commands for people talk: through the HTTP API, with the person's own token. No door of their own."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import typer

from worker.settings import load

TIMEOUT_S = 15.0


class Failed(typer.Exit):
    """The command did not do what was asked; the sentence was printed to stderr. Exit status 1."""


def fail(sentence: str) -> Failed:
    """Prints the sentence and gives the exit to raise."""
    typer.echo(sentence, err=True)
    return Failed(1)


def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The API's answer. Failed with the API's own sentence when it refuses, or when it cannot be reached."""
    settings = load()
    if settings.token is None:
        raise fail("INTERLOCK_TOKEN is not set: give your own token, decisions are made in your name")
    headers = {"authorization": f"Bearer {settings.token.get_secret_value()}"}
    try:
        answer = httpx.request(
            method, settings.api_url.rstrip("/") + path, json=body, headers=headers, timeout=TIMEOUT_S
        )
    except httpx.HTTPError as error:
        raise fail(
            f"the API at {settings.api_url} does not answer ({type(error).__name__}), and nothing was done: is that where "
            "INTERLOCK_API_URL should point, and is the intake up?"
        ) from None
    try:
        data = answer.json()
    except ValueError:
        raise fail(
            f"{settings.api_url} is not the Interlock API: it answered {answer.status_code} without JSON"
        ) from None
    if answer.is_error or not isinstance(data, dict):
        raise fail(
            str(data.get("error", f"the API answered {answer.status_code}")) if isinstance(data, dict) else "no answer"
        )
    return data


def case_path(case: str) -> str:
    """The API's address of a case. The slashes of a workflow id stay."""
    return f"/v1/cases/{quote(case, safe='/:')}"
