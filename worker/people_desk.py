"""What every route for people does first: who is it, what do they say, and what an error of Temporal means to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fastapi import Request
from pydantic import Field, ValidationError
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from runbooks.base import Model
from runbooks.decisions import approver_groups
from runbooks.policy import Policy
from worker.identity import KeysAway, NotVerified, Person, Verifier
from worker.intake_http import Problem, bearer, first_error, read_json
from worker.telemetry import Telemetry

LARGEST_BODY = 64 * 1024


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


class Desk:
    """Base of the routes."""

    def __init__(self, deps: PeopleDeps) -> None:
        self.deps = deps
        self.client = deps.client
        self.rpc = timedelta(seconds=deps.timeout_s)

    async def person(self, request: Request) -> Person:
        """The verified person of a request. Problem 401, or 503 when nobody can be verified now."""
        try:
            return await self.deps.verifier.verify(bearer(request))
        except NotVerified as error:
            raise Problem(401, str(error), field="authorization") from None
        except KeysAway as error:
            raise Problem(503, str(error), retry_after_s=5) from None

    async def operator(self, request: Request) -> Person:
        """A person who may approve anything at all may also halt: stopping must not need the one right group."""
        person = await self.person(request)
        groups = approver_groups(self.deps.policy)
        if not {*groups} & {*person.groups, *self.groups_by_policy(person)}:
            raise Problem(403, f"{person.sub} is in none of the approver groups: {', '.join(groups)}")
        return person

    def groups_by_policy(self, person: Person) -> tuple[str, ...]:
        """Groups that policy puts this subject in, beside those of the issuer."""
        return tuple(g for g, members in self.deps.policy.groups.items() if person.sub in members)


async def body_of(request: Request, model: type[Model]) -> Model:
    """The body as this model. Problem 422 with the field."""
    raw = await read_json(request, LARGEST_BODY)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        field, sentence = first_error(error, "request")
        raise Problem(422, sentence, field=field) from None


def away(error: BaseException, missing: str = "") -> Problem:
    """What an error of Temporal means to a person: 404 with `missing`, 409, else 503."""
    if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND and missing:
        return Problem(404, missing)
    if isinstance(error, RPCError) and error.status in (
        RPCStatusCode.FAILED_PRECONDITION,
        RPCStatusCode.INVALID_ARGUMENT,
    ):
        return Problem(409, error.message)
    return Problem(503, "Temporal does not answer: try again shortly", retry_after_s=5)
