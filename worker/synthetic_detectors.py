"""A site's alert rules, run over what it can measure while nobody does anything. Pure: sights go in, alerts come out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runbooks.detection import Severity
from worker.synthetic_monitoring import Monitoring, Set, Sight, Values
from worker.synthetic_rules import CHANGE_MARKS


@dataclass(frozen=True)
class Fired:
    """One alert as the rule saw it. Times in seconds after the start. `about`: the measure that its rule is about."""

    at: float
    began: float
    alert: str
    target: str
    severity: Severity
    evidence: dict[str, float | bool | str]
    labels: dict[str, str]
    detector: str = "alertmanager"
    about: str = ""
    automatic: bool = True


@dataclass
class Rules:
    """All rules of a site over all its targets. Each fires once until its condition has been false for a scrape."""

    site: Monitoring
    _since: dict[tuple[str, str], float] = field(default_factory=dict)
    _firing: set[tuple[str, str]] = field(default_factory=set)
    _normal: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def learn(self, sight: Sight) -> None:
        """A sight of normal times: thresholds that are multiples of what is normal come from these."""
        by_kind = _by_kind(sight)
        for one in self.site.rules:
            if one.rule.of_normal:
                for target, values in by_kind[one.rule.kind]:
                    if one.rule.measure in values:
                        normal = self._normal.setdefault((one.rule.key, target), [])
                        normal.append(float(values[one.rule.measure]))

    def look(self, now: float, sight: Sight) -> list[Fired]:
        """What fires now and did not before."""
        by_kind, news = _by_kind(sight), list[Fired]()
        for one in self.site.rules:
            seen = set()
            for target, values in by_kind[one.rule.kind]:
                if one.rule.measure not in values:
                    continue  # what is absent neither fires nor goes on
                key = (one.rule.key, target)
                threshold = self._threshold(one, target)
                value = float(values[one.rule.measure])
                if threshold is None or not (value < threshold if one.rule.below else value > threshold):
                    continue
                seen.add(key)
                since = self._since.setdefault(key, now)
                if now - since >= one.for_s and key not in self._firing:
                    self._firing.add(key)
                    news.append(self._fired(one, now, since, target, values))
            for key in [k for k in self._since if k[0] == one.rule.key and k not in seen]:
                del self._since[key]
                self._firing.discard(key)
        return news

    def _threshold(self, one: Set, target: str) -> float | None:
        if not one.rule.of_normal:
            return one.threshold
        normal = self._normal.get((one.rule.key, target))
        return one.threshold * sorted(normal)[len(normal) // 2] if normal else None

    def _fired(self, one: Set, now: float, since: float, target: str, values: Values) -> Fired:
        return Fired(
            at=now,
            began=since,
            alert=one.name,
            target=target,
            severity=Severity(one.rule.severity),
            evidence=picked(values, (one.rule.measure, *(one.rule.also if self.site.rich else ())), self.site.marks),
            labels=labels_of(target),
            about=one.rule.measure,
        )


def picked(values: Values, names: Sequence[str], marks: bool) -> dict[str, float | bool | str]:
    """These of the measured values, and the mark of a recent change."""
    wanted = (*names, *(CHANGE_MARKS if marks else ()))
    return {name: values[name] for name in wanted if name in values}


def _by_kind(sight: Sight) -> Mapping[str, list[tuple[str, Values]]]:
    found: dict[str, list[tuple[str, Values]]] = defaultdict(list)
    for target, values in sight.items():
        found[kind_of(target)].append((target, values))
    return found


def kind_of(target: str) -> str:
    """service, endpoint, node, gpu or cluster."""
    parts = target.split("/")
    return parts[-2] if len(parts) > 1 else "cluster"


def labels_of(target: str) -> dict[str, str]:
    """Labels as an alerting system names a target."""
    parts = target.split("/")
    return {"cluster": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}
