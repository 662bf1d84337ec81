"""Levers and times: what was done how often, and how long it took until it helped. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import Field

from runbooks.base import Model
from runbooks.report_count import Part, Spread, grouped, spread_of
from runbooks.report_rows import PEOPLE, Row


class LeverLine(Model):
    """One lever: how often it was done, what it came to, and how often people did it."""

    lever: str
    incidents: Part = Field(description="Done by Interlock, of those in which it took part.")
    taken_back: int = Field(description="Incidents in which it did not help and was undone.")
    people: int = Field(description="Incidents that people ended with it, as far as told.")


class Times(Model):
    """Of one class or lever, seconds."""

    name: str
    ttd: Spread = Field(description="Fault began → first detection.")
    ttm: Spread = Field(description="Fault began → proven better, by Interlock.")
    people_ttm: Spread = Field(description="Fault began → over by people's hands.")


def lever_lines(rows: Sequence[Row], took_part: Sequence[Row]) -> Iterator[LeverLine]:
    """What Interlock did most first. `took_part`: rows of which it is known what Interlock did."""
    mine = _by_lever(took_part, lambda r: [d.lever for d in r.done])
    theirs = _by_lever(rows, lambda r: r.people_levers)
    for name in sorted(
        {*mine, *theirs}, key=lambda n: (n == PEOPLE, -len(mine.get(n, ())), -len(theirs.get(n, ())), n)
    ):
        done = mine.get(name, [])
        yield LeverLine(
            lever=name,
            incidents=Part(part=len(done), whole=len(took_part)),
            taken_back=sum(any(d.lever == name and d.taken_back for d in r.done) for r in done),
            people=len(theirs.get(name, ())),
        )


def times_of(name: str, rows: Sequence[Row]) -> Times:
    """Of these rows. Where Interlock ended it, people's time is none, and is not counted as unknown."""
    return Times(
        name=name,
        ttd=spread_of(r.detected_after_s for r in rows),
        ttm=spread_of(r.mitigated_after_s for r in rows if r.source != "file"),
        people_ttm=spread_of(r.people_ttm_s for r in rows if r.source != "case" or r.by == "people"),
    )


def times_by_lever(rows: Sequence[Row]) -> Iterator[Times]:
    """Interlock's times under the levers that it did and that stayed, people's under those that they did."""
    mine = _by_lever(rows, lambda r: [d.lever for d in r.done if not d.taken_back])
    theirs = _by_lever(rows, lambda r: r.people_levers)
    for name in dict.fromkeys([*mine, *theirs]):
        ours, people = mine.get(name, []), theirs.get(name, [])
        every = {id(r): r for r in (*ours, *people)}.values()
        yield Times(
            name=name,
            ttd=spread_of(r.detected_after_s for r in every),
            ttm=spread_of(r.mitigated_after_s for r in ours),
            people_ttm=spread_of(r.people_ttm_s for r in people),
        )


def _by_lever(rows: Iterable[Row], levers: Callable[[Row], Iterable[str]]) -> dict[str, list[Row]]:
    """An incident with two levers is under both."""
    named = [(name, row) for row in rows for name in dict.fromkeys(levers(row))]
    return {name: [row for _, row in some] for name, some in grouped(named, lambda pair: pair[0]).items()}
