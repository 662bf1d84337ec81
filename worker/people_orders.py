"""Halt and resume: of one domain, or of every domain that the fleet file names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from temporalio.common import WorkflowIDConflictPolicy

from runbooks.base import Model
from runbooks.detection import TASK_QUEUE, guard_id
from worker.identity import Person
from worker.intake_http import Problem
from worker.people_desk import Desk, ReasonBody, body_of

log = logging.getLogger("interlock.people")


class Orders(Desk):
    """Goes to the Guards by signal: an order must reach them also when no worker answers now."""

    def order_one(self, order: str) -> Callable[..., Awaitable[JSONResponse]]:
        """Halt or resume of one domain."""

        async def endpoint(request: Request, domain: str) -> JSONResponse:
            person = await self.operator(request)
            if domain not in self.deps.domains:
                raise Problem(404, f"there is no domain {domain!r}; the fleet has {', '.join(self.deps.domains)}")
            return await self._order(order, (domain,), person, await body_of(request, ReasonBody))

        return endpoint

    def order_all(self, order: str) -> Callable[..., Awaitable[JSONResponse]]:
        """Halt or resume of every domain in the fleet file: a list, not a search that may lag."""

        async def endpoint(request: Request) -> JSONResponse:
            person = await self.operator(request)
            return await self._order(order, self.deps.domains, person, await body_of(request, ReasonBody))

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
        async with asyncio.timeout(self.deps.timeout_s):
            await self.client.start_workflow(
                "Guard",
                {"domain": domain},
                id=guard_id(domain),
                task_queue=TASK_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal=order,
                start_signal_args=[payload],
                static_summary=f"Guard of domain {domain}",
                rpc_timeout=self.rpc,
            )
