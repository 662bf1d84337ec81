"""The door for people. Their JWT is verified here and goes no further: what enters a history is a signed claim.

POST /v1/cases/{workflow_id}/decide      {step, digest, decision, reason}
POST /v1/cases/{workflow_id}/takeover    {reason}     also /hand_back and /abort
GET  /v1/cases, GET /v1/cases/{workflow_id}
POST /v1/domains/{domain}/halt           {reason}     also /resume
POST /v1/halt, POST /v1/resume           every domain of the fleet

Whether a decision counts is the case's to say (wrong digest, twice, not in the group …): its refusal comes back as 409.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError
from temporalio.client import Client, WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateTimeout
from temporalio.common import SearchAttributeKey, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from runbooks.base import Model
from runbooks.claims import Action
from runbooks.detection import TASK_QUEUE, guard_id
from runbooks.policy import Policy
from worker.identity import KeysAway, NotVerified, Person, Verifier, claim_for
from worker.intake_http import Problem, bearer, first_error, read_json
from worker.telemetry import Telemetry

log = logging.getLogger("interlock.people")
LARGEST_BODY = 64 * 1024
_STATE = SearchAttributeKey.for_keyword("InterlockState")
_CLASS = SearchAttributeKey.for_keyword("InterlockClass")


class DecideBody(Model):
    """A decision about the step that is shown, bound to its digest."""

    step: str = Field(min_length=1, max_length=200)
    digest: str = Field(min_length=1, max_length=64)
    decision: Literal["approve", "reject"]
    reason: str = Field(min_length=1, max_length=2000)


class ReasonBody(Model):
    """Why: whoever reads the record later will want to know."""

    reason: str = Field(min_length=1, max_length=2000)


@dataclass(frozen=True)
class PeopleDeps:
    """What the door needs. `closed_cases(limit)` and `closed_case(workflow_id)` read the journal, newest first."""

    client: Client
    verifier: Verifier
    claim_key: bytes
    telemetry: Telemetry
    policy: Policy
    domains: tuple[str, ...]
    closed_cases: Callable[[int], Awaitable[Sequence[dict[str, Any]]]]
    closed_case: Callable[[str], Awaitable[dict[str, Any] | None]]
    timeout_s: float = 8.0


def people_router(deps: PeopleDeps) -> APIRouter:
    """Routes for people, to be included in an app that answers `Problem` (intake_http.answer_problems)."""
    desk = _Desk(deps)
    router = APIRouter()
    for action in ("decide", "takeover", "hand_back", "abort"):
        router.add_api_route(f"/v1/cases/{{workflow_id:path}}/{action}", desk.act_as(action), methods=["POST"])
    router.add_api_route("/v1/cases", desk.cases, methods=["GET"])
    router.add_api_route("/v1/cases/{workflow_id:path}", desk.case, methods=["GET"])
    for order in ("halt", "resume"):
        router.add_api_route(f"/v1/domains/{{domain}}/{order}", desk.order_one(order), methods=["POST"])
        router.add_api_route(f"/v1/{order}", desk.order_all(order), methods=["POST"])
    return router


class _Desk:
    def __init__(self, deps: PeopleDeps) -> None:
        self._deps = deps
        self._client = deps.client
        self._rpc = timedelta(seconds=deps.timeout_s)

    def act_as(self, action: Action) -> Callable[..., Awaitable[JSONResponse]]:
        """The endpoint of one action on a case."""

        async def endpoint(request: Request, workflow_id: str) -> JSONResponse:
            person = await self._person(request)
            with self._deps.telemetry.request_span(f"POST /v1/cases/ID/{action}", request.headers):
                body = await _body(request, DecideBody if action == "decide" else ReasonBody)
                return await self._act(person, action, _case_id(workflow_id), body)

        return endpoint

    async def _act(self, person: Person, action: Action, case: str, body: Model) -> JSONResponse:
        claim = claim_for(
            person,
            self._deps.claim_key,
            case=case,
            action=action,
            groups=self._groups_by_policy(person),
            **body.model_dump(),
        )
        handle = self._client.get_workflow_handle(case)
        try:
            async with asyncio.timeout(self._deps.timeout_s):
                answer = await handle.execute_update(action, claim, id=claim.nonce, rpc_timeout=self._rpc)
        except (TimeoutError, UpdateTimeout):
            raise Problem(
                504,
                f"{case} did not answer in time: the {action} may or may not count, look at it before you repeat it",
            ) from None
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            raise Problem(409, cause.message if isinstance(cause, ApplicationError) else str(cause)) from None
        except (RPCError, RuntimeError) as error:
            raise _away(error, f"there is no open case {case}") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("accepted"), bool):
            raise Problem(502, f"{case} gave an answer that says neither yes nor no: look at the case")
        if not answer["accepted"]:
            raise Problem(409, str(answer.get("why") or "the case refused it and gave no reason"))
        log.info("%s on %s by %s accepted", action, case, person.sub)
        return JSONResponse({**answer, "case": case, "who": person.sub})

    async def cases(self, request: Request) -> JSONResponse:
        """Open cases (from Temporal, which may lag by a second) and the last 50 closed ones (from the journal)."""
        await self._person(request)
        found = []
        try:
            async with asyncio.timeout(self._deps.timeout_s):
                query = 'WorkflowType = "Remediation" AND ExecutionStatus = "Running"'
                async for one in self._client.list_workflows(query, limit=1000, rpc_timeout=self._rpc):
                    found.append(
                        {
                            "workflow_id": one.id,
                            "state": one.typed_search_attributes.get(_STATE) or "open",
                            "class": one.typed_search_attributes.get(_CLASS) or "",
                            "started_at": one.start_time.isoformat(),
                        }
                    )
        except (RPCError, RuntimeError, TimeoutError) as error:
            raise _away(error) from None
        return JSONResponse({"open": found, "closed": list(await self._deps.closed_cases(50))})

    async def case(self, request: Request, workflow_id: str) -> JSONResponse:
        """What the open case says of itself; else its last record in the journal."""
        await self._person(request)
        case = workflow_id
        if not case.startswith("remediate:"):  # the id of a closed case: only the journal knows it
            record = await self._deps.closed_case(case)
            if record is None:
                raise Problem(404, f"there is no closed case {case}, and ids of open ones begin with remediate:")
            return JSONResponse(record)
        handle = self._client.get_workflow_handle(case)
        try:
            async with asyncio.timeout(self._deps.timeout_s):
                return JSONResponse(await handle.query("status", rpc_timeout=self._rpc))
        except WorkflowQueryFailedError as error:
            raise Problem(502, f"{case} could not say how it stands: {error}") from None
        except (RPCError, RuntimeError, TimeoutError) as error:
            record = await self._deps.closed_case(case)
            if record is not None:
                return JSONResponse(record)
            raise _away(error, f"there is no case {case}") from None

    def order_one(self, order: str) -> Callable[..., Awaitable[JSONResponse]]:
        """Halt or resume of one domain."""

        async def endpoint(request: Request, domain: str) -> JSONResponse:
            person = await self._operator(request)
            if domain not in self._deps.domains:
                raise Problem(404, f"there is no domain {domain!r}; the fleet has {', '.join(self._deps.domains)}")
            return await self._order(order, (domain,), person, await _body(request, ReasonBody))

        return endpoint

    def order_all(self, order: str) -> Callable[..., Awaitable[JSONResponse]]:
        """Halt or resume of every domain in the fleet file: a list, not a search that may lag."""

        async def endpoint(request: Request) -> JSONResponse:
            person = await self._operator(request)
            return await self._order(order, self._deps.domains, person, await _body(request, ReasonBody))

        return endpoint

    async def _order(self, order: str, domains: Sequence[str], person: Person, body: Model) -> JSONResponse:
        payload = {**body.model_dump(), "who": person.sub}
        outcomes = await asyncio.gather(*(self._tell_guard(d, order, payload) for d in domains), return_exceptions=True)
        failed = {d: o for d, o in zip(domains, outcomes, strict=True) if isinstance(o, BaseException)}
        if failed:
            log.error("%s by %s did not reach %s", order, person.sub, sorted(failed))
            done = sorted(set(domains) - set(failed))
            raise Problem(
                503,
                f"{order} did NOT reach {', '.join(sorted(failed))}, only {', '.join(done) or 'none'}: send it again",
                retry_after_s=1,
            )
        log.warning("%s of %s by %s", order, ", ".join(domains), person.sub)
        return JSONResponse({"order": order, "domains": list(domains), "who": person.sub})

    async def _tell_guard(self, domain: str, order: str, payload: dict[str, Any]) -> None:
        """Starts the Guard when it does not run: a halt must hold before the first case asks."""
        async with asyncio.timeout(self._deps.timeout_s):
            await self._client.start_workflow(
                "Guard",
                {"domain": domain},
                id=guard_id(domain),
                task_queue=TASK_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal=order,
                start_signal_args=[payload],
                static_summary=f"Guard of domain {domain}",
                rpc_timeout=self._rpc,
            )

    async def _person(self, request: Request) -> Person:
        try:
            return await self._deps.verifier.verify(bearer(request))
        except NotVerified as error:
            raise Problem(401, str(error), field="authorization") from None
        except KeysAway as error:
            raise Problem(503, str(error), retry_after_s=5) from None

    async def _operator(self, request: Request) -> Person:
        """A person who may approve anything at all may also halt: stopping must not need the one right group."""
        person = await self._person(request)
        policy = self._deps.policy
        groups = {policy.default.approvers, *(c.approvers for c in policy.classes.values())}
        if not groups & {*person.groups, *self._groups_by_policy(person)}:
            raise Problem(403, f"{person.sub} is in none of the approver groups: {', '.join(sorted(groups))}")
        return person

    def _groups_by_policy(self, person: Person) -> tuple[str, ...]:
        return tuple(g for g, members in self._deps.policy.groups.items() if person.sub in members)


def _case_id(workflow_id: str) -> str:
    """Only Remediations: through this door nobody reaches a Guard or anybody else's workflow."""
    if not workflow_id.startswith("remediate:"):
        raise Problem(404, f"{workflow_id!r} is not a case: ids begin with remediate:", field="workflow_id")
    return workflow_id


async def _body(request: Request, model: type[Model]) -> Model:
    raw = await read_json(request, LARGEST_BODY)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        field, sentence = first_error(error, "request")
        raise Problem(422, sentence, field=field) from None


def _away(error: BaseException, missing: str = "") -> Problem:
    if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND and missing:
        return Problem(404, missing)
    if isinstance(error, RPCError) and error.status in (
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.INVALID_ARGUMENT,
    ):
        return Problem(409, error.message)
    return Problem(503, "Temporal does not answer: try again shortly", retry_after_s=5)
