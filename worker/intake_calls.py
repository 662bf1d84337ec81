"""What the intake asks of Temporal about the one Remediation of a target: four calls, each bounded in time.

Every call ends in an answer, in Away (not acknowledged: the sender must come again) or in Undeliverable (never will be).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from runbooks.detection import TASK_QUEUE, Detection, summary_of

T = TypeVar("T")


class Away(Exception):
    """Temporal did not acknowledge: nothing may be acknowledged to the sender, who must come again."""


class Undeliverable(Exception):
    """Temporal refuses this very detection, and always will."""


class _NotFound(Away):
    """There is no open run. Where nobody expects that, it is one way of not being acknowledged."""


class Remediations:
    """`eager`: the first task comes back with the start, for a worker on this very client."""

    def __init__(self, client: Client, *, rpc_timeout_s: float, eager: bool) -> None:
        self._client = client
        self._timeout = rpc_timeout_s
        self._eager = eager

    async def start(self, detection: Detection) -> str | None:
        """The id of the run that this started; None when one runs already."""
        try:
            handle = await self._bounded(
                lambda timeout: self._client.start_workflow(
                    "Remediation",
                    detection,
                    id=detection.workflow_id,
                    static_summary=summary_of(detection.target),
                    task_queue=TASK_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    request_eager_start=self._eager,
                    rpc_timeout=timeout,
                )
            )
        except WorkflowAlreadyStartedError:
            return None
        return handle.result_run_id or ""

    async def signal_with_start(self, told: Sequence[Detection]) -> str:
        """The run that was told. Should it have closed meanwhile, this opens the next: nothing falls in between."""
        firing = next(d for d in told if d.status == "firing")
        handle = await self._bounded(
            lambda timeout: self._client.start_workflow(
                "Remediation",
                firing,
                id=firing.workflow_id,
                static_summary=summary_of(firing.target),
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                start_signal="detect",
                start_signal_args=[list(told) if len(told) > 1 else told[0]],
                rpc_timeout=timeout,
            )
        )
        return handle.result_run_id or ""

    async def tell(self, detection: Detection) -> bool:
        """Tells the open run, and opens none: for what is resolved. False when nothing is open."""
        handle = self._client.get_workflow_handle(detection.workflow_id)
        try:
            await self._bounded(lambda timeout: handle.signal("detect", detection, rpc_timeout=timeout))
        except _NotFound:
            return False
        return True

    async def is_open(self, workflow_id: str, run_id: str) -> bool:
        """Whether this very run is open now."""
        handle = self._client.get_workflow_handle(workflow_id, run_id=run_id)
        try:
            about = await self._bounded(lambda timeout: handle.describe(rpc_timeout=timeout))
        except _NotFound:
            return False
        return about.status == WorkflowExecutionStatus.RUNNING

    async def _bounded(self, rpc: Callable[[timedelta], Awaitable[T]]) -> T:
        try:
            # The SDK's own timeout is per attempt and it tries up to ten times: 3 s became 5.6 s when measured.
            async with asyncio.timeout(self._timeout):
                return await rpc(timedelta(seconds=self._timeout))
        except TimeoutError:
            raise Away(f"Temporal did not answer within {self._timeout:g} s") from None
        except RPCError as error:
            raise _meaning(error) from error
        except RuntimeError as error:  # a lazy client that could not connect
            if "client connect" not in str(error):
                raise
            raise Away("Temporal cannot be reached") from error


def _meaning(error: RPCError) -> Exception:
    # "Not found" is also said of a namespace: then nothing was delivered, and the intake must not call it resolved.
    if error.status == RPCStatusCode.NOT_FOUND and "amespace" not in error.message:
        return _NotFound(error.message)
    # A run that has had too many signals also answers INVALID_ARGUMENT, but its successor will take them.
    if error.status == RPCStatusCode.INVALID_ARGUMENT and "limit" not in error.message:
        return Undeliverable(f"Temporal refuses it: {error.message}")
    return Away(f"Temporal answered {error.status.name}: {error.message}")
