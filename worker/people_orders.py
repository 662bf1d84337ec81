"""Orders to Guards: halt, resume, reset of the breaker; of one domain, or of every domain that the fleet file names.

A halt is the safe side: a signal, with a start, so that it holds although no worker answers now. Resume and reset make
things less safe: a signed claim by update, so that the Guard itself judges it and its answer comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from fastapi import Request
from fastapi.responses import JSONResponse
from temporalio.client import WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateTimeout
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from runbooks.detection import guard_id, guard_queue
from runbooks.people import Order
from worker.identity import Person, claim_for
from worker.intake_http import Problem
from worker.people_desk import Desk, ReasonBody, body_of

log = logging.getLogger("interlock.people")
Said = Literal["halt", Order]
Endpoint = Callable[..., Awaitable[JSONResponse]]
AWAY = (RPCError, RuntimeError, TimeoutError, UpdateTimeout)
"""What means that an order did not arrive, or that nobody answered."""


class NotTaken(Exception):
    """The Guard said no; the text is its reason."""


class Orders(Desk):
    """Each order to one domain, or to all."""

    def one(self, order: Said) -> Endpoint:
        """The endpoint of an order to one domain."""

        async def endpoint(request: Request, domain: str) -> JSONResponse:
            person = await self.operator(request)
            if domain not in self.deps.domains:
                raise Problem(404, f"there is no domain {domain!r}; the fleet has {', '.join(self.deps.domains)}")
            return await self._order(order, (domain,), person, request)

        return endpoint

    def all(self, order: Said) -> Endpoint:
        """The endpoint of an order to every domain in the fleet file: a list, not a search that may lag."""

        async def endpoint(request: Request) -> JSONResponse:
            person = await self.operator(request)
            return await self._order(order, self.deps.domains, person, request)

        return endpoint

    async def _order(self, order: Said, domains: Sequence[str], person: Person, request: Request) -> JSONResponse:
        reason = str((await body_of(request, ReasonBody)).model_dump()["reason"])
        outcomes = await asyncio.gather(
            *(
                self._halt(d, person, reason) if order == "halt" else self._ask(d, order, person, reason)
                for d in domains
            ),
            return_exceptions=True,
        )
        told = dict(zip(domains, outcomes, strict=True))
        if bugs := [o for o in outcomes if isinstance(o, BaseException) and not isinstance(o, (NotTaken, *AWAY))]:
            raise bugs[0]
        done = ", ".join(sorted(d for d, o in told.items() if not isinstance(o, BaseException))) or "none"
        if lost := sorted(d for d, o in told.items() if isinstance(o, AWAY)):
            log.error("%s by %s did not reach %s", order, person.sub, lost)
            raise Problem(503, _unreached(order, ", ".join(lost), done), retry_after_s=1)
        if refused := {d: str(o) for d, o in told.items() if isinstance(o, NotTaken)}:
            why = "; ".join(f"{d}: {o}" for d, o in sorted(refused.items()))
            raise Problem(409, why if len(told) == 1 else f"{why} ({_past(order)}: {done})")
        log.warning("%s of %s by %s", order, ", ".join(domains), person.sub)
        return JSONResponse({"order": order, "domains": list(domains), "who": person.sub})

    async def _halt(self, domain: str, person: Person, reason: str) -> None:
        """Starts the Guard when it does not run: a halt must hold before the first case asks."""
        async with asyncio.timeout(self.deps.timeout_s):
            await self.client.start_workflow(
                "Guard",
                {"domain": domain},
                id=guard_id(domain),
                task_queue=guard_queue(),
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal="halt",
                start_signal_args=[{"reason": reason, "who": person.sub}],
                static_summary=f"Guard of domain {domain}",
                rpc_timeout=self.rpc,
            )

    async def _ask(self, domain: str, order: Order, person: Person, reason: str) -> None:
        """By a claim that only this domain's Guard takes. NotTaken with its reason."""
        claim = claim_for(
            person,
            self.deps.claim_key,
            case=guard_id(domain),
            action=order,
            reason=reason,
            groups=self.groups_by_policy(person),
        )
        # With a start: of a Guard that somebody terminated the halt is still in the journal, and must not outlive its resume.
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            "Guard",
            {"domain": domain},
            id=guard_id(domain),
            task_queue=guard_queue(),
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Guard of domain {domain}",
        )
        try:
            async with asyncio.timeout(self.deps.timeout_s):
                answer = await self.client.execute_update_with_start_workflow(
                    "order", claim, start_workflow_operation=start, id=claim.nonce, rpc_timeout=self.rpc
                )
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            raise NotTaken(cause.message if isinstance(cause, ApplicationError) else str(cause)) from None
        if not isinstance(answer, dict) or not isinstance(answer.get("accepted"), bool):
            raise NotTaken("its Guard gave an answer that says neither yes nor no: look at it")
        if not answer["accepted"]:
            raise NotTaken(str(answer.get("why") or "its Guard refused it and gave no reason"))


def _unreached(order: Said, lost: str, done: str) -> str:
    if order == "halt":
        return f"halt did NOT reach {lost}, only {done}: send it again"
    # An update that waits at the server may still be taken when a worker comes back; its claim ends after a minute.
    return (
        f"the Guard of {lost} did not answer, is a worker running? {_past(order)}: {done}. "
        "It may still count within a minute: look before you send it again"
    )


def _past(order: Said) -> str:
    return {"resume": "resumed", "reset_breaker": "reset"}.get(order, order)
