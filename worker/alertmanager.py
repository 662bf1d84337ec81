"""Alertmanager's webhook, version 4, into Detections. A bad alert never costs the good ones: it comes back beside them.

`observed_at` is the annotation of that name when the rule gives one, else `startsAt` (for a resolved alert `endsAt`):
the only times that the detector itself names. So a repeat hours later is as old as it says, and the gates judge that.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from runbooks.base import digest
from runbooks.detection import Detection, Severity
from runbooks.fleet import Fleet
from worker.intake_http import Problem, first_error
from worker.intake_native import undeliverable
from worker.intake_target import Bad, target_of
from worker.settings import IntakeSettings

_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)
_SEVERITY = {
    "critical": Severity.CRITICAL,
    "page": Severity.CRITICAL,
    "warning": Severity.WARNING,
    "info": Severity.INFO,
}
_UNNAMEABLE = re.compile(r"[\s/|`<>]+")
_EVIDENCE = "evidence_"


@dataclass(frozen=True)
class BadAlert:
    """One alert that could not become a Detection: people are paged with exactly this."""

    alert: str
    field: str
    error: str


@dataclass(frozen=True)
class Group:
    """One webhook call. `truncated` alerts were cut off by Alertmanager (max_alerts) and are not in it."""

    key: str
    good: tuple[Detection, ...]
    bad: tuple[BadAlert, ...]
    truncated: int


def parse(body: Any, now: datetime, settings: IntakeSettings, fleet: Fleet | None) -> Group:
    """The group. Problem 422 only when there is no list of alerts at all, so nothing good could be in it."""
    if not isinstance(body, dict) or not isinstance(body.get("alerts"), list):
        raise Problem(422, "alerts is missing: send Alertmanager's webhook format, version 4", field="alerts")
    good: list[Detection] = []
    bad: list[BadAlert] = []
    for index, alert in enumerate(body["alerts"]):
        try:
            good.append(_detection(alert, now, settings, fleet))
        except Bad as error:
            bad.append(BadAlert(_name_of(alert), f"alerts.{index}.{error.field}", error.error))
    truncated = body.get("truncatedAlerts", 0)
    if not isinstance(truncated, int) or truncated < 0:
        bad.append(BadAlert("(group)", "truncatedAlerts", "truncatedAlerts is not a count: some alerts may be missing"))
        truncated = 0
    return Group(
        str(body.get("groupKey") or digest({"g": body.get("groupLabels")})), tuple(good), tuple(bad), truncated
    )


def _name_of(alert: Any) -> str:
    labels = alert.get("labels") if isinstance(alert, dict) else None
    return str(labels.get("alertname", "(no name)"))[:200] if isinstance(labels, dict) else "(no name)"


def _detection(alert: Any, now: datetime, settings: IntakeSettings, fleet: Fleet | None) -> Detection:
    if not isinstance(alert, dict):
        raise Bad("", "an alert is a JSON object")
    labels, annotations = _texts(alert, "labels"), _texts(alert, "annotations")
    name = labels.get("alertname", "")
    if not name:
        raise Bad("labels.alertname", "labels.alertname is missing: every alert has a name")
    status = alert.get("status")
    if status not in ("firing", "resolved"):
        raise Bad("status", "status must be firing or resolved")
    started = _time(alert.get("startsAt"), "startsAt")
    if "observed_at" in annotations:
        observed = _time(annotations["observed_at"], "annotations.observed_at")
    else:
        observed = _time(alert.get("endsAt"), "endsAt") if status == "resolved" else started
    try:
        detection = Detection(
            alert=_UNNAMEABLE.sub("_", name),  # alert names may have spaces; labels keep the original
            target=target_of(labels, settings, fleet),
            status=status,
            severity=_SEVERITY.get(labels.get("severity", "").lower(), Severity.WARNING),
            labels=labels,
            evidence=_evidence(labels, annotations, settings),
            started_at=started,
            observed_at=observed,
            detector="alertmanager",
            fingerprint=str(alert.get("fingerprint") or ""),
            received_at=now,
        )
    except ValidationError as error:
        raise Bad(*first_error(error, "alert")) from None
    if wrong := undeliverable(detection):
        raise Bad(*wrong)
    return detection


def _texts(alert: Mapping[str, Any], field: str) -> dict[str, str]:
    found = alert.get(field, {})
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise Bad(field, f"{field} must map names to texts")
    return dict(found)


def _time(value: Any, field: str) -> datetime:
    try:
        moment = _TIME.validate_python(value)
    except ValidationError:
        raise Bad(field, f"{field} is not a time with a time zone, for example 2026-01-31T12:00:00Z") from None
    if moment.year <= 1:  # Go's zero time: "not set"
        raise Bad(field, f"{field} is not set")
    return moment.astimezone(UTC)


def _evidence(
    labels: Mapping[str, str], annotations: Mapping[str, str], settings: IntakeSettings
) -> dict[str, float | bool | str]:
    """Numeric labels (an XID, a code) and `evidence_NAME` annotations. What is NaN was not measured: it stays out."""
    about_target = {
        *settings.cluster_labels,
        *settings.service_labels,
        *settings.endpoint_labels,
        *settings.node_labels,
        *settings.gpu_labels,
    }
    found: dict[str, float | bool | str] = {}
    for name, text in labels.items():
        number = _number(text)
        if name not in about_target and isinstance(number, float) and math.isfinite(number):
            found[name] = number
    for name, text in annotations.items():
        if not name.startswith(_EVIDENCE) or name == _EVIDENCE:
            continue
        value = _number(text)
        if isinstance(value, float) and not math.isfinite(value):
            found.pop(name.removeprefix(_EVIDENCE), None)
        else:
            found[name.removeprefix(_EVIDENCE)] = value
    return found


def _number(text: str) -> float | bool | str:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
