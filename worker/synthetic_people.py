"""Reports by people: free words, sometimes the kind of symptom, sometimes what the dashboards show."""

from __future__ import annotations

from runbooks.detection import Severity
from worker import synthetic_rates as rates
from worker.synthetic_detectors import Fired
from worker.synthetic_draw import Draw
from worker.synthetic_monitoring import Sight
from worker.synthetic_story import Story

_WHO = ("support", "on-call", "customer", "product", "sre")
_FIGURES = {
    "error_rate": 0.01,
    "timeout_share": 0.01,
    "client_error_share": 0.02,
    "http_429_share": 0.02,
    "queue": 5.0,
    "kv_used": 0.8,
    "queue_spread": 2.0,
    "unschedulable": 0.5,
    "restarts_10m": 0.5,
    "connect_fail_share": 0.02,
    "weight_changes_10m": 2.5,
    "arrival_of_normal": 1.3,
}
"""What somebody who looks at dashboards writes down when it is above this."""
_LOW = {"canary_pass": 0.95, "replicas_serving": 0.9}
"""And when it is below this."""


def noticed(draw: Draw, begins: float, lasts: float) -> float:
    """When somebody says something: minutes after it began, never in the last quarter of the play."""
    return min(begins + 60 * draw.by_quantiles(6, 18), begins + 0.5 * (lasts - begins))


def report(draw: Draw, story: Story, service: str, now: float, sight: Sight, begins: float) -> Fired:
    """One report about the pool: people see a model fail, not a node."""
    evidence: dict[str, float | bool | str] = {"words": draw.one(story.said)}
    values = sight.get(service, {})
    if draw.happens(rates.REPORT_HAS_FIGURES):
        found = {n: v for n, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        evidence |= {n: found[n] for n, most in _FIGURES.items() if n in found and found[n] > most}
        evidence |= {n: found[n] for n, least in _LOW.items() if n in found and found[n] < least}
        evidence |= {n: values[n] for n in ("minutes_since_change", "change") if n in values}
    return Fired(
        at=now,
        began=begins,
        alert="HumanReport",
        target=service,
        severity=Severity.CRITICAL if draw.happens(0.5) else Severity.WARNING,
        evidence=evidence,
        labels={"symptom": story.symptom} if draw.happens(rates.REPORT_NAMES_SYMPTOM) else {},
        detector=draw.one(_WHO),
        about="words",
        automatic=False,
    )
