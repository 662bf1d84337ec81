"""Whoever asks a workflow gets its answer, also when the question comes between two of its tasks."""

from __future__ import annotations

from uuid import uuid4

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from worker.ask_again import TRIES
from worker.plugin import interlock_plugin
from worker.timely import WHY


@workflow.defn
class Busy:
    """Answers only when it has been asked often enough."""

    def __init__(self) -> None:
        self.asked = 0

    @workflow.run
    async def run(self) -> None:
        """For ever."""
        await workflow.wait_condition(lambda: False)

    @workflow.query
    def answer(self, words: str, after: int) -> int:
        """How often it was asked. It counts in a query, which no workflow should: here the query is what is counted."""
        self.asked += 1
        if self.asked <= after:
            raise RuntimeError(words)
        return self.asked


@pytest.mark.parametrize(
    ("words", "after", "asked"),
    [
        (WHY, 2, 3),
        (WHY, TRIES, None),  # it never comes to its next task
        ("no such thing", 1, None),  # another answer is an answer
    ],
)
async def test_a_question_between_two_tasks_is_put_again_and_no_other(
    address: str, words: str, after: int, asked: int | None
) -> None:
    """With the plugin that every client of Interlock's has."""
    plain, client = await Client.connect(address), await Client.connect(address, plugins=[interlock_plugin()])
    queue = f"busy-{uuid4()}"
    async with Worker(plain, task_queue=queue, workflows=[Busy], workflow_runner=UnsandboxedWorkflowRunner()):
        run = await client.start_workflow(Busy.run, id=queue, task_queue=queue)
        if asked is not None:
            assert await run.query("answer", args=[words, after]) == asked
            return
        with pytest.raises(WorkflowQueryFailedError, match=words):
            await run.query("answer", args=[words, after])
        assert await run.query("answer", args=[words, 0]) == after + 1
