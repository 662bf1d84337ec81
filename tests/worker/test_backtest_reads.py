"""What the gates read of a policy is what backtest believes that they read: their source is looked at, name by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import runbooks.gates
from runbooks.policy import DomainPolicy, LeverPolicy, Policy, Timing
from worker.backtest_reads import READS

FOLDER = Path(runbooks.gates.__path__[0])
FIELDS = {"limits": LeverPolicy, "domain": DomainPolicy, "timing": Timing, "": Policy}
ONLY_WHEN = {"timing.hold_s"}
"""Says until when a Hold lasts, and never whether there is one."""
ALWAYS_ASKED = {"freezes", "classes", "default", "groups", "ask_on_unknown", "levers", "domain", "timing"}
"""Asked again (G6, G7, G15's freezes), looked at for every gate (`ask_on_unknown`), or a holder of other fields."""
PLANNED = {"limits.largest_increment"}
"""Bounds what is planned: under a smaller one the same move goes in more increments."""
PEOPLES = {"limits.unattended", "limits.ask_over_share"}
"""Read by G6 and G7, which are always asked again."""
GUARDS = {
    *(f"domain.correlate_{n}" for n in ("targets", "within_s", "quiet_s")),
    *(f"domain.{n}" for n in ("endpoints_per_hour", "endpoints_per_hour_in_pool", "nodes_per_hour", "gpus_per_hour")),
    "domain.share_per_hour",
    "limits.ineffective_s",
}
"""Read for the gate by the Guard or its book, and not in the gate's own source."""


def read_by_gates() -> Iterator[str]:
    """Every attribute of the policy, its timing, its limits, in all files of gates."""
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and (place := _place(node.value)) is not None:
                yield f"{place}.{node.attr}" if place else node.attr


def _place(of: ast.expr) -> str | None:
    name = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
    return {"policy": "", "limits": "limits", "timing": "timing", "domain": "domain"}.get(name)


def test_every_field_that_a_gate_reads_is_in_the_table_or_is_asked_again() -> None:
    """A new limit that backtest does not know would be taken for one that changes nothing."""
    read = {f for f in read_by_gates() if _is_field(f)}
    known = {field for fields in READS.values() for field, _ in fields}

    assert read - known - ONLY_WHEN - ALWAYS_ASKED - PLANNED - PEOPLES == set()
    assert known - read - GUARDS == set()
    assert "min_answering" in read  # it does see them


def _is_field(name: str) -> bool:
    place, _, field = name.rpartition(".")
    return field in FIELDS[place].model_fields


def test_every_field_in_the_table_exists() -> None:
    """A field that was renamed would otherwise count as one that no decision reads."""
    for fields in READS.values():
        for name, sign in fields:
            assert _is_field(name), name
            assert sign in (-1, 0, 1)
