"""From what rules saw to what arrives: noise, gaps, delays, repeats, flaps, and alerts that mislead. Rates: synthetic_rates.py."""

from __future__ import annotations

from collections.abc import Sequence

from runbooks.detection import Severity
from runbooks.incident import Alert
from worker import synthetic_rates as rates
from worker.synthetic_detectors import Fired, kind_of, labels_of, picked
from worker.synthetic_draw import Draw
from worker.synthetic_monitoring import Monitoring, Set, Sight
from worker.synthetic_story import at

MOST = 12
"""Alerts of one incident at most: those that come first."""
WINDOW_S = 720.0
"""And none later than so long after the first: what rules would see then hangs on what was done meanwhile."""
_SYMPTOMS = ("latency", "queue", "errors", "ttft", "client_errors")
"""Rules about symptoms that many classes share: the ones that mislead."""
_FABRICATED = ("latency", "errors", "replicas", "kv", "queue", "canary", "client_errors", "restarts")
"""Rules that false alarms come from."""


def misleading(draw: Draw, site: Monitoring, first: Fired, services: Sequence[str], sight: Sight) -> Fired | None:
    """An alert that comes before `first` and is about something else. None: this site has nothing that could mislead.

    Half of them are about a healthy neighbour that feels it, half about another symptom of the same pool.
    """
    target = first.target
    if kind_of(target) != "service" or draw.happens(0.5):
        others = [s for s in services if s != target and not first.target.startswith(f"{s}/")]
        if not others:
            return None
        target = draw.one(others)
    able = [
        one for one in site.rules
        if one.rule.key in _SYMPTOMS and one.rule.measure != first.about and one.rule.measure in sight.get(target, {})
    ]  # fmt: skip
    if not able:
        return None
    one = draw.one(able)
    when = max(0.0, first.at - draw.between(10, 90))
    values = sight[target]
    # Its own value is as measured where that is more than the rule's threshold, else a peak just above it.
    peak = max(float(values[one.rule.measure]), _above(one))
    evidence = picked(values, one.rule.also if site.rich else (), site.marks) | {one.rule.measure: peak}
    return Fired(
        when, when, one.name, target, Severity(one.rule.severity), evidence, labels_of(target), about=one.rule.measure
    )


def false_alarm(draw: Draw, site: Monitoring, services: Sequence[str], begins: float, lasts: float) -> Fired | None:
    """An alert that nothing is behind, about any pool, at any time. None: this site has no such rule."""
    able = [one for one in site.rules if one.rule.key in _FABRICATED]
    if not able:
        return None
    one, target = draw.one(able), draw.one(list(services))
    when = draw.between(begins, max(begins + 60, 0.6 * lasts))
    value = one.threshold * (0.9 if one.rule.below else 1.1)
    return Fired(
        when, when - one.for_s if when > one.for_s else 0.0, one.name, target, Severity(one.rule.severity),
        {one.rule.measure: value}, labels_of(target), about=one.rule.measure,
    )  # fmt: skip


def _above(one: Set) -> float:
    return one.threshold * (0.97 if one.rule.below else 1.03)


def baked(
    draw: Draw, site: Monitoring, fired: Sequence[Fired], lasts: float, until: float | None = None
) -> list[Alert]:
    """Alerts as they arrive, in order; with repeats and flaps. `until`: when these are taken back; None: as `clear`."""
    alerts: list[tuple[float, Alert]] = []
    first = min((f.at for f in fired), default=0.0)
    for one in sorted(fired, key=lambda f: f.at):
        arrives = one.at + draw.between(*rates.DELIVERY_S)
        if draw.happens(rates.LATE_ALERT) and one.at > first:
            arrives += draw.between(*rates.LATE_S)
        arrives = round(arrives)
        if arrives > min(lasts - 30, first + WINDOW_S):
            continue
        alert = _alert(draw, site, one, arrives)
        if until is not None:
            alert = alert.model_copy(update={"resolves": at(min(until, lasts))})
        alerts += _sent(draw, one, alert, arrives, lasts)
    alerts.sort(key=lambda pair: pair[0])
    return [alert for _, alert in alerts[:MOST]]


def _sent(draw: Draw, one: Fired, alert: Alert, arrives: float, lasts: float) -> list[tuple[float, Alert]]:
    """The alert as it is sent: once; twice by two copies of the alerting system; or with a flap in between."""
    if not one.automatic or alert.resolves != "clear":
        return [(arrives, alert)]
    if draw.happens(rates.DUPLICATE):
        later = min(lasts, arrives + draw.whole(1, 30))
        return [(arrives, alert), (later, alert.model_copy(update={"at": at(later)}))]
    back = arrives + draw.between(*rates.FLAP_S)
    again = back + draw.between(*rates.FLAP_S)
    if draw.happens(rates.FLAP) and again < lasts - 60:
        taken_back = alert.model_copy(update={"resolves": at(back)})
        return [(arrives, taken_back), (again, alert.model_copy(update={"at": at(again)}))]
    return [(arrives, alert)]


def _alert(draw: Draw, site: Monitoring, one: Fired, arrives: float) -> Alert:
    evidence = {
        name: noisy(draw, value)
        for name, value in one.evidence.items()
        if name == one.about or not draw.happens(rates.EVIDENCE_MISSING)
    }
    if one.automatic and one.detector == "alertmanager" and draw.happens(rates.RULE_VALUE_MISSING):
        evidence = {}
    measured = None
    if one.automatic and draw.happens(rates.STALE_EVIDENCE):
        measured = max(0.0, one.at - draw.between(*rates.STALE_S))
    elif one.automatic and site.skew_s:
        measured = max(0.0, one.at + site.skew_s)
    return Alert(
        at=at(arrives),
        alert=one.alert,
        target=one.target,
        severity=one.severity,
        labels=one.labels,
        evidence=evidence,
        began=at(min(one.began, arrives)),
        measured=None if measured is None else at(measured),
        detector=one.detector,
        automatic=one.automatic,
        reported_by="" if one.automatic else f"{one.detector} desk",
    )


def noisy(draw: Draw, value: float | bool | str) -> float | bool | str:
    """A number with its noise, three digits of it, a share never above one; codes, counts and words as they are."""
    if isinstance(value, (bool, str)) or value == round(value):
        return value
    with_noise = draw.near(value, rates.EVIDENCE_NOISE)
    return float(f"{min(1.0, with_noise) if value < 1 else with_noise:.3g}")


def earliest(fired: Sequence[Fired]) -> Fired:
    """The first; of several at once the gravest."""
    return min(fired, key=lambda f: (f.at, -f.severity.rank))
