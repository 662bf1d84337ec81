"""How well two labellings of the same incidents agree. Pure; labels are any words.

Cohen's kappa and its large-sample standard error: J. Cohen, "A coefficient of agreement for nominal scales", Educational
and Psychological Measurement 20 (1960); J. L. Fleiss, J. Cohen, B. S. Everitt, Psychological Bulletin 72 (1969), 323.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from pydantic import Field

from runbooks.base import Model, Share

Pairs = Sequence[tuple[str, str]]
"""(label that holds, label to judge), one per incident."""
_Z95 = 1.959964


class Kappa(Model):
    """Cohen's kappa with its 95 % interval. `value` None: both gave one and the same label to all, so chance explains all."""

    n: int = Field(ge=1)
    observed: Share = Field(description="Share of equal labels: the accuracy, where the first label is the truth.")
    expected: Share = Field(description="Share that chance alone would give with these two distributions of labels.")
    value: float | None
    low: float | None
    high: float | None


class PerClass(Model):
    """One class. None: nothing to divide by."""

    name: str
    truths: int = Field(description="Incidents that are of it.")
    found: int = Field(description="Incidents that were given it.")
    right: int
    precision: Share | None
    recall: Share | None


def accuracy(pairs: Pairs) -> float:
    """Share of equal labels, 0 to 1. ValueError: no pair."""
    if not pairs:
        raise ValueError("there is no labelled incident to compare")
    return sum(1 for a, b in pairs if a == b) / len(pairs)


def kappa(pairs: Pairs) -> Kappa:
    """Cohen's kappa. ValueError: no pair."""
    n, observed = len(pairs), accuracy(pairs)
    rows = {k: v / n for k, v in Counter(a for a, _ in pairs).items()}
    columns = {k: v / n for k, v in Counter(b for _, b in pairs).items()}
    expected = sum(share * columns.get(label, 0.0) for label, share in rows.items())
    if math.isclose(expected, 1.0):
        return Kappa(n=n, observed=observed, expected=1.0, value=None, low=None, high=None)
    value = (observed - expected) / (1 - expected)
    half = _Z95 * math.sqrt(_variance(pairs, rows, columns, observed, expected))
    return Kappa(
        n=n, observed=observed, expected=expected, value=value, low=max(-1.0, value - half), high=min(1.0, value + half)
    )


def _variance(
    pairs: Pairs, rows: dict[str, float], columns: dict[str, float], observed: float, expected: float
) -> float:
    """Fleiss, Cohen and Everitt (1969), equation 13: not the simpler one of 1960, which is too wide."""
    n, rest = len(pairs), 1 - observed
    same = other = 0.0
    for (a, b), count in Counter(pairs).items():
        if a == b:
            same += count / n * ((1 - expected) - (rows[a] + columns[a]) * rest) ** 2
        else:
            other += count / n * (columns.get(a, 0.0) + rows.get(b, 0.0)) ** 2
    last = (observed * expected - 2 * expected + observed) ** 2
    return max(0.0, (same + rest**2 * other - last) / (n * (1 - expected) ** 4))


def confusion(pairs: Pairs) -> dict[tuple[str, str], int]:
    """(label that holds, label to judge) → incidents, the most frequent first, then by name."""
    return dict(sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0])))


def per_class(pairs: Pairs) -> tuple[PerClass, ...]:
    """Precision and recall of every label that occurs on either side, by name."""
    truths, found = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    right = Counter(a for a, b in pairs if a == b)
    return tuple(
        PerClass(
            name=name,
            truths=truths[name],
            found=found[name],
            right=right[name],
            precision=right[name] / found[name] if found[name] else None,
            recall=right[name] / truths[name] if truths[name] else None,
        )
        for name in sorted(truths.keys() | found.keys())
    )
