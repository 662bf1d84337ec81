"""The doors of a lab as people use them: a signal, our HTTP API, the command line, and a raw update past the API."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import ValidationError
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    FetchWorkflowHistoryEventsInput,
    Interceptor,
    OutboundInterceptor,
    WorkflowHistoryEventAsyncIterator,
    WorkflowUpdateFailedError,
)

from runbooks.claims import SignedClaim
from runbooks.policy import Policy
from tests import lab as labs
from tests.scenarios.hostile import Handle, raw_signal, signed
from tests.serving import serve
from worker.identity import DevIssuer, Verifier, dev_issuer
from worker.intake_http import answer_problems
from worker.people import people_router
from worker.people_desk import PeopleDeps
from worker.telemetry import setup

LOGIN = "login:"
"""An identity that begins so stands for a person whom the Temporal server has verified."""


class _Vouched(WorkflowHistoryEventAsyncIterator):
    async def __anext__(self) -> HistoryEvent:
        event = await super().__anext__()
        identity = event.workflow_execution_signaled_event_attributes.identity
        identity = identity or event.workflow_execution_started_event_attributes.identity
        if identity.startswith(LOGIN):
            event.principal.type = "jwt"
            event.principal.name = identity.removeprefix(LOGIN)
        return event


class _Outbound(OutboundInterceptor):
    def __init__(self, client: Client, next: OutboundInterceptor) -> None:
        super().__init__(next)
        self._client = client

    def fetch_workflow_history_events(
        self, input: FetchWorkflowHistoryEventsInput
    ) -> WorkflowHistoryEventAsyncIterator:
        return _Vouched(self._client, input)


class _Vouching(Interceptor):
    def __init__(self, client: Client) -> None:
        self._client = client

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Outbound(self._client, next)


def vouching(client: Client) -> Client:
    """A client that reads histories as a server with login writes them (facts/temporal.md 3): the dev server has none."""
    config = client.config()
    config["interceptors"] = [*config["interceptors"], _Vouching(client)]
    return Client(**config)


@dataclass
class Desk:
    """The API of a lab, and who logs people in."""

    url: str
    issuer: DevIssuer

    async def post(self, token: str, path: str, **body: Any) -> httpx.Response:
        """What the API answers to the owner of the token."""
        async with httpx.AsyncClient(base_url=self.url, timeout=90, trust_env=False) as http:
            return await http.post(path, json=body, headers={"authorization": f"Bearer {token}"})

    async def interlock(self, token: str, *words: str) -> tuple[int, str]:
        """The real command line, in a process of its own: its status, and its one line."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", *words,
            env={**env, "INTERLOCK_API_URL": self.url, "INTERLOCK_TOKEN": token},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await child.communicate()
        return child.returncode or 0, (out or err).decode().strip()


@asynccontextmanager
async def desk(lab: labs.Lab, rules: Policy, folder: Path) -> AsyncIterator[Desk]:
    """Our API for this lab, with a local issuer."""

    async def nothing_closed(_: Any) -> Any:
        return None

    issuer = dev_issuer(folder)
    app = FastAPI(openapi_url=None)
    answer_problems(app)
    deps = PeopleDeps(
        client=lab.client,
        verifier=Verifier(issuer.settings),
        claim_key=labs.CLAIM_KEY,
        telemetry=setup(),
        policy=rules,
        domains=(labs.CLUSTER,),
        closed_cases=nothing_closed,
        closed_case=nothing_closed,
        timeout_s=60,
    )
    app.include_router(people_router(deps))
    async with serve(app) as url:
        yield Desk(url, issuer)


@dataclass(frozen=True)
class Said:
    """Who says what about a step. `verified`: False is somebody whom nobody vouches for. `groups`: by his token."""

    who: str = "bo"
    groups: tuple[str, ...] = ("sre-oncall",)
    verified: bool = True
    decision: str = "approve"
    change: dict[str, str] = field(default_factory=dict)


@dataclass
class Case:
    """An open case and its doors."""

    lab: labs.Lab
    desk: Desk
    handle: Handle
    step: str
    digest: str

    def token(self, said: Said) -> str:
        """His token. Of somebody unverified: one that another issuer has signed."""
        claims = None if said.verified else {"iss": "https://somebody.else"}
        return self.desk.issuer.mint(said.who, said.groups, claims=claims)

    def fields(self, said: Said) -> dict[str, Any]:
        """Step, digest and decision, with what he changed of them."""
        return {"step": self.step, "digest": self.digest, "decision": said.decision, **said.change}


async def by_signal(case: Case, said: Said) -> str:
    """Why the case refuses it, as it stands in its record; empty when it counts."""

    async def heard() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await case.lab.status(case.handle))["record"]["decisions"]
        return found

    fields = case.fields(said)
    content = {"step": fields["step"], "plan": fields["digest"], "decision": fields["decision"], "reason": "seen"}
    before = len(await heard())
    identity = (LOGIN if said.verified else "") + said.who
    await raw_signal(case.lab, case.handle, "decide", (b"json/plain", json.dumps(content).encode()), identity=identity)

    async def judged() -> list[dict[str, Any]]:
        return (await heard())[before:]

    one = (await labs.until(judged, "the decision is judged", 60))[0]
    assert (one["who"], one["verified"]) == (said.who, said.verified)
    assert one["accepted"] == (not one["why"])
    return str(one["why"])


async def by_api(case: Case, said: Said) -> str:
    """Why the API refuses it; empty when it counts."""
    answer = await case.desk.post(
        case.token(said), f"/v1/cases/{case.handle.id}/decide", **case.fields(said), reason="seen"
    )
    if answer.status_code == 200:
        return ""
    assert answer.status_code in (401, 409, 422), answer.text
    return str(answer.json()["error"])


async def by_command(case: Case, said: Said) -> str:
    """What the command line says when it is refused; empty when it counts."""
    fields = case.fields(said)
    given = (case.handle.id, "--step", fields["step"], "--digest", fields["digest"], "--reason", "seen")
    status, line = await case.desk.interlock(case.token(said), str(fields["decision"]), *given)
    assert status in (0, 1), line
    return line if status else ""


async def by_update(case: Case, said: Said) -> str:
    """A genuine claim that somebody sends past the API; of somebody unverified: without a signature."""
    try:
        claim = signed(case.handle, "decide", who=said.who, groups=said.groups, **case.fields(said))
    except ValidationError as error:
        return str(error)
    return await send_raw(case, claim if said.verified else claim.model_copy(update={"signature": ""}))


async def by_forged_update(case: Case, said: Said) -> str:
    """A claim that says it is of an entitled person, bo, signed with a key that the sender has made up."""
    try:
        claim = signed(case.handle, "decide", key=b"x" * 32, who="bo", groups=("sre-oncall",), **case.fields(said))
    except ValidationError as error:
        return str(error)
    return await send_raw(case, claim)


async def send_raw(case: Case, claim: SignedClaim) -> str:
    """Why the case refuses a claim; empty when it counts."""
    try:
        answer = await case.handle.execute_update("decide", claim)
    except WorkflowUpdateFailedError as error:
        return str(error.cause)
    return str(answer["why"])


Door = Callable[[Case, Said], Awaitable[str]]
DOORS: dict[str, Door] = {
    "signal": by_signal,
    "api": by_api,
    "command line": by_command,
    "update": by_update,
    "forged update": by_forged_update,
}
