"""The door for people. Their JWT is verified here and goes no further: what enters a history is a signed claim.

POST /v1/cases/{workflow_id}/decide      {step, digest, decision: approve | reject | withdraw, reason}
POST /v1/cases/{workflow_id}/takeover    {reason}     also /hand_back and /abort
GET  /v1/cases, GET /v1/cases/{workflow_id}
POST /v1/domains/{domain}/halt           {reason}     also /resume and /reset-breaker
POST /v1/halt, POST /v1/resume           every domain of the fleet

Whether a decision counts is the case's to say (wrong digest, twice, not in the group …): its refusal comes back as 409.
So does the Guard's on a resume or a reset. A breaker is reset one by one: each has a reason to be looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field
from temporalio.client import WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateTimeout
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from activities.errors import PortError
from runbooks.base import Model
from runbooks.people import Action
from worker.identity import Person, claim_for
from worker.intake_http import Problem
from worker.people_desk import Desk, PeopleDeps, ReasonBody, away, body_of
from worker.people_orders import Orders, Said
from worker.people_stopped import stopped

log = logging.getLogger("interlock.people")
LOOK_S = 3.0
"""How long Guards may take to say whether they are stopped; the list does not wait longer for it."""
_STATE = SearchAttributeKey.for_keyword("InterlockState")
_CLASS = SearchAttributeKey.for_keyword("InterlockClass")


class DecideBody(Model):
    """A decision about the step that is shown, bound to its digest."""

    step: str = Field(min_length=1, max_length=200)
    digest: str = Field(min_length=1, max_length=64)
    decision: Literal["approve", "reject", "withdraw"]
    reason: str = Field(min_length=1, max_length=2000)


def people_router(deps: PeopleDeps) -> APIRouter:
    """Routes for people, to be included in an app that answers `Problem` (intake_http.answer_problems)."""
    desk, orders = Cases(deps), Orders(deps)
    router = APIRouter()
    for action in ("decide", "takeover", "hand_back", "abort"):
        router.add_api_route(f"/v1/cases/{{workflow_id:path}}/{action}", desk.act_as(action), methods=["POST"])
    router.add_api_route("/v1/cases", desk.cases, methods=["GET"])
    router.add_api_route("/v1/cases/{workflow_id:path}", desk.case, methods=["GET"])
    orders_of: tuple[tuple[str, Said], ...] = (
        ("halt", "halt"),
        ("resume", "resume"),
        ("reset-breaker", "reset_breaker"),
    )
    for path, order in orders_of:
        router.add_api_route(f"/v1/domains/{{domain}}/{path}", orders.one(order), methods=["POST"])
    router.add_api_route("/v1/halt", orders.all("halt"), methods=["POST"])
    router.add_api_route("/v1/resume", orders.all("resume"), methods=["POST"])
    return router


class Cases(Desk):
    """Decisions about cases go to them by update, so that the person hears at once whether they count."""

    def act_as(self, action: Action) -> Callable[..., Awaitable[JSONResponse]]:
        """The endpoint of one action on a case."""

        async def endpoint(request: Request, workflow_id: str) -> JSONResponse:
            person = await self.person(request)
            with self.deps.telemetry.request_span(f"POST /v1/cases/ID/{action}", request.headers):
                body = await body_of(request, DecideBody if action == "decide" else ReasonBody)
                return await self._act(person, action, _case_id(workflow_id), body)

        return endpoint

    async def _act(self, person: Person, action: Action, case: str, body: Model) -> JSONResponse:
        claim = claim_for(
            person,
            self.deps.claim_key,
            case=case,
            action=action,
            groups=self.groups_by_policy(person),
            **body.model_dump(),
        )
        handle = self.client.get_workflow_handle(case)
        try:
            async with asyncio.timeout(self.deps.timeout_s):
                answer = await handle.execute_update(action, claim, id=claim.nonce, rpc_timeout=self.rpc)
        except (TimeoutError, UpdateTimeout):
            raise Problem(
                504,
                f"{case} did not answer in time: the {action} may or may not count, look at it before you repeat it",
            ) from None
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            raise Problem(409, cause.message if isinstance(cause, ApplicationError) else str(cause)) from None
        except (RPCError, RuntimeError) as error:
            raise away(error, f"there is no open case {case}") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("accepted"), bool):
            raise Problem(502, f"{case} gave an answer that says neither yes nor no: look at the case")
        if not answer["accepted"]:
            raise Problem(409, str(answer.get("why") or "the case refused it and gave no reason"))
        log.info("%s on %s by %s accepted", action, case, person.sub)
        return JSONResponse({**answer, "case": case, "who": person.sub})

    async def cases(self, request: Request) -> JSONResponse:
        """Open cases (from Temporal, which may lag by a second) and the last 50 closed ones (from the journal)."""
        await self.person(request)
        found = []
        asked = asyncio.create_task(stopped(self.client, self.deps.domains, LOOK_S))
        try:
            async with asyncio.timeout(self.deps.timeout_s):
                query = 'WorkflowType = "Remediation" AND ExecutionStatus = "Running"'
                async for one in self.client.list_workflows(query, limit=1000, rpc_timeout=self.rpc):
                    found.append(
                        {
                            "workflow_id": one.id,
                            "state": one.typed_search_attributes.get(_STATE) or "open",
                            "class": one.typed_search_attributes.get(_CLASS) or "",
                            "started_at": one.start_time.isoformat(),
                        }
                    )
        except (RPCError, RuntimeError, TimeoutError) as error:
            asked.cancel()
            raise away(error) from None
        closed = list(await self.deps.closed_cases(50))
        return JSONResponse({"open": found, "closed": closed, "stopped": await asked})

    async def case(self, request: Request, workflow_id: str) -> JSONResponse:
        """What the open case says of itself; else its last record in the journal."""
        await self.person(request)
        case = workflow_id
        if not case.startswith("remediate:"):  # the id of a closed case: only the journal knows it
            record = await self.deps.closed_case(case)
            if record is None:
                raise Problem(404, f"there is no closed case {case}, and ids of open ones begin with remediate:")
            return JSONResponse(record)
        handle = self.client.get_workflow_handle(case)
        try:
            async with asyncio.timeout(self.deps.timeout_s):
                domain = case.removeprefix("remediate:").partition("/")[0]
                asked = stopped(self.client, (domain,), LOOK_S)
                said, stops = await asyncio.gather(handle.query("status", rpc_timeout=self.rpc), asked)
                return JSONResponse({**await self._as_written(said), "stopped": stops})
        except WorkflowQueryFailedError as error:
            raise Problem(502, f"{case} could not say how it stands: {error}") from None
        except (RPCError, RuntimeError, TimeoutError) as error:
            record = await self.deps.closed_case(case)
            if record is not None:
                return JSONResponse(record)
            raise away(error, f"there is no case {case}") from None

    async def _as_written(self, said: dict[str, Any]) -> dict[str, Any]:
        """A closed case's record is the journal's. Temporal answers for it by replaying, with a clock that may have run some
        milliseconds otherwise (docs/adr/0016): its chain would have another head than the one that was sealed."""
        if said.get("state") != "closed":
            return said
        why = "the journal does not have it"
        try:
            async with asyncio.timeout(LOOK_S):
                kept = await self.deps.closed_case(said["record"]["case"])
        except (PortError, TimeoutError):
            kept, why = None, "the journal does not answer"
        if kept is None:
            return {**said, "unsealed": f"{why}: this record is as Temporal replays it"}
        return {**said, "record": kept["record"]}


def _case_id(workflow_id: str) -> str:
    """Only Remediations: through this door nobody reaches a Guard or anybody else's workflow."""
    if not workflow_id.startswith("remediate:"):
        raise Problem(404, f"{workflow_id!r} is not a case: ids begin with remediate:", field="workflow_id")
    return workflow_id
