"""Names the class of a case from what its detections say and what triage has seen. Pure, and says by which rule and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runbooks.detection import CORRELATED, Detection
from runbooks.facts import Known
from runbooks.plan import Classification
from runbooks.taxonomy_evidence import Bound, EvidenceName, Measured, canonical, plain
from runbooks.taxonomy_looked import Looked
from runbooks.taxonomy_rules import UNKNOWN, FailureClass, Rule, Taxonomy

__all__ = ["LEAST_CONFIDENCE", "UNKNOWN", "Bound", "EvidenceName", "FailureClass", "Rule", "Taxonomy", "classify"]

LEAST_CONFIDENCE = 0.6
"""Below this the class is `unknown`: a guess must not move a lever."""
LOOK = "triage's look"
Found = dict[str, tuple[Measured, str]]
"""Evidence by name: the value, and who says so."""


def classify(detections: Sequence[Detection], taxonomy: Taxonomy, looked: Looked | None = None) -> Classification:
    """The class that the best rule names. A tie between classes, low confidence or no rule at all is `unknown`.

    `looked`: what triage has read itself, of the target of these detections.
    """
    firing = [d for d in detections if d.status == "firing"]
    case = _Case(firing, taxonomy, looked)
    matched: list[tuple[Rule, tuple[str, ...]]] = []
    missed: list[str] = []
    for rule in taxonomy.rules:
        for why, found in case.tried(rule):
            if found:
                matched.append((rule, found))
            elif why:
                missed.append(why)
    if not matched:
        names = [d.alert for d in firing if not any(d.alert in rule.alerts for rule in taxonomy.rules)]
        seen = [*missed, *(f"{name}: no rule knows this alert" for name in names), *case.measured()]
        evidence = tuple(dict.fromkeys(seen)) or ("nothing is firing",)
        return Classification(failure_class=UNKNOWN, confidence=0.0, rule="none", evidence=evidence)
    top = max(rule.confidence for rule, _ in matched)
    best = [(rule, found) for rule, found in matched if rule.confidence == top]
    if any(rule.vouched for rule, _ in best):
        # Whose meaning the site has said goes before a number that fits as well.
        best = [(rule, found) for rule, found in best if rule.vouched]
    classes = sorted({rule.failure_class for rule, _ in best})
    found = tuple(dict.fromkeys(line for _, lines in best for line in lines))
    if len(classes) > 1:
        why = f"{' and '.join(classes)} fit equally well"
        return Classification(failure_class=UNKNOWN, confidence=top, rule="tie", evidence=(why, *found))
    if top < LEAST_CONFIDENCE:
        why = f"{classes[0]} is likely, but {top:g} is under the least confidence of {LEAST_CONFIDENCE:g}"
        return Classification(failure_class=UNKNOWN, confidence=top, rule="low-confidence", evidence=(why, *found))
    # Of rules that agree a vouched one is named: it is what lets the class act as policy says, and more evidence for the
    # same class must not lead to less.
    agree = [(rule, lines) for rule, lines in matched if rule.failure_class == classes[0]]
    rule, lines = next(((r, ls) for r, ls in (*best, *agree) if r.vouched), best[0])
    found = tuple(dict.fromkeys((*lines, *found)))
    return Classification(failure_class=classes[0], confidence=top, rule=rule.id, evidence=found)


class _Case:
    """All sources of evidence of one case."""

    def __init__(self, firing: Sequence[Detection], taxonomy: Taxonomy, looked: Looked | None) -> None:
        self.by = [(d, canonical(d.evidence, taxonomy.evidence)) for d in firing]
        self.looked = looked.evidence if looked is not None else {}
        self.newest = self._newest(looked)

    def _newest(self, looked: Looked | None) -> Found:
        """The newest value of each name, whoever measured it. Members of a domain's case are other targets each: no number of
        one of them is the domain's."""
        told = [
            (d.seen_at, name, value, d.alert)
            for d, ev in self.by
            if d.alert != CORRELATED
            for name, value in ev.items()
        ]
        read = looked.readings.items() if looked is not None else ()
        told += [(one.observed_at, name, one.value, LOOK) for name, one in read if isinstance(one, Known)]
        # Of one moment the look's is kept, and of detections the one that comes later by name: always the same.
        told.sort(key=lambda one: (one[0], one[3] == LOOK, one[3]))
        return {name: (value, who) for _, name, value, who in told}

    def tried(self, rule: Rule) -> Iterator[tuple[str, tuple[str, ...]]]:
        """For each way in which it could hold: why it does not, or what was seen that fulfils it."""
        if rule.alerts:
            for detection, evidence in self.by:
                if detection.alert in rule.alerts:
                    lacking = self._lacking(rule, detection, evidence)
                    yield (
                        (f"{detection.alert}: rule {rule.id} does not hold: {lacking}", ())
                        if lacking
                        else (
                            "",
                            (f"alert {detection.alert}", *_labels(rule), *_values(rule, evidence)),
                        )
                    )
        elif self._holds(rule):
            seen = tuple(_line(b, *self.newest[b.name]) for b in rule.evidence)
            yield "", (*_labels(rule), *seen)

    def _lacking(self, rule: Rule, detection: Detection, evidence: dict[str, Measured]) -> str:
        """Why a rule does not hold for this detection, or nothing when it does."""
        for name, wanted in rule.labels.items():
            if detection.labels.get(name) != wanted:
                return f"label {name} is {detection.labels.get(name, 'not given')!r}, not {wanted!r}"
        for bound in rule.evidence:
            if not bound.holds(evidence):
                value = evidence.get(bound.name)
                return f"needs {bound}, " + ("not measured" if value is None else f"measured {plain(value)}")
        for bound in rule.unless:
            if any(bound.holds(ev) for ev in (*(ev for _, ev in self.by), self.looked)):
                return f"blocked by {bound}"
        return ""

    def _holds(self, rule: Rule) -> bool:
        """A rule for any alert: by what was measured, whoever says so."""
        if not self.by or not all(any(d.labels.get(k) == v for d, _ in self.by) for k, v in rule.labels.items()):
            return False
        values = {name: value for name, (value, _) in self.newest.items()}
        return all(b.holds(values) for b in rule.evidence) and not any(b.holds(values) for b in rule.unless)

    def measured(self) -> list[str]:
        """What is known and fulfils no rule, in one line; nothing when nothing is."""
        if not self.newest:
            return []
        values = ", ".join(f"{name} = {plain(value)}" for name, (value, _) in sorted(self.newest.items()))
        return [f"no rule holds for what was measured: {values}"]


def _labels(rule: Rule) -> list[str]:
    return [f"label {name} = {value}" for name, value in rule.labels.items()]


def _values(rule: Rule, evidence: dict[str, Measured]) -> list[str]:
    return [_line(b, evidence[b.name], "") for b in rule.evidence]


def _line(bound: Bound, value: Measured, who: str) -> str:
    return f"{bound.name} = {plain(value)} (rule: {bound}{f'; by {who}' if who else ''})"
