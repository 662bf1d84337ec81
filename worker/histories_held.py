"""What a history holds of the decisions of its workflow, in the shape in which today's code asks for them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from temporalio.api.history.v1 import HistoryEvent

from worker.histories_shape import (
    Decision,
    Fields,
    failure_of,
    map_of,
    retry_of,
    seconds,
    summary_of,
    value_of,
    values_of,
)

LOCAL = "core_local_activity"
"""The marker of a local activity. It holds type, sequence number and result; arguments and time-outs are nowhere."""

PATCHES = "TemporalChangeVersion"


def held(events: Sequence[HistoryEvent]) -> list[Decision]:
    """In the order of the history. A local activity has no fields: `local_result` has what is there."""
    found: list[Decision] = []
    counts: Counter[str] = Counter()
    for event in events:
        one = _decision(event, counts, events)
        if one is not None:
            found.append(one)
    return found


def local_result(event: HistoryEvent) -> Any:
    """What a local activity returned; None when it failed."""
    details = event.marker_recorded_event_attributes.details
    return value_of(details["result"].payloads[0]) if "result" in details else None


def _decision(e: HistoryEvent, counts: Counter[str], events: Sequence[HistoryEvent]) -> Decision | None:
    told = {"summary": summary_of(e.user_metadata)}
    fields: Fields

    def nth(kind: str) -> tuple[str, str]:
        counts[kind] += 1
        return kind, str(counts[kind])

    match (e.WhichOneof("attributes") or "").removesuffix("_event_attributes"):
        case "activity_task_scheduled":
            a = e.activity_task_scheduled_event_attributes
            return Decision(("activity", a.activity_id), a.activity_type.name, e.event_id, _activity(a) | told)
        case "marker_recorded" if e.marker_recorded_event_attributes.marker_name == LOCAL:
            details = e.marker_recorded_event_attributes.details
            data = json.loads(details["data"].payloads[0].data)
            return Decision(("local_activity", str(data["seq"])), data["activity_type"], e.event_id, {})
        case "timer_started":
            t = e.timer_started_event_attributes
            fields = {"fires_after_s": seconds(t.start_to_fire_timeout)} | told
            return Decision(("timer", t.timer_id), t.timer_id, e.event_id, fields)
        case "signal_external_workflow_execution_initiated":
            s = e.signal_external_workflow_execution_initiated_event_attributes
            to = s.workflow_execution
            fields = {"to": to.workflow_id, "run": to.run_id, "arguments": values_of(s.input.payloads)}
            return Decision(nth("signal"), s.signal_name, e.event_id, fields)
        case "upsert_workflow_search_attributes":
            upserted = e.upsert_workflow_search_attributes_event_attributes.search_attributes.indexed_fields
            if set(upserted) == {PATCHES}:
                return None  # the SDK's own, beside the marker of workflow.patched
            return Decision(nth("search_attributes"), "", e.event_id, map_of(upserted))
        case "workflow_properties_modified":
            m = e.workflow_properties_modified_event_attributes
            return Decision(nth("memo"), "", e.event_id, map_of(m.upserted_memo.fields))
        case "start_child_workflow_execution_initiated":
            w = e.start_child_workflow_execution_initiated_event_attributes
            fields = {"id": w.workflow_id, "arguments": values_of(w.input.payloads)}
            return Decision(nth("child_workflow"), w.workflow_type.name, e.event_id, fields)
        case "workflow_execution_update_accepted":
            accepted = e.workflow_execution_update_accepted_event_attributes
            return Decision(("update_accepted", accepted.protocol_instance_id), "", e.event_id, {})
        case "workflow_execution_update_completed":
            return _answer(e, events)
        case _:
            return _end(e)


def _activity(a: Any) -> Fields:
    return {
        "arguments": values_of(a.input.payloads),
        "task_queue": a.task_queue.name,
        "schedule_to_close_s": seconds(a.schedule_to_close_timeout),
        "schedule_to_start_s": seconds(a.schedule_to_start_timeout),
        "start_to_close_s": seconds(a.start_to_close_timeout),
        "heartbeat_s": seconds(a.heartbeat_timeout),
        "retry": retry_of(a.retry_policy),
    }


def _answer(e: HistoryEvent, events: Sequence[HistoryEvent]) -> Decision:
    done = e.workflow_execution_update_completed_event_attributes
    # The answer names the update, the question names the protocol instance: they meet at the event of acceptance.
    accepted = next(a for a in events if a.event_id == done.accepted_event_id)
    key = accepted.workflow_execution_update_accepted_event_attributes.protocol_instance_id
    if done.outcome.HasField("failure"):
        return Decision(("update_answer", key), "", e.event_id, {"failure": failure_of(done.outcome.failure)})
    return Decision(("update_answer", key), "", e.event_id, {"answer": values_of(done.outcome.success.payloads)})


def _end(e: HistoryEvent) -> Decision | None:
    fields: Fields
    match (e.WhichOneof("attributes") or "").removesuffix("_event_attributes"):
        case "workflow_execution_completed":
            name, fields = (
                "complete",
                {"result": values_of(e.workflow_execution_completed_event_attributes.result.payloads)},
            )
        case "workflow_execution_failed":
            name, fields = "fail", {"failure": failure_of(e.workflow_execution_failed_event_attributes.failure)}
        case "workflow_execution_canceled":
            name, fields = "cancel", {}
        case "workflow_execution_continued_as_new":
            again = e.workflow_execution_continued_as_new_event_attributes
            name, fields = "continue_as_new", {"arguments": values_of(again.input.payloads)}
        case _:
            return None
    return Decision(("end", ""), name, e.event_id, fields)
