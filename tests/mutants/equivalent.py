"""Mutants that are no different, each with the reason. An entry that no longer names a mutant is an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.mutants.mutate import Mutant

FILE = Path(__file__).with_name("equivalent.yaml")


def reasons() -> dict[str, str]:
    """Key of the mutant → why nothing differs."""
    found = yaml.safe_load(FILE.read_text(encoding="utf-8")) or {}
    return {str(k): str(v) for group in found.values() for k, v in group.items()}


def stale(mutants: Sequence[Mutant]) -> list[str]:
    """Entries that name no mutant, or give no reason."""
    keys = {m.key for m in mutants}
    return [k for k, why in reasons().items() if k not in keys or len(why.split()) < 4]
