"""Tells people, closes the record, forwards a detection that came in under a wrong id."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from activities.checkpoint import Checkpoint, no_checkpoint
from activities.errors import Retryable
from activities.facts import Clock, utc_now
from activities.failures import port_failures
from activities.handed import Handed
from activities.ports import Journal, Notify, Told
from runbooks.detection import TASK_QUEUE, Detection, summary_of
from runbooks.people import CloseRequest, TellRequest
from runbooks.record import CaseRecord


class CasebookActivities:
    """What every case needs and no gate judges: it changes nothing that serves traffic."""

    def __init__(
        self,
        notify: Notify,
        journal: Journal,
        client: Client,
        task_queue: str = TASK_QUEUE,
        observe: Callable[[CaseRecord], None] = lambda _: None,
        checkpoint: Checkpoint = no_checkpoint,
        clock: Clock = utc_now,
    ) -> None:
        self._notify = notify
        self._journal = journal
        self._client = client
        self._queue = task_queue
        self._observe = observe
        self._checkpoint = checkpoint
        self._handed = Handed(clock)

    @activity.defn(name="tell")
    async def tell(self, req: TellRequest) -> Told:
        """Pages people. Retried until somebody's system has acknowledged it."""
        with port_failures():
            return await self._notify.tell(req.dedup_key, req.title, req.body)

    @activity.defn(name="close_case")
    async def close(self, req: CloseRequest) -> None:
        """Settles the receipts and writes the record. Safe to repeat."""
        self._checkpoint("close_begin")
        with port_failures():
            for receipt_id, state in req.settle.items():
                await self._journal.settle(receipt_id, state, req.case)
            await self._journal.close(req.case, req.workflow_id, req.record)
        self._checkpoint("close_written")
        self._observe(CaseRecord.model_validate_json(req.record))

    @activity.defn(name="hand_over")
    async def hand_over(self, members: tuple[Detection, ...]) -> None:
        """Starts or tells the domain's case, in one signal. Safe to repeat: the same member is counted once."""
        if not members:
            return
        with port_failures():
            run_id = await self._open_run(members[0].workflow_id)
            news = self._handed.news(run_id, members) if run_id else list(members)
            if news:
                self._handed.told(await self._deliver(news[0], news), news)

    async def _open_run(self, workflow_id: str) -> str:
        """The open run of a workflow; empty when there is none."""
        try:
            found = await self._client.get_workflow_handle(workflow_id).describe(rpc_timeout=timedelta(seconds=5))
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return ""
            raise Retryable(f"{workflow_id} could not be looked at: {error.message}") from error
        return found.run_id if found.status is WorkflowExecutionStatus.RUNNING else ""

    @activity.defn(name="forward")
    async def forward(self, detection: Detection) -> str:
        """Starts or tells the right Remediation; returns its workflow id."""
        with port_failures():
            await self._deliver(detection, detection)
        return detection.workflow_id

    async def _deliver(self, first: Detection, what: Detection | list[Detection]) -> str:
        """As signal-with-start: a case that runs is told, one that does not is started. The run that has it."""
        try:
            handle = await self._client.start_workflow(
                "Remediation",
                what,
                id=first.workflow_id,
                static_summary=summary_of(first.target),
                task_queue=self._queue,
                start_signal="detect",
                start_signal_args=[what],
                rpc_timeout=timedelta(seconds=5),
            )
        except RPCError as error:
            raise Retryable(f"{first.workflow_id} could not be told: {error.message}") from error
        return handle.result_run_id or ""
