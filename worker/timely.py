"""A workflow hears of an event only in a task that the server has begun.

By itself it does not (temporalio 1.35, measured): a worker that is asked a query about a run which it does not have in memory
reads the run's history. Are there events after its last task (a signal, the end of an activity: the task for them is still
to come), they are handed to the workflow as news, with the time of that last task. What it decides by `workflow.now()` goes
to the server with the next task, and a replay, in which these events have the time of their own task, decides otherwise:
then the run can never go on again. So such an activation fails here. The query fails with it, and the run is read anew.
"""

from __future__ import annotations

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

WHY = "asked between two tasks of this run, with news that its next task brings: ask again"


class Times:
    """The last activation of one instance: how long its history was, and its time."""

    def __init__(self) -> None:
        self._length = self._at = 0

    def untimely(self, act: WorkflowActivation) -> bool:
        """Whether this one has more history than the last, and yet its time: each task has its own. A replay is never it."""
        before, at = self._length, self._at
        self._length, self._at = act.history_length, act.timestamp.ToNanoseconds()
        return not act.is_replaying and 0 < before < act.history_length and at == self._at


def timely(instance: WorkflowInstance) -> WorkflowInstance:
    """The same instance; what is untimely fails, and never reaches the workflow."""
    activate, times = instance.activate, Times()

    def guarded(act: WorkflowActivation) -> WorkflowActivationCompletion:
        if not times.untimely(act):
            return activate(act)
        refused = WorkflowActivationCompletion(run_id=act.run_id)
        refused.failed.failure.message = WHY
        return refused

    instance.activate = guarded  # type: ignore[method-assign]
    return instance


class TimelyRunner(SandboxedWorkflowRunner):
    """The default sandbox with that."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See above."""
        return timely(super().create_instance(det))
