"""Shares by group and class, beside the paper's. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runbooks.base import Model
from runbooks.report_count import Part, grouped
from runbooks.report_paper import GROUPS, OF_ENGINE, Figure
from runbooks.report_rows import Row

ORDER = ("engine", "config", "infra", "ops", "dep", "demand", "unknown")
"""The paper's four groups, then those that the post-mortems add."""


class ShareLine(Model):
    """A group or a class. `of_group` for a class; the paper's figure where it has one, of the same whole."""

    name: str
    group: str
    of_all: Part
    of_group: Part | None = None
    paper: Figure | None = None


def by_group(rows: Sequence[Row]) -> Iterator[ShareLine]:
    """The paper's order; a group of the paper that has none here is there, with 0."""
    found = grouped(rows, lambda r: r.group)
    for name in (*ORDER, *(g for g in found if g not in ORDER)):
        if name in found or name in GROUPS:
            part = Part(part=len(found.get(name, ())), whole=len(rows))
            yield ShareLine(name=name, group=name, of_all=part, paper=GROUPS.get(name))


def by_class(rows: Sequence[Row]) -> Iterator[ShareLine]:
    """By group in the same order, then the largest class first."""
    groups = grouped(rows, lambda r: r.group)
    for group in sorted(groups, key=lambda g: ORDER.index(g) if g in ORDER else len(ORDER)):
        members = groups[group]
        for name, mine in grouped(members, lambda r: r.label).items():
            yield ShareLine(
                name=name,
                group=group,
                of_all=Part(part=len(mine), whole=len(rows)),
                of_group=Part(part=len(mine), whole=len(members)),
                paper=OF_ENGINE.get(name),
            )
