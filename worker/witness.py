"""What Temporal says of a closed case: its head by the workflow's result, else by the record that `close_case` was given.

Neither can be changed by whoever can edit the journal.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from runbooks.people import CloseRequest

PATIENCE = timedelta(seconds=10)
NO_RUN = (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)


class Word(NamedTuple):
    """`head` is None when nobody outside of the journal can say, and `of` tells why; "" is: closed without a chain."""

    head: str | None
    of: str


class Witness:
    """Asks Temporal about closed cases. Once it does not answer it is not asked again, and that is said of each case."""

    def __init__(self, client: Client | None, away: str = "") -> None:
        self._client = client
        self.away = away

    async def word(self, record: dict[str, Any]) -> Word:
        """Of the run that the record names; where Temporal has no such run, of any run that ended with this case."""
        workflow, run, case = (str(record.get(k) or "") for k in ("workflow_id", "run_id", "case"))
        if self._client is not None and not self.away:
            try:
                found = await self._of_run(self._client, workflow, run, case)
                return found or await self._of_any_run(self._client, workflow, case)
            except RPCError as error:
                self.away = f"Temporal does not answer ({error.message})"
        return Word(None, self.away)

    async def ended(self) -> AsyncIterator[tuple[str, str]]:
        """Run id and case of each Remediation that completed, as far as Temporal still has it."""
        if self._client is None or self.away:
            return
        try:
            async for run_id, result in _completed(self._client, ""):
                yield run_id, str(result.get("case"))
        except RPCError as error:
            self.away = f"Temporal does not answer ({error.message})"

    async def _of_run(self, client: Client, workflow: str, run: str, case: str) -> Word | None:
        handle = client.get_workflow_handle(workflow, run_id=run, result_type=dict)
        try:
            status = (await handle.describe(rpc_timeout=PATIENCE)).status
        except RPCError as error:
            if error.status in NO_RUN:
                return None
            raise
        result = await _result(handle) if status is WorkflowExecutionStatus.COMPLETED else {}
        if result.get("case") == case:
            return Word(str(result.get("head") or ""), "the workflow's result in Temporal")
        record = await self._handed_over(client, handle, case)
        return None if record is None else Word(str(record.get("head") or ""), "the workflow's history in Temporal")

    async def _handed_over(self, client: Client, handle: WorkflowHandle[Any, Any], case: str) -> dict[str, Any] | None:
        """The record as `close_case` was given it: of an earlier round of a run, or of a run that did not complete."""
        found: dict[str, Any] | None = None
        async for event in handle.fetch_history_events(rpc_timeout=PATIENCE):
            if event.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                continue
            asked = event.activity_task_scheduled_event_attributes
            if asked.activity_type.name == "close_case":
                (request,) = await client.data_converter.decode(asked.input.payloads, [CloseRequest])
                found = json.loads(request.record) if request.case == case else found
        return found

    async def _of_any_run(self, client: Client, workflow: str, case: str) -> Word:
        """A record that names another run than its own must not be out of reach by that."""
        quoted = workflow.replace("\\", "\\\\").replace('"', '\\"')
        async for run_id, result in _completed(client, f' AND WorkflowId = "{quoted}"'):
            if result.get("case") == case:
                return Word(str(result.get("head") or ""), f"the result of run {run_id} in Temporal")
        return Word(None, "Temporal does not have its run (any more)")


async def _completed(client: Client, more: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    query = f'WorkflowType = "Remediation" AND ExecutionStatus = "Completed"{more}'
    async for one in client.list_workflows(query, rpc_timeout=PATIENCE):
        try:
            yield one.run_id, await _result(client.get_workflow_handle(one.id, run_id=one.run_id, result_type=dict))
        except RPCError as error:
            if error.status not in NO_RUN:  # it went out of retention between the two
                raise


async def _result(handle: WorkflowHandle[Any, Any]) -> dict[str, Any]:
    """Not as today's model: a result of another version has other fields."""
    found = await handle.result(follow_runs=False, rpc_timeout=PATIENCE)
    return found if isinstance(found, dict) else {}
