"""A question that came between two tasks of a run is put once more: nobody who asks need know of `worker/timely.py`."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio.client import Interceptor, OutboundInterceptor, QueryWorkflowInput, WorkflowQueryFailedError

from worker.timely import WHY

TRIES, PAUSE_S = 10, 0.05
"""The next task of the run is due already; a busy worker needs a moment for it."""


class AskAgain(Interceptor):
    """For every client of Interlock's."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """See Interceptor."""
        return _Patient(next)


class _Patient(OutboundInterceptor):
    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        for _ in range(TRIES - 1):
            try:
                return await super().query_workflow(input)
            except WorkflowQueryFailedError as error:
                if WHY not in str(error):
                    raise
            await asyncio.sleep(PAUSE_S)
        return await super().query_workflow(input)
