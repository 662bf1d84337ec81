"""Automation opportunities: what people's minutes went into, by class and lever, and what it would take to save them. Pure.

The ranking is by minutes. It is no advice by itself: beside it stands how often people rejected, and how often what they
approved did not help.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from runbooks.base import Model
from runbooks.levers import LEVERS
from runbooks.policy_score import ENOUGH
from runbooks.report_count import known_sum
from runbooks.report_rows import PEOPLE, Asked, Missing, Row

Needs = Literal[
    "auto",
    "share",
    "unattended",
    "person",
    "observe",
    "gate",
    "class",
    "step",
    "no_lever",
    "untold",
    "replayed",
    "replay",
]
WORDS: dict[Needs, str] = {
    "auto": "mode auto",
    "share": "mode auto, and ask_over_share above such a move",
    "unattended": "mode auto, and levers.{lever}.unattended",
    "person": "no mode: {gates} wants a person",
    "observe": "mode ask, it only observed; then auto",
    "gate": "no mode: {gates} refused it",
    "class": "the right class: it was taken for {gates}",
    "step": "not tried: its runbook has no {lever}, or did not come to it",
    "no_lever": "no lever of Interlock does what people did",
    "untold": "not known: nobody told what people did",
    "replayed": "nothing more: Interlock did it in the replay",
    "replay": "not known: not replayed",
}
BY_MODE: tuple[Needs, ...] = ("auto", "share", "unattended")
"""What a change of the policy would save."""


class Chance(Model):
    """One class and lever. Counts are requests for approval; `incidents` are incidents."""

    failure_class: str
    lever: str
    needs: Needs
    words: str = Field(description="What it would take, in a phrase.")
    modes: tuple[str, ...] = Field(description="Modes in which it happened.")
    incidents: int
    asked: int
    approved: int = Field(description="And done as proposed.")
    rejected: int
    expired: int
    helped: int
    not_helped: int
    seconds: float | None = Field(description="People's time in it; None: known of none.")
    unknown: int = Field(description="Incidents whose time is not known.")

    @property
    def verdict(self) -> str:
        """Whether there is enough to judge by. Empty where a mode would change nothing."""
        if self.needs not in BY_MODE:
            return ""
        if self.rejected or self.not_helped:
            return "not yet: people rejected it, or it did not help"
        return "enough to look at it" if self.approved >= ENOUGH else f"too few: fewer than {ENOUGH} approved"


class _Piece(NamedTuple):
    row: Row
    lever: str
    needs: Needs
    gates: tuple[str, ...]
    seconds: float | None
    ask: Asked | None


def chances(rows: Sequence[Row]) -> tuple[Chance, ...]:
    """The most minutes first."""
    found: dict[tuple[str, str, str, tuple[str, ...]], list[_Piece]] = {}
    for row in rows:
        for one in _pieces(row):
            found.setdefault((one.row.label, one.lever, one.needs, one.gates), []).append(one)
    lines = [_line(mine) for mine in found.values()]
    return tuple(sorted(lines, key=lambda c: (-(c.seconds or 0.0), -c.incidents, c.failure_class, c.lever)))


def _pieces(row: Row) -> Iterator[_Piece]:
    if row.source == "file":
        for lever in row.people_levers or ("",):
            yield _Piece(row, lever, "replay", (), _split(row.people_s, row.people_levers), None)
        return
    if row.source == "replay":
        yield from _replayed(row)
        return
    waited = [a.waited_s for a in row.asked]
    known = row.people_s is not None and None not in waited
    rest = (row.people_s or 0.0) - sum(w or 0.0 for w in waited) if known else None
    for ask in row.asked:
        last = ask is row.asked[-1] and ask.answer == "expired"  # what came after it was for want of an answer
        seconds = ask.waited_s if not last or rest is None else (ask.waited_s or 0.0) + rest
        gates = () if _needs(ask, row) in BY_MODE else tuple(g for g in ask.gates if g != "G7")
        yield _Piece(row, ask.lever, _needs(ask, row), gates, seconds, ask)
    for one in row.missing:
        yield _Piece(row, one.lever, _lacks(one), _behind(one), rest, None)


def _replayed(row: Row) -> Iterator[_Piece]:
    """People's time of the file, under what the replay made of it."""
    if row.by in ("interlock", "alone", "approved"):
        done = tuple(dict.fromkeys(d.lever for d in row.done))
        for lever in done:
            yield _Piece(row, lever, "replayed", (), _split(row.people_s, done), None)
        return
    for one in row.missing:
        yield _Piece(row, one.lever, _lacks(one), _behind(one), _split(row.people_s, row.missing), None)


def _behind(one: Missing) -> tuple[str, ...]:
    """What stood in the way: gates, or a wrong class."""
    return (one.taken_for,) if one.why == "other_class" else one.gates


def _split(seconds: float | None, among: Sequence[object]) -> float | None:
    """Equal parts: minutes of one incident are not counted twice."""
    return None if seconds is None else seconds / max(1, len(among))


def _needs(ask: Asked, row: Row) -> Needs:
    wants = set(ask.gates)
    if wants - {"G6", "G7"}:
        return "person"
    if "G6" in wants:
        return "unattended"
    return "share" if row.mode == "auto" else "auto"


def _lacks(one: Missing) -> Needs:
    if one.why == "observe":
        return "observe"
    if one.why == "refused":
        return "gate"
    if one.why == "other_class":
        return "class"
    return "no_lever" if one.lever == PEOPLE else "step" if one.lever in LEVERS else "untold"


def _line(mine: Sequence[_Piece]) -> Chance:
    first, asks = mine[0], [p.ask for p in mine if p.ask is not None]
    seconds, _ = known_sum([p.seconds for p in mine])
    return Chance(
        failure_class=first.row.label,
        lever=first.lever,
        needs=first.needs,
        words=WORDS[first.needs].format(lever=first.lever or "…", gates=", ".join(first.gates) or "a gate"),
        modes=tuple(sorted({p.row.mode for p in mine if p.row.mode is not None})),
        incidents=len({p.row.name for p in mine}),
        asked=len(asks),
        approved=sum(a.acted for a in asks),
        rejected=sum(a.answer == "rejected" for a in asks),
        expired=sum(a.answer == "expired" for a in asks),
        helped=sum(a.helped is True for a in asks),
        not_helped=sum(a.helped is False for a in asks),
        seconds=seconds,
        unknown=len({p.row.name for p in mine if p.seconds is None}),
    )
