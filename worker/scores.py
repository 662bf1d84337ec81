"""Reads the journal for scores: closed cases of a class that only observed, and what people said that they did in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from activities.adapters.sql import SqlJournal
from runbooks.did import Did
from runbooks.markdown import plain
from runbooks.policy_score import LONGEST, Score, compare, compared, counts, score
from runbooks.record import CaseRecord
from worker.errors import OperatorError

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class NoJournal(OperatorError):
    """There is no journal to read: nothing has been written there yet, or the URL is another one's."""


def open_journal(url: str) -> SqlJournal:
    """The journal that is there. NoJournal for a SQLite file that is not: reading must not make one."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None  # SqlJournal says so without showing it
    file = parsed.database if parsed is not None and parsed.get_backend_name() == "sqlite" else None
    if file and not Path(file).is_file():
        raise NoJournal(f"there is no journal at {file}: set INTERLOCK_JOURNAL_URL as the worker has it")
    return SqlJournal(url)


async def score_of(journal: SqlJournal, failure_class: str, since: datetime | None) -> Score:
    """All closed cases of the class, read page by page."""
    records: list[CaseRecord] = []
    told: dict[str, list[Did]] = {}
    unreadable = 0
    async for row in journal.closed():
        try:
            record = _of_class(row.record, failure_class)
        except ValueError:
            unreadable += 1
            continue
        if record is None or not counts(record, failure_class, since):
            continue
        records.append(record)
        told[record.case] = [Did.model_validate_json(text) for text in await journal.told(record.case)]
    return score(failure_class, records, told, since).model_copy(update={"unreadable": unreadable})


def _of_class(text: str, failure_class: str) -> CaseRecord | None:
    """None: of another class, and then it is not read any further. ValueError: it cannot be read."""
    data: Any = json.loads(text)
    if not isinstance(data, dict):
        raise ValueError("no record")
    found = data.get("classification")
    if not isinstance(found, dict) or found.get("failure_class") != failure_class or data.get("mode") != "observe":
        return None
    return CaseRecord.model_validate(data)


async def tell(journal: SqlJournal, name: str, said: dict[str, Any], now: datetime) -> str:
    """Keeps people's word on a closed case, named by its id or, when it had only one, by its workflow id. Returns what it is
    now beside what Interlock would have done.

    OperatorError: no such closed case, or several, or a word that cannot be.
    """
    found = [row async for row in journal.closed(name)]
    if not found:
        raise OperatorError(f"the journal has no closed case {name}: `interlock cases` lists them")
    if len(found) > 1:
        raise OperatorError(f"{name} had {len(found)} cases: name one, the last is {found[-1].case}")
    case = found[0].case
    try:
        did = Did.model_validate({"case": case, **said})
    except ValidationError as error:
        raise OperatorError(_sentence(error)) from None
    if did.at is not None and did.at > now:
        raise OperatorError(f"--at: {did.at:%Y-%m-%d %H:%M:%S} is still to come")
    await journal.did(case, did.model_dump_json())
    return _beside(case, found[0].record, [Did.model_validate_json(text) for text in await journal.told(case)])


def _beside(case: str, text: str, words: list[Did]) -> str:
    try:
        record = CaseRecord.model_validate_json(text)
    except ValidationError:
        return f"kept for {case}; its record is of another version, so no score reads it"
    if record.mode != "observe" or record.target is None:
        return f"kept for {case}; it ran in mode {record.mode or 'unknown'}, and scores read what only observed"
    return f"kept for {case}: {plain(compared(compare(record, words)), LONGEST)}"


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"--{where}: {str(first['msg']).removeprefix('Value error, ')}"


def moment(text: str, now: datetime) -> datetime:
    """`30d`, `12h`, or a time as ISO 8601; without a zone it is UTC. OperatorError: it is neither."""
    number, unit = text[:-1], text[-1:]
    if number.isdigit() and unit in UNITS:
        return now - timedelta(**{UNITS[unit]: int(number)})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise OperatorError(f"{text!r} is no time: write 30d, 12h, or 2026-11-24T18:00") from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
