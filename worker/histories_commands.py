"""The commands of an activation as decisions. What an interceptor never sees is here as well: timers, updates, the end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from temporalio.bridge.proto.workflow_commands import WorkflowCommand

from worker.histories_shape import Decision, Fields, failure_of, map_of, retry_of, seconds, summary_of, values_of

LEFT_TO_CORE = frozenset(
    {
        "respond_to_query",
        "request_cancel_activity",
        "cancel_timer",
        "set_patch_marker",
        "cancel_child_workflow_execution",
        "request_cancel_external_workflow_execution",
        "cancel_signal_workflow",
        "request_cancel_local_activity",
        "request_cancel_nexus_operation",
    }
)
"""They carry nothing but their place, which the SDK compares itself."""
ENDS = frozenset(
    {
        "complete_workflow_execution",
        "fail_workflow_execution",
        "cancel_workflow_execution",
        "continue_as_new_workflow_execution",
    }
)


def decision(at: int, c: WorkflowCommand, counts: Counter[str], default_queue: str, own_queue: str) -> Decision | None:
    """What one command asks for; None for those of LEFT_TO_CORE. `counts` numbers what has no name of its own.

    `default_queue` is where the replay runs, and stands for `own_queue`, where the recorded workflow ran.
    """
    kind = c.WhichOneof("variant") or ""
    if kind in LEFT_TO_CORE:
        return None
    told = {"summary": summary_of(c.user_metadata)}
    fields: Fields

    def nth(kind: str) -> tuple[str, str]:
        counts[kind] += 1
        return kind, str(counts[kind])

    match kind:
        case "schedule_activity":
            a = c.schedule_activity
            queue = own_queue if a.task_queue == default_queue else a.task_queue
            return Decision(("activity", a.activity_id), a.activity_type, at, _activity(a, queue) | told)
        case "schedule_local_activity":
            la = c.schedule_local_activity
            return Decision(("local_activity", str(la.seq)), la.activity_type, at, _local(la) | told)
        case "start_timer":
            t = c.start_timer
            return Decision(
                ("timer", str(t.seq)), str(t.seq), at, {"fires_after_s": seconds(t.start_to_fire_timeout)} | told
            )
        case "signal_external_workflow_execution":
            s = c.signal_external_workflow_execution
            to = s.child_workflow_id or s.workflow_execution.workflow_id
            fields = {"to": to, "run": s.workflow_execution.run_id, "arguments": values_of(s.args)}
            return Decision(nth("signal"), s.signal_name, at, fields)
        case "upsert_workflow_search_attributes":
            attributes = c.upsert_workflow_search_attributes.search_attributes
            return Decision(nth("search_attributes"), "", at, map_of(attributes.indexed_fields))
        case "modify_workflow_properties":
            return Decision(nth("memo"), "", at, map_of(c.modify_workflow_properties.upserted_memo.fields))
        case "start_child_workflow_execution":
            w = c.start_child_workflow_execution
            fields = {"id": w.workflow_id, "arguments": values_of(w.input)}
            return Decision(nth("child_workflow"), w.workflow_type, at, fields)
        case "update_response":
            return _update(at, c)
        case _ if kind in ENDS:
            return Decision(("end", ""), kind.removesuffix("_workflow_execution"), at, _end(kind, c))
        case _:
            pass
    raise NotImplementedError(f"the command {kind} is not compared yet: add it to worker/histories_commands.py")


def _activity(a: Any, queue: str) -> Fields:
    """As the server writes it down: a longest time that is given bounds, and stands for, those that are not."""
    whole = seconds(a.schedule_to_close_timeout)
    start, wait = seconds(a.start_to_close_timeout), seconds(a.schedule_to_start_timeout)
    return {
        "arguments": values_of(a.arguments),
        "task_queue": queue,
        "schedule_to_close_s": whole,
        "schedule_to_start_s": min(wait or whole, whole) if whole else wait,
        "start_to_close_s": min(start or whole, whole) if whole else start,
        "heartbeat_s": seconds(a.heartbeat_timeout),
        "retry": retry_of(a.retry_policy),
    }


def _local(a: Any) -> Fields:
    return {
        "arguments": values_of(a.arguments),
        "attempt": a.attempt,
        "schedule_to_close_s": seconds(a.schedule_to_close_timeout),
        "schedule_to_start_s": seconds(a.schedule_to_start_timeout),
        "start_to_close_s": seconds(a.start_to_close_timeout),
        "retry": retry_of(a.retry_policy),
    }


def _update(at: int, c: WorkflowCommand) -> Decision:
    u = c.update_response
    fields: Fields
    match u.WhichOneof("response"):
        case "completed":
            kind, fields = "update_answer", {"answer": values_of([u.completed])}
        case "rejected":
            kind, fields = "update_answer", {"failure": failure_of(u.rejected)}
        case _:
            kind, fields = "update_accepted", {}
    return Decision((kind, u.protocol_instance_id), "", at, fields)


def _end(kind: str, c: WorkflowCommand) -> Fields:
    match kind:
        case "complete_workflow_execution":
            return {"result": values_of([c.complete_workflow_execution.result])}
        case "fail_workflow_execution":
            return {"failure": failure_of(c.fail_workflow_execution.failure)}
        case "continue_as_new_workflow_execution":
            return {"arguments": values_of(c.continue_as_new_workflow_execution.arguments)}
        case _:
            return {}
