"""How an activity asks the Guard: a query for what it knows, an update-with-start to acquire. Names only, no workflow code."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import QueryRejectCondition, WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.errors import Permanent, Retryable
from runbooks.detection import TASK_QUEUE, guard_id, guard_queue
from runbooks.facts import GuardView
from runbooks.guard import AcquireRequest, Announce, Answer, Release
from runbooks.guard_words import READING, reads

TIMEOUT = timedelta(seconds=4)
AT_ONCE = 4
"""Updates of one process that wait for one Guard: the server takes ten in flight for a workflow and refuses the rest
(facts/temporal.md 5), and there may be a second worker."""
READS_WITHIN_S = 3.0
"""How long a Guard that has just begun is waited for: a few milliseconds, unless the journal is away."""
POLLED_WITHIN = timedelta(seconds=90)


class GuardClient:
    """Talks to the Guards of all domains. Starts a Guard that does not run yet."""

    def __init__(self, client: Client, task_queue: str = TASK_QUEUE) -> None:
        self._client = client
        self._queue = guard_queue(task_queue)
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    async def view(self, domain: str) -> GuardView:
        """What the Guard knows now. Retryable when it cannot be asked, or does not know yet what stands."""
        end = time.monotonic() + READS_WITHIN_S
        while reads(found := await self._started(domain)):
            if time.monotonic() >= end:
                raise Retryable(f"the Guard of {domain}: {READING}")
            await asyncio.sleep(0.02)
        return found

    async def _started(self, domain: str) -> GuardView:
        try:
            return await self._ask(domain)
        except WorkflowQueryRejectedError:
            pass  # it was terminated: what it last knew is nobody's word any more, and might be "dirty" for ever
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise Retryable(f"the Guard of {domain} does not answer: {error.message}") from error
        await self.start(domain)
        try:
            return await self._ask(domain)
        except (RPCError, WorkflowQueryRejectedError) as error:
            raise Retryable(f"the Guard of {domain} does not answer: {error}") from error

    async def _ask(self, domain: str) -> GuardView:
        handle = self._client.get_workflow_handle(guard_id(domain))
        try:
            view: GuardView = await handle.query(
                "view", result_type=GuardView, reject_condition=QueryRejectCondition.NOT_OPEN, rpc_timeout=TIMEOUT
            )
        except WorkflowQueryFailedError as error:  # its task fails, or it was asked between two tasks: worker/timely.py
            raise Retryable(f"the Guard of {domain} could not say how it stands: {error}") from error
        return view

    async def start(self, domain: str) -> None:
        """Starts the Guard of a domain unless it runs."""
        try:
            await self._client.start_workflow(
                "Guard",
                {"domain": domain},
                id=guard_id(domain),
                task_queue=self._queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                static_summary=f"Guard of domain {domain}",
                rpc_timeout=TIMEOUT,
            )
        except RPCError as error:
            raise Retryable(f"the Guard of {domain} cannot be started: {error.message}") from error

    async def acquire(self, request: AcquireRequest) -> Answer:
        """The Guard's answer, at once. The same request again gets the same answer."""
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            "Guard",
            {"domain": request.domain},
            id=guard_id(request.domain),
            task_queue=self._queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"Guard of domain {request.domain}",
        )
        try:
            async with self._slots[request.domain], asyncio.timeout(TIMEOUT.total_seconds()):
                answer: Answer = await self._client.execute_update_with_start_workflow(
                    "acquire", request, start_workflow_operation=start, result_type=Answer, rpc_timeout=TIMEOUT
                )
                return answer
        except WorkflowUpdateFailedError as error:
            raise Permanent(f"the Guard of {request.domain} refused the request: {error.cause}") from error
        except (RPCError, TimeoutError) as error:
            # The Guard may have granted: the retry sends the same key and gets the same permit.
            raise Retryable(f"the Guard of {request.domain} does not answer: {error}") from error

    async def announce(self, what: Announce) -> Answer:
        """Says that a case's target is sick though it may not act yet. Correlated: its fault is the domain's."""
        try:
            handle = self._client.get_workflow_handle(guard_id(what.domain))
            async with self._slots[what.domain], asyncio.timeout(TIMEOUT.total_seconds()):
                answer: Answer = await handle.execute_update("announce", what, result_type=Answer, rpc_timeout=TIMEOUT)
                return answer
        except WorkflowUpdateFailedError as error:
            raise Permanent(f"the Guard of {what.domain} refused the word: {error.cause}") from error
        except (RPCError, TimeoutError) as error:
            raise Retryable(f"the Guard of {what.domain} does not answer: {error}") from error

    async def release(self, domain: str, release: Release) -> None:
        """Gives a domain back that was granted beside one that was not. A Guard that is gone has nothing to give back."""
        try:
            await self._client.get_workflow_handle(guard_id(domain)).signal("release", release, rpc_timeout=TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise Retryable(f"{domain} could not be given back: {error.message}") from error

    async def listens(self, queue: str) -> bool:
        """Whether a worker has asked this queue for activities within the last minute and a half: longer than one poll."""
        request = DescribeTaskQueueRequest(
            namespace=self._client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        try:
            found = await self._client.workflow_service.describe_task_queue(request, timeout=TIMEOUT)
        except RPCError as error:
            raise Retryable(f"who listens on {queue} could not be asked: {error.message}") from error
        seen = [p.last_access_time.ToDatetime(UTC) for p in found.pollers]
        return any(datetime.now(UTC) - at < POLLED_WITHIN for at in seen)
