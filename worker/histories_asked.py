"""What today's code asks for while a history is replayed: every command of every activation, with its payloads.

An interceptor does not see timers, updates or the end of a run. A WorkflowRunner is handed whole activations and gives
back their commands (docs/adr/0016).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.plugin import SimplePlugin
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import Info

from worker.histories_commands import ENDS, decision
from worker.histories_shape import Decision


class Asked:
    """Takes down what one replay asks for. Give its plugin to the Replayer after Interlock's own."""

    def __init__(self) -> None:
        self.tasks: list[tuple[int, list[WorkflowCommand]]] = []
        self.queue = ""

    def plugin(self) -> SimplePlugin:
        """Wraps whatever runner is there: the sandbox stays."""
        return SimplePlugin("interlock-asked", workflow_runner=lambda inner: _Runner(inner, self))

    def begin(self, info: Info) -> None:
        """A new instance of the workflow: what an evicted one asked for does not count."""
        self.tasks, self.queue = [], info.task_queue

    def take(self, at: int, done: WorkflowActivationCompletion) -> None:
        """One activation: `at` is the event with which its workflow task was started."""
        kept = WorkflowActivationCompletion()
        kept.CopyFrom(done)  # the worker goes on with its own
        self.tasks.append((at, list(kept.successful.commands)))

    def decisions(self, own_queue: str) -> list[Decision]:
        """In the order in which they were asked. `own_queue`: where the recorded workflow ran."""
        ended = {
            (at, c.cancel_timer.seq) for at, commands in self.tasks for c in commands if c.HasField("cancel_timer")
        }
        found: list[Decision] = []
        counts: Counter[str] = Counter()
        for at, commands in self.tasks:
            for command in commands:
                if command.HasField("start_timer") and (at, command.start_timer.seq) in ended:
                    continue  # begun and ended in one workflow task: the server never hears of it
                one = decision(at, command, counts, self.queue, own_queue)
                if one is not None:
                    found.append(one)
                if command.WhichOneof("variant") in ENDS:
                    break  # whatever comes after the end is dropped
        return found


class _Runner(WorkflowRunner):
    def __init__(self, inner: WorkflowRunner | None, asked: Asked) -> None:
        assert inner is not None  # the Replayer always has one
        self._inner, self._asked = inner, asked

    def prepare_workflow(self, defn: Any) -> None:
        self._inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        self._asked.begin(det.info)
        return _Instance(self._inner.create_instance(det), self._asked)

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        self._inner.set_worker_level_failure_exception_types(types)


class _Instance(WorkflowInstance):
    def __init__(self, inner: WorkflowInstance, asked: Asked) -> None:
        self._inner, self._asked = inner, asked

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        done = self._inner.activate(act)
        self._asked.take(act.history_length, done)
        return done

    def get_serialization_context(self, command_info: Any) -> Any:
        return self._inner.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        return self._inner.get_external_store_context(command_info)

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()
