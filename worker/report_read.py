"""Where a report's rows come from: the journal's closed cases, or incident files and what a replay printed about them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from activities.adapters.sql import SqlJournal
from runbooks.did import Did
from runbooks.record import CaseRecord
from runbooks.report_case import counts, row_of_case
from runbooks.report_incident import Replayed, row_of_incident
from runbooks.report_rows import Row
from runbooks.taxonomy import Taxonomy
from worker.errors import OperatorError
from worker.replay_files import incidents_in


class Found(NamedTuple):
    """The rows, and what was left out: reason → how many."""

    rows: list[Row]
    left_out: dict[str, int]


class BadInput(OperatorError):
    """What was given cannot be read: one sentence that names the file and the fix."""


def groups_of(taxonomy: Taxonomy) -> dict[str, str]:
    """Class → group."""
    return {c.id: c.group for c in taxonomy.classes}


class Kept(NamedTuple):
    """A closed case, its row, and people's word on it."""

    record: CaseRecord
    row: Row
    told: list[Did]


async def incidents_of(
    journal: SqlJournal, groups: Mapping[str, str], since: datetime | None, left_out: dict[str, int]
) -> AsyncIterator[Kept]:
    """Every closed case that is an incident of its own, the first written first; the others are counted in `left_out`."""
    async for found in journal.closed():
        why = ""
        try:
            record = CaseRecord.model_validate_json(found.record)
        except ValidationError:
            why = "record of another version"
        else:
            if since is not None and record.opened_at < since:
                why = "opened before --since"
            elif not counts(record):
                why = f"no incident of its own: {(record.outcome or 'not closed').replace('_', ' ')}"
        if why:
            left_out[why] = left_out.get(why, 0) + 1
            continue
        told = [Did.model_validate_json(text) for text in await journal.told(record.case)]
        yield Kept(record, row_of_case(record, told, groups), told)


async def from_journal(journal: SqlJournal, groups: Mapping[str, str], since: datetime | None) -> Found:
    """A row for each closed case that is an incident of its own."""
    left_out: dict[str, int] = {}
    rows = [kept.row async for kept in incidents_of(journal, groups, since, left_out)]
    return Found(rows, left_out)


def from_files(paths: Sequence[Path], groups: Mapping[str, str], since: datetime | None) -> Found:
    """A row for each incident, whether its file, its replay or both are given. BadInput, CatalogError: a file is wrong."""
    told = [path for path in paths if path.suffix == ".json"]
    incidents = {i.incident: i for i in incidents_in([path for path in paths if path not in told])}
    replayed: dict[str, Replayed] = {}
    for path in told:
        for one in _replay(path):
            if one.incident in replayed:
                raise BadInput(f"{path}: the incident {one.incident} was replayed before; give one replay of each")
            replayed[one.incident] = one
    rows, early = [], 0
    for name in dict.fromkeys([*incidents, *replayed]):
        incident = incidents.get(name)
        if since is not None and incident is not None and incident.starts < since:
            early += 1
            continue
        rows.append(row_of_incident(incident, replayed.get(name), groups))
    return Found(rows, {"started before --since": early} if early else {})


def _replay(path: Path) -> list[Replayed]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{path}: it is not JSON ({error}); give what `interlock replay --json` printed") from None
    if not isinstance(data, list):
        raise BadInput(f"{path}: a list of incidents is wanted, as `interlock replay --json` prints it")
    rows = []
    for n, one in enumerate(data):
        try:
            rows.append(Replayed.model_validate(one))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(
                f"{path}: row {n + 1}: {where or 'the row'}: {first['msg'].lower()}; "
                "give what this version's `interlock replay --json` prints"
            ) from None
    return rows
