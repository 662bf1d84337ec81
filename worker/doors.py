"""Both doors as one app: detectors always, people when their tokens can be verified."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
from fastapi import FastAPI
from temporalio.client import Client

from activities.adapters.sql import SqlJournal
from activities.adapters.webhook import LogNotify, WebhookNotify
from activities.ports import Notify
from runbooks.fleet import Fleet
from runbooks.library import load_policy
from runbooks.loader import load as load_file
from runbooks.policy import Policy
from worker.identity import Verifier
from worker.intake import IntakeDeps, build_intake
from worker.people import people_router
from worker.people_desk import PeopleDeps
from worker.settings import BadSettings, Settings
from worker.telemetry import Telemetry

LOOK_BACK = 500
"""Closed cases of the journal that are searched for a workflow id."""
_CASE = re.compile(r"#[0-9a-f]{8}\.\d+$")
"""How the id of a case ends: behind its workflow's id (workflows/rounds.py)."""


def fleet_of(settings: Settings) -> Fleet:
    """The inventory. BadSettings when none is named; CatalogError when it cannot be read."""
    if settings.fleet_file is None:
        raise BadSettings("INTERLOCK_FLEET_FILE is not set: what is not in the fleet is not touched")
    return load_file(settings.fleet_file, Fleet)


def policy_of(settings: Settings) -> Policy:
    """The policy file, or the shipped, careful one. CatalogError when it cannot be read."""
    return load_policy(settings.policy_file or settings.catalog_dir / "policy.yaml")


@contextlib.asynccontextmanager
async def notify_of(settings: Settings) -> AsyncIterator[Notify]:
    """How people are told: the webhook, or a file when none is set."""
    if settings.webhook_url is None:
        yield LogNotify(settings.pages_file)
        return
    async with httpx.AsyncClient(trust_env=False) as client:
        yield WebhookNotify(settings.webhook_url.get_secret_value(), client)


def build_doors(
    settings: Settings,
    *,
    client: Client,
    telemetry: Telemetry,
    notify: Notify,
    journal: SqlJournal,
    fleet: Fleet,
    policy: Policy,
) -> FastAPI:
    """The app. BadSettings when the intake has no token: it would take alerts from anybody."""
    token = settings.intake.bearer()
    if token is None:
        raise BadSettings("INTERLOCK_INTAKE__TOKEN (or __TOKEN_FILE) is not set: anybody could post alerts")
    app = build_intake(
        IntakeDeps(
            client=client,
            notify=notify,
            token=token,
            telemetry=telemetry,
            settings=settings.intake,
            fleet=fleet,
            eager=settings.temporal.eager,
        )
    )
    if settings.people.configured:
        app.include_router(
            people_router(
                PeopleDeps(
                    client=client,
                    verifier=Verifier(settings.people),
                    claim_key=settings.claim_key(),
                    telemetry=telemetry,
                    policy=policy,
                    domains=fleet.domains(),
                    closed_cases=closed_cases(journal),
                    closed_case=closed_case(journal),
                )
            )
        )
    return app


def closed_cases(journal: SqlJournal) -> Callable[[int], Awaitable[Sequence[dict[str, Any]]]]:
    """The last closed cases, a line's worth of each."""

    async def read(limit: int) -> list[dict[str, Any]]:
        return [_line(json.loads(text)) for text in await journal.cases(limit)]

    return read


def closed_case(journal: SqlJournal) -> Callable[[str], Awaitable[dict[str, Any] | None]]:
    """The record of a closed case, by its own id or, the newest one, by its workflow id."""

    async def read(name: str) -> dict[str, Any] | None:
        text = await journal.record(name)
        if text is None and _CASE.search(name):
            return None  # the id of one case, and the journal does not have it (yet)
        texts = [text] if text is not None else await journal.cases(LOOK_BACK)
        for record in map(json.loads, texts):
            if name in (record.get("case"), record.get("workflow_id")):
                return {"state": "closed", "record": record}
        return None

    return read


def _line(record: dict[str, Any]) -> dict[str, Any]:
    found = record.get("classification") or {}
    keep = ("case", "workflow_id", "outcome", "why", "opened_at", "closed_at")
    return {**{k: record.get(k) for k in keep}, "class": found.get("failure_class", "")}
