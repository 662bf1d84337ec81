"""Chance that is the same each time: drawn from a seed and from what it is for, not from how often it was asked before."""

from __future__ import annotations

import hashlib


def uniform(seed: int, *parts: object) -> float:
    """A number from 0 to 1 for exactly these parts."""
    drawn = hashlib.blake2b("|".join(map(str, (seed, *parts))).encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") / 2**64


def noisy(value: float, noise: float, seed: int, *parts: object) -> float:
    """The value with relative noise of about this standard deviation, at most three of them. Nothing stays nothing."""
    if noise <= 0 or value == 0:
        return value
    # The sum of three uniform numbers, moved and stretched to mean 0 and deviation 1, is close enough to a normal one.
    drawn = 2 * (sum(uniform(seed, n, *parts) for n in range(3)) - 1.5)
    return value * (1 + noise * max(-3.0, min(3.0, drawn)))
