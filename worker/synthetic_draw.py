"""Chance of the generator: one seeded stream per incident, so that each can be made alone and is always the same."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """`random.Random` with the few shapes that the generator needs."""

    def __init__(self, *seed: int | str) -> None:
        # A text as seed is hashed with SHA-512: the same on every machine and release, unlike hash().
        self._random = random.Random("/".join(str(s) for s in seed))

    def happens(self, chance: float) -> bool:
        """True with this chance."""
        return self._random.random() < chance

    def one(self, things: Sequence[T]) -> T:
        """Any of them."""
        return things[self._random.randrange(len(things))]

    def some(self, things: Sequence[T], count: int) -> list[T]:
        """So many different ones, in any order."""
        return self._random.sample(list(things), count)

    def weighted(self, weights: Mapping[T, float]) -> T:
        """One key, by weight."""
        return self._random.choices(list(weights), list(weights.values()))[0]

    def whole(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return self._random.randint(low, high)

    def between(self, low: float, high: float) -> float:
        """Anything between, in three digits that matter: files should be readable."""
        return float(f"{self._random.uniform(low, high):.3g}")

    def near(self, value: float, sigma: float) -> float:
        """A measurement of `value` with this relative noise, never of the other sign."""
        return value * max(0.0, 1 + self._random.gauss(0.0, sigma))

    def lognormal(self, mu: float, sigma: float) -> float:
        """exp of a normal draw."""
        return self._random.lognormvariate(mu, sigma)

    def by_quantiles(self, p50: float, p90: float) -> float:
        """A lognormal draw with this median and this ninth decile."""
        return self.lognormal(math.log(p50), math.log(p90 / p50) / 1.2816)

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """All of them, in any order."""
        return self._random.sample(list(things), len(things))
