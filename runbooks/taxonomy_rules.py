"""What can fail, and the rules that name it. All of it is data: catalog/taxonomy.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Share
from runbooks.taxonomy_evidence import Bound, EvidenceName

UNKNOWN = "unknown"


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


class Rule(Model):
    """When a case is of a class. Every condition that is given must hold; `unless` must not.

    With `alerts` one detection of such a name must carry all of `evidence`: the site vouches for what its alert means.
    Without, whatever the alert is called, the newest value of each name counts, of all that fires and of triage's own look;
    such a rule is no proof, and what follows from it asks people even where policy lets the class act unattended.
    """

    id: Name
    failure_class: Name = Field(alias="class")
    confidence: Share
    alerts: tuple[Name, ...] = Field(default=(), description="Names of alerts, any of them. None: any alert.")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels of one detection, and their exact values.")
    evidence: tuple[Bound, ...] = Field(default=(), description="Measured values that must all hold.")
    unless: tuple[Bound, ...] = Field(default=(), description="Measured values, any of which blocks the rule.")

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if not (self.alerts or self.labels or self.evidence):
            raise ValueError(f"rule {self.id!r} would hold for every alert: give it alerts, labels or evidence")
        return self

    @property
    def vouched(self) -> bool:
        """True when it may let its class act as policy says; else people are asked."""
        return bool(self.alerts)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """All of them."""
        return (*self.evidence, *self.unless)


class Taxonomy(Model):
    """The whole of it."""

    levers: tuple[Name, ...] = Field(description="Every lever that a class may name, built or not.")
    classes: tuple[FailureClass, ...]
    evidence: tuple[EvidenceName, ...] = Field(
        default=(), description="The vocabulary of evidence. With one, a rule may read no other name; without, any."
    )
    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Taxonomy:
        ids = [c.id for c in self.classes]
        if UNKNOWN not in ids:
            raise ValueError("classes: the class `unknown` is missing")
        names = [n for one in self.evidence for n in (one.name, *one.aliases)]
        for what, given in (("classes", ids), ("rules", [r.id for r in self.rules]), ("evidence", names)):
            for name in given:
                if given.count(name) > 1:
                    raise ValueError(f"{what}: the id {name!r} is given twice; rename one")
        for cls in self.classes:
            for lever in cls.levers:
                if lever not in self.levers:
                    raise ValueError(f"classes: {cls.id} names the lever {lever!r}, which is not in `levers`")
        for rule in self.rules:
            if rule.failure_class not in ids:
                raise ValueError(f"rules: {rule.id} names the class {rule.failure_class!r}, which is not in `classes`")
            self._known(rule)
        return self

    def _known(self, rule: Rule) -> None:
        names = {one.name for one in self.evidence}
        aliases = {alias: one.name for one in self.evidence for alias in one.aliases}
        for bound in rule.bounds if names else ():
            if bound.name in aliases:
                wanted = aliases[bound.name]
                raise ValueError(f"rules: {rule.id} reads {bound.name!r}, an alias; write {wanted!r}")
            if bound.name not in names:
                raise ValueError(f"rules: {rule.id} reads {bound.name!r}, which is not in `evidence`; add it there")

    def get(self, failure_class: str) -> FailureClass | None:
        """The class of this id, or None."""
        return next((c for c in self.classes if c.id == failure_class), None)

    def rule(self, rule_id: str) -> Rule | None:
        """The rule of this id, or None."""
        return next((r for r in self.rules if r.id == rule_id), None)

    @property
    def evidence_names(self) -> frozenset[str]:
        """Every name of the vocabulary, aliases too: what a detector may send and some rule or person understands."""
        return frozenset(n for one in self.evidence for n in (one.name, *one.aliases))
