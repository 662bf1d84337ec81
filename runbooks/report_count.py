"""How a report counts: a part of a whole beside what is not known, and a distribution by its quantiles. Pure.

Nothing that is not known is counted as a no, or as a zero: it is counted as unknown, beside the figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import quantiles
from typing import TypeVar

from pydantic import Field, computed_field

from runbooks.base import Model, Share
from runbooks.policy_score import ENOUGH

T = TypeVar("T")
_Z95 = 1.959964


class Part(Model):
    """So many of so many. `unknown` ones are in neither number."""

    part: int = Field(ge=0)
    whole: int = Field(ge=0)
    unknown: int = Field(default=0, ge=0)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def share(self) -> float | None:
        """0 to 1; None: of nothing."""
        return self.part / self.whole if self.whole else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval(self) -> tuple[Share, Share] | None:
        """95 % interval of the share, by Wilson (1927): honest for small numbers, too."""
        if not self.whole:
            return None
        n, p = self.whole, self.part / self.whole
        middle = (p + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
        half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def words(self) -> str:
        """`12 of 57 (21 %)`; no share of a handful, and what is unknown is said."""
        if not self.whole:
            return "–" + (f" ({self.unknown} unknown)" if self.unknown else "")
        share = f" ({self.part / self.whole * 100:.0f} %)" if self.whole >= ENOUGH else ""
        return f"{self.part} of {self.whole}{share}" + (f", {self.unknown} unknown" if self.unknown else "")


def part_of(values: Iterable[bool | None]) -> Part:
    """How many are true of those that are known."""
    found = list(values)
    known = [v for v in found if v is not None]
    return Part(part=sum(known), whole=len(known), unknown=len(found) - len(known))


class Spread(Model):
    """A distribution. All None when nothing is known; quantiles are interpolated between the values that there are."""

    count: int = Field(ge=0)
    unknown: int = Field(default=0, ge=0)
    p25: float | None = None
    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    longest: float | None = None


def spread_of(values: Iterable[float | None]) -> Spread:
    """Of seconds, or of whatever the values are. Quantiles as R's type 7."""
    found = list(values)
    known = sorted(v for v in found if v is not None)
    if not known:
        return Spread(count=0, unknown=len(found))
    cuts = quantiles(known, n=20, method="inclusive") if len(known) > 1 else known * 19
    return Spread(
        count=len(known),
        unknown=len(found) - len(known),
        p25=cuts[4],
        p50=cuts[9],
        p75=cuts[14],
        p90=cuts[17],
        longest=known[-1],
    )


def grouped(items: Iterable[T], key: Callable[[T], str]) -> dict[str, list[T]]:
    """The largest group first, then by name."""
    out: dict[str, list[T]] = {}
    for one in items:
        out.setdefault(key(one), []).append(one)
    return dict(sorted(out.items(), key=lambda item: (-len(item[1]), item[0])))


def known_sum(values: Sequence[float | None]) -> tuple[float | None, int]:
    """The sum of what is known, and how many are not. None: nothing is known."""
    known = [v for v in values if v is not None]
    return (sum(known) if known else None), len(values) - len(known)
