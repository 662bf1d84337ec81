"""What the watchman asks: each Guard, the list of open cases, the cases that wait for people, the intakes.

Every question is bounded in time. What was not answered comes back as that, never as a good value.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.common import SearchAttributeKey
from temporalio.service import RPCError

from runbooks.detection import guard_id

T = TypeVar("T")
OPEN = 'WorkflowType = "Remediation" AND ExecutionStatus = "Running"'
STATE = SearchAttributeKey.for_keyword("InterlockState")
STARTING = "starting"
"""The state of a case that has not said anything: its first workflow task is not done."""


class NoAnswer(Exception):
    """Nothing came back that could be read; the text says why."""


@dataclass(frozen=True)
class GuardSeen:
    """One Guard, as it was found. `why` is empty when it runs and answered; `view` is empty when it did not."""

    domain: str
    why: str
    view: Mapping[str, Any] = field(default_factory=dict)
    answer_s: float | None = None
    task: tuple[int, datetime | None] | None = None
    """Attempt of its pending workflow task and since when it waits, (0, None) when none is pending; None: not known."""


@dataclass(frozen=True)
class CaseSeen:
    """One open case of the list."""

    workflow_id: str
    run_id: str
    state: str
    started_at: datetime


@dataclass(frozen=True)
class Approval:
    """What a case waits for."""

    case: str
    group: str
    expires_at: datetime


def moment(value: Any) -> datetime | None:
    """A time of the JSON; None when it is not one."""
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None


class Asker:
    """Asks Temporal. `timeout_s` bounds each question, with the SDK's own retries inside."""

    def __init__(self, client: Client, timeout_s: float) -> None:
        self._client = client
        self._timeout = timeout_s

    async def guard(self, domain: str) -> GuardSeen:
        """Its word, and the server's word about it: a Guard that was ended still answers queries as if it lived."""
        handle = self._client.get_workflow_handle(guard_id(domain))
        began = time.monotonic()
        try:
            about = await self._bounded(lambda timeout: handle.describe(rpc_timeout=timeout))
        except NoAnswer as error:
            return GuardSeen(domain, str(error))
        task = _task(about)
        if about.status != WorkflowExecutionStatus.RUNNING:
            return GuardSeen(domain, "it does not run", task=task)
        try:
            view = await self._bounded(lambda timeout: handle.query("view", rpc_timeout=timeout))
        except NoAnswer as error:
            return GuardSeen(domain, str(error), task=task)
        if not isinstance(view, dict) or view.get("domain") != domain:
            return GuardSeen(domain, "its view cannot be read", task=task)
        return GuardSeen(domain, "", view, time.monotonic() - began, task)

    async def open_cases(self, limit: int) -> list[CaseSeen]:
        """Open cases, from the visibility store, which may lag: good for metrics, never for a gate. NoAnswer."""

        async def read(timeout: timedelta) -> list[CaseSeen]:
            found = []
            async for one in self._client.list_workflows(OPEN, limit=limit, rpc_timeout=timeout):
                state = one.typed_search_attributes.get(STATE) or STARTING
                found.append(CaseSeen(one.id, one.run_id, state, one.start_time))
            return found

        return await self._bounded(read)

    async def approval(self, case: CaseSeen) -> Approval | None:
        """What the case waits for; None when it waits for people no longer (the list lags). NoAnswer."""
        handle = self._client.get_workflow_handle(case.workflow_id, run_id=case.run_id)
        status = await self._bounded(lambda timeout: handle.query("status", rpc_timeout=timeout))
        if not isinstance(status, dict) or "state" not in status:
            raise NoAnswer("its status cannot be read")
        waiting = status.get("waiting")
        if waiting is None:
            return None
        expires = moment(waiting.get("expires_at")) if isinstance(waiting, dict) else None
        if expires is None:
            raise NoAnswer("it does not say until when it waits")
        return Approval(case.workflow_id, str(waiting.get("group", "")), expires)

    async def _bounded(self, rpc: Callable[[timedelta], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await rpc(timedelta(seconds=self._timeout))
        except TimeoutError:
            raise NoAnswer(f"no answer within {self._timeout:g} s") from None
        except (RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError) as error:
            raise NoAnswer(str(error)) from error
        except RuntimeError as error:  # a lazy client that could not connect
            if "client connect" not in str(error):
                raise
            raise NoAnswer("Temporal cannot be reached") from error


def _task(about: WorkflowExecutionDescription) -> tuple[int, datetime | None]:
    raw = about.raw_description
    if not raw.HasField("pending_workflow_task"):
        return 0, None
    pending = raw.pending_workflow_task
    return pending.attempt, pending.original_scheduled_time.ToDatetime(UTC)


async def intake_ready(http: httpx.AsyncClient, base: str, timeout_s: float) -> bool:
    """True when this intake takes alerts now: it is there, and Temporal answers it."""
    try:
        async with asyncio.timeout(timeout_s):
            return (await http.get(base.rstrip("/") + "/readyz")).status_code == 200
    except (TimeoutError, httpx.HTTPError):
        return False
