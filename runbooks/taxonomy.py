"""What can fail, and the rules that name the class of a detection. All of it is data: catalog/taxonomy.yaml."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Share
from runbooks.detection import Detection
from runbooks.plan import Classification

UNKNOWN = "unknown"
LEAST_CONFIDENCE = 0.6
"""Below this the class is `unknown`: a guess must not move a lever."""

Measured = float | bool | str


class FailureClass(Model):
    """One leaf of the taxonomy."""

    id: Name
    group: Literal["engine", "config", "infra", "ops", "dep", "demand", "unknown"]
    definition: str = Field(min_length=1)
    measurements: tuple[str, ...] = Field(
        description="Telltale measurements, by the name that they have at their source."
    )
    levers: tuple[Name, ...] = Field(
        description="First lever first. Names of levers that are not built yet are allowed."
    )
    gates: str = Field(description="What is forbidden, or required before the levers.")
    approval: Literal["A", "A*", "H"] = Field(
        description="Hint. A: auto; A*: auto within budget, else ask; H: always a person."
    )
    approval_note: str = ""
    source: str = Field(description="Where the class comes from (P, S, X, I), and where its levers and gates do.")


class Bound(Model):
    """One measured value and what it must be. Exactly one way to say it; an absent value never fulfils it."""

    name: Name
    above: float | None = Field(default=None, description="The value must be this or more.")
    below: float | None = Field(default=None, description="The value must be this or less.")
    equals: bool | float | str | None = None
    one_of: tuple[float | str, ...] = Field(default=(), description="The value must be one of these.")

    @model_validator(mode="after")
    def _one_way(self) -> Bound:
        if sum(1 for x in (self.above, self.below, self.equals, self.one_of or None) if x is not None) != 1:
            raise ValueError(f"bound on {self.name!r}: give exactly one of above, below, equals, one_of")
        return self

    def __str__(self) -> str:
        """The bound in words."""
        if self.above is not None:
            return f"{self.name} >= {self.above:g}"
        if self.below is not None:
            return f"{self.name} <= {self.below:g}"
        if self.equals is not None:
            return f"{self.name} = {_plain(self.equals)}"
        return f"{self.name} in {', '.join(map(_plain, self.one_of))}"

    def holds(self, evidence: dict[str, Measured]) -> bool:
        """True when the value was measured and is within the bound."""
        if self.name not in evidence:
            return False
        value = evidence[self.name]
        if self.equals is not None:
            return _plain(value) == _plain(self.equals)
        if self.one_of:
            return _plain(value) in map(_plain, self.one_of)
        number = _number(value)
        if number is None:
            return False
        return number >= self.above if self.above is not None else number <= (self.below or 0.0)


class Rule(Model):
    """When a detection is of a class. Every condition that is given must hold; `unless` must not."""

    id: Name
    failure_class: Name = Field(alias="class")
    confidence: Share
    alerts: tuple[Name, ...] = Field(min_length=1, description="Names of alerts, any of them.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels and their exact values.")
    evidence: tuple[Bound, ...] = Field(default=(), description="Measured values that must all hold.")
    unless: tuple[Bound, ...] = Field(
        default=(), description="Any of these, on any detection of the case, blocks the rule."
    )


class Taxonomy(Model):
    """The whole of it."""

    levers: tuple[Name, ...] = Field(description="Every lever that a class may name, built or not.")
    classes: tuple[FailureClass, ...]
    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Taxonomy:
        ids = [c.id for c in self.classes]
        if UNKNOWN not in ids:
            raise ValueError("classes: the class `unknown` is missing")
        for what, names in (("classes", ids), ("rules", [r.id for r in self.rules])):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{what}: the id {name!r} is given twice; rename one")
        for cls in self.classes:
            for lever in cls.levers:
                if lever not in self.levers:
                    raise ValueError(f"classes: {cls.id} names the lever {lever!r}, which is not in `levers`")
        for rule in self.rules:
            if rule.failure_class not in ids:
                raise ValueError(f"rules: {rule.id} names the class {rule.failure_class!r}, which is not in `classes`")
        return self

    def get(self, failure_class: str) -> FailureClass | None:
        """The class of this id, or None."""
        return next((c for c in self.classes if c.id == failure_class), None)


def _plain(value: Measured) -> str:
    """One spelling per value: a detector may send true, 1.0 or "true" for what a rule calls true."""
    if isinstance(value, bool):
        return "true" if value else "false"
    number = _number(value)
    if number is not None:
        return f"{number:g}"
    return str(value).strip().casefold()


def _number(value: Measured) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def classify(detections: Sequence[Detection], taxonomy: Taxonomy) -> Classification:
    """The class that the best rule names. A tie between classes, low confidence or no rule at all is `unknown`."""
    firing = [d for d in detections if d.status == "firing"]
    matched: list[tuple[Rule, Detection]] = []
    missed: list[str] = []
    for rule in taxonomy.rules:
        for detection in firing:
            if detection.alert not in rule.alerts:
                continue
            lacking = _lacking(rule, detection, firing)
            if lacking:
                missed.append(f"{detection.alert}: rule {rule.id} does not hold: {lacking}")
            else:
                matched.append((rule, detection))
    if not matched:
        seen = missed or [f"{d.alert}: no rule knows this alert" for d in firing] or ["nothing is firing"]
        return Classification(failure_class=UNKNOWN, confidence=0.0, rule="none", evidence=tuple(seen))
    top = max(rule.confidence for rule, _ in matched)
    best = [(rule, detection) for rule, detection in matched if rule.confidence == top]
    classes = sorted({rule.failure_class for rule, _ in best})
    found = tuple(dict.fromkeys(line for rule, detection in best for line in _found(rule, detection)))
    if len(classes) > 1:
        why = f"{' and '.join(classes)} fit equally well"
        return Classification(failure_class=UNKNOWN, confidence=top, rule="tie", evidence=(why, *found))
    if top < LEAST_CONFIDENCE:
        why = f"{classes[0]} is likely, but {top:g} is under the least confidence of {LEAST_CONFIDENCE:g}"
        return Classification(failure_class=UNKNOWN, confidence=top, rule="low-confidence", evidence=(why, *found))
    return Classification(failure_class=classes[0], confidence=top, rule=best[0][0].id, evidence=found)


def _lacking(rule: Rule, detection: Detection, firing: Sequence[Detection]) -> str:
    """Why the rule does not hold, or nothing when it does."""
    for name, wanted in rule.labels.items():
        if detection.labels.get(name) != wanted:
            return f"label {name} is {detection.labels.get(name, 'not given')!r}, not {wanted!r}"
    for bound in rule.evidence:
        if not bound.holds(detection.evidence):
            value = detection.evidence.get(bound.name)
            return f"needs {bound}, " + ("not measured" if value is None else f"measured {_plain(value)}")
    for bound in rule.unless:
        if any(bound.holds(d.evidence) for d in firing):
            return f"blocked by {bound}"
    return ""


def _found(rule: Rule, detection: Detection) -> list[str]:
    """What was seen that fulfils the rule."""
    labels = [f"label {name} = {value}" for name, value in rule.labels.items()]
    values = [f"{b.name} = {_plain(detection.evidence[b.name])} (rule: {b})" for b in rule.evidence]
    return [f"alert {detection.alert}", *labels, *values]
