"""Which names stand for secrets. One pattern for all: what is kept, shown or planned must agree on it."""

from __future__ import annotations

import re

# Whole names only: `tokens_per_second` is a measurement.
_NAMES = re.compile(
    r"(.*[_-])?(token|jwt|password|passwd|secret|authorization|api[_-]?key|private[_-]?key|signature|cookie)", re.I
)


def names_a_secret(name: str) -> bool:
    """True when what stands under this name must not be kept."""
    return _NAMES.fullmatch(name) is not None
