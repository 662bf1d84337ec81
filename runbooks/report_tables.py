"""The report, from its rows: shares, levers, times, refusals, people's time. Pure; how well labels agree is worker's part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pydantic import Field

from runbooks.base import Model, Time
from runbooks.report_chances import Chance, chances
from runbooks.report_count import Part, grouped, known_sum, part_of
from runbooks.report_levers import LeverLine, Times, lever_lines, times_by_lever, times_of
from runbooks.report_paper import AUTOMATIC, HOTFIX, Figure
from runbooks.report_rows import Row
from runbooks.report_shares import ShareLine, by_class, by_group


class GateLine(Model):
    """What one gate refused. Incidents, not checks."""

    gate: str
    incidents: int
    levers: dict[str, int]
    for_good: int
    later: int = Field(description="Allowed at a later look.")
    example: str


class Effort(Model):
    """Time that people spent on a class, seconds. None: known of none."""

    name: str
    incidents: int
    seconds: float | None
    unknown: int


class Report(Model):
    """All of it. Every part says how much of its whole is not known."""

    incidents: int
    sources: dict[str, int]
    first: Time | None
    last: Time | None
    labelled: int = Field(description="Counted under people's label; the others under Interlock's.")
    groups: tuple[ShareLine, ...]
    classes: tuple[ShareLine, ...]
    automatic: Part
    automatic_paper: Figure = AUTOMATIC
    hotfix: Part
    hotfix_paper: Figure = HOTFIX
    false_alarms: Part
    acted_on_false: tuple[str, ...] = Field(description="False alarms in which a lever was done all the same.")
    unattended: Part = Field(
        description="Ended by Interlock without asking anybody; what ended by itself is not counted."
    )
    ended_by: dict[str, int]
    modes: dict[str, int]
    outcomes: dict[str, int]
    levers: tuple[LeverLine, ...]
    all_times: Times
    class_times: tuple[Times, ...]
    lever_times: tuple[Times, ...]
    gates: tuple[GateLine, ...]
    effort: tuple[Effort, ...]
    chances: tuple[Chance, ...]
    failed: dict[str, tuple[str, ...]] = Field(description="Replay: incident → expectations that did not hold.")


def report(rows: Sequence[Row]) -> Report:
    """Of any number of rows, none included."""
    took_part = [r for r in rows if r.source != "file"]
    times = [r.at for r in rows if r.at is not None]
    return Report(
        incidents=len(rows),
        sources=_counted(r.source for r in rows),
        first=min(times, default=None),
        last=max(times, default=None),
        labelled=sum(r.truth is not None for r in rows),
        groups=tuple(by_group(rows)),
        classes=tuple(by_class(rows)),
        automatic=part_of(r.automatic for r in rows),
        hotfix=part_of(r.hotfix for r in rows),
        false_alarms=part_of(r.false_alarm for r in rows),
        acted_on_false=tuple(r.name for r in rows if r.false_alarm and r.done),
        unattended=part_of(
            None if r.by in (None, "interlock") else r.by == "alone" for r in took_part if r.by != "itself"
        ),
        ended_by=_counted(r.by or "not known" for r in took_part),
        modes=_counted(r.mode or "not known" for r in took_part),
        outcomes=_counted(r.outcome or "not known" for r in took_part),
        levers=tuple(lever_lines(rows, took_part)),
        all_times=times_of("all", rows),
        class_times=tuple(times_of(name, mine) for name, mine in grouped(rows, lambda r: r.label).items()),
        lever_times=tuple(times_by_lever(rows)),
        gates=tuple(_gates(rows)),
        effort=tuple(_effort(rows)),
        chances=chances(rows),
        failed={r.name: r.failed for r in rows if r.failed},
    )


def pairs(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """(people's label, Interlock's class) of every row that has both."""
    return [(r.truth, r.found_class) for r in rows if r.truth is not None and r.found_class is not None]


def second_pairs(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """The same of two people."""
    return [(r.truth, r.second) for r in rows if r.truth is not None and r.second is not None]


def _counted(words: Iterable[str]) -> dict[str, int]:
    return {name: len(mine) for name, mine in grouped(words, str).items()}


def _gates(rows: Sequence[Row]) -> Iterator[GateLine]:
    every = [(r.name, one) for r in rows for one in r.refused]
    for gate, mine in sorted(grouped(every, lambda p: p[1].gate).items(), key=lambda i: (-len(i[1]), _number(i[0]))):
        yield GateLine(
            gate=gate,
            incidents=len({name for name, _ in mine}),
            levers=_counted(one.lever for _, one in mine),
            for_good=sum(one.later is False for _, one in mine),
            later=sum(one.later is True for _, one in mine),
            example=mine[0][1].why,
        )


def _number(gate: str) -> tuple[int, str]:
    """G2 before G10, words last."""
    return (int(gate[1:]), "") if gate[1:].isdecimal() else (99, gate)


def _effort(rows: Sequence[Row]) -> Iterator[Effort]:
    """The most minutes first."""
    lines = []
    for name, mine in grouped(rows, lambda r: r.label).items():
        seconds, unknown = known_sum([r.people_s for r in mine])
        lines.append(Effort(name=name, incidents=len(mine), seconds=seconds, unknown=unknown))
    yield from sorted(lines, key=lambda e: (-(e.seconds or 0.0), -e.unknown, e.name))
