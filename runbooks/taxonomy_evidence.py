"""Evidence: what was measured, by names that the catalogue explains, and the bounds that rules set on it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import Field, model_validator

from runbooks.base import Model, Name

Measured = float | bool | str
Evidence = Mapping[str, Measured]


class EvidenceName(Model):
    """One name of the vocabulary. Detectors may send any other; no rule reads it."""

    name: Name
    unit: str = Field(
        min_length=1, description="share (0 to 1), s, min, requests, 1/s, count, ratio, true/false, text."
    )
    says: str = Field(min_length=1, description="What it is a measurement of.")
    aliases: tuple[Name, ...] = Field(default=(), description="Other names under which the same is sent.")


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
            return f"{self.name} = {plain(self.equals)}"
        return f"{self.name} in {', '.join(map(plain, self.one_of))}"

    def holds(self, evidence: Evidence) -> bool:
        """True when the value was measured and is within the bound."""
        if self.name not in evidence:
            return False
        value = evidence[self.name]
        if self.equals is not None:
            return plain(value) == plain(self.equals)
        if self.one_of:
            return plain(value) in map(plain, self.one_of)
        number = _number(value)
        if number is None:
            return False
        return number >= self.above if self.above is not None else number <= (self.below or 0.0)


def canonical(evidence: Evidence, vocabulary: Sequence[EvidenceName]) -> dict[str, Measured]:
    """The same values under the names that rules use. Sent under a name and its alias, the name's own value counts."""
    names = {alias: one.name for one in vocabulary for alias in one.aliases}
    renamed = {names[name]: value for name, value in evidence.items() if name in names}
    return renamed | {name: value for name, value in evidence.items() if name not in names}


def plain(value: Measured) -> str:
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
