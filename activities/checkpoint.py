"""Named points inside an act: crash tests end the process there."""

from __future__ import annotations

from collections.abc import Callable

Checkpoint = Callable[[str], None]
"""Called with the name of a point inside an act."""


def no_checkpoint(_: str) -> None:
    """Crash tests put a killer here; in production nothing happens."""
