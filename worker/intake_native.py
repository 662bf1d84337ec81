"""Native JSON: one Detection or a list. One wrong field refuses the whole request, since its sender can mend it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from runbooks.detection import Detection
from worker.intake_http import Problem, first_error

LONGEST_ID = 1000
"""Bytes. Temporal refuses a longer workflow id."""


def parse(body: Any, now: datetime) -> list[Detection]:
    """Detections stamped with `received_at` = now. Problem 422 with the field (`1.target.cluster` in a list)."""
    items = body if isinstance(body, list) else [body]
    if not items:
        raise Problem(422, "the list is empty: send at least one Detection", field="body")
    found = []
    for index, item in enumerate(items):
        prefix = f"{index}." if isinstance(body, list) else ""
        if not isinstance(item, dict):
            raise Problem(
                422,
                "a Detection is a JSON object, with alert, target, started_at and observed_at",
                field=prefix or "body",
            )
        try:
            detection = Detection.model_validate({**item, "received_at": now})
        except ValidationError as error:
            field, sentence = first_error(error, "Detection")
            raise Problem(422, sentence, field=prefix + field) from None
        if wrong := undeliverable(detection):
            raise Problem(422, wrong[1], field=prefix + wrong[0])
        found.append(detection)
    return found


def undeliverable(detection: Detection) -> tuple[str, str] | None:
    """Field and sentence when a valid Detection could still never reach a workflow, or would poison its history."""
    identity = detection.workflow_id
    try:
        size = len(identity.encode())
    except UnicodeEncodeError:
        return "target", "target holds half a character (a lone surrogate): send valid Unicode"
    if size > LONGEST_ID:
        return "target", f"target is {size} bytes long as a workflow id, Temporal takes {LONGEST_ID}: shorten its names"
    if not identity.isprintable() or not detection.alert.isprintable():
        return "target", "target and alert must not hold control characters"
    for name, value in detection.evidence.items():
        if isinstance(value, float) and not math.isfinite(value):
            return f"evidence.{name}", f"evidence.{name} is not a finite number: leave out what was not measured"
    return None
