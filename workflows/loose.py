"""What comes from outside is taken loosely: a payload that does not fit must be answered, never fail the tasks for ever.

Without this, a signal with no payload or with two raises TypeError in its handler, and the workflow is stuck until
somebody resets it; a start payload that is not JSON does the same.
"""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue
from temporalio.worker import (
    ExecuteWorkflowInput,
    HandleSignalInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

NOTHING = RawValue(Payload())
"""A start without any payload."""
LOOSE = frozenset({"detect", "decide", "takeover", "hand_back", "abort", "halt", "resume", "reset_breaker"})
"""Signals whose handlers take whatever comes and answer it themselves. The others are Interlock's own."""


def opened(raw: Any) -> tuple[Any, str]:
    """The value of a payload, or why it has none."""
    if not isinstance(raw, RawValue):
        return raw, ""
    try:
        return workflow.payload_converter().from_payload(raw.payload), ""
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        return None, f"the payload does not decode: {str(error)[:200]}"


class OnePayload(Interceptor):
    """Gives every signal handler, and every run, exactly one argument."""

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """The same for every workflow."""
        return _OnePayload


class _OnePayload(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        if len(input.args) > 1:
            input.args = [list(input.args)]
        return await super().execute_workflow(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        if len(input.args) != 1:
            if input.signal not in LOOSE:
                workflow.logger.error("signal %s with %d payloads ignored: it takes one", input.signal, len(input.args))
                return
            input.args = [list(input.args)]
        await super().handle_signal(input)
