"""Are the closed records what their workflows handed over? Read from the journal, computed anew, compared with Temporal.

A record's own chain shows an editor who does not compute it anew; one who does is shown by Temporal (worker/witness.py).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from activities.adapters.sql import ClosedRow, SqlJournal
from runbooks.chain import examine
from worker.witness import Witness, Word

SAME = ("permit_id", "domain", "target_id", "lever", "epoch", "before", "after")
"""What a receipt in the record and the one that `interlock undo` would use must agree on."""
State = Literal["ok", "alone", "no_chain", "wrong"]


class Checked(NamedTuple):
    """One closed case. `alone`: it holds together, and nothing outside of the journal vouches for it."""

    case: str
    state: State
    why: str


async def verify(journal: SqlJournal, name: str | None, witness: Witness) -> AsyncIterator[Checked]:
    """Each closed case of this id or workflow id. For None all of them, and then those that are gone from the journal."""
    cases, runs = set[str](), set[str]()
    async for row in journal.closed(name):
        cases.add(row.case)
        record, wrong = _read(row)
        if wrong:
            yield Checked(row.case, "wrong", wrong)
            continue
        word = await witness.word(record)
        if word.head is not None:
            runs.add(str(record.get("run_id")))
        checked = judged(row.case, record, word)
        if checked.state in ("ok", "alone") and (wrong := await _receipts(journal, record)):
            checked = Checked(row.case, "wrong", wrong)
        yield checked
    if name is None:
        for earlier in sorted(_earlier(cases) - cases):
            yield Checked(earlier, "wrong", "its record is gone: a later round of the same run has one")
        async for run_id, case in witness.ended():
            if run_id not in runs and case not in cases:
                yield Checked(case, "wrong", "its record is gone: by Temporal this case was closed")


def _read(row: ClosedRow) -> tuple[dict[str, Any], str]:
    """The record, or what is wrong with the row around it."""
    try:
        record = json.loads(row.record)
    except (ValueError, RecursionError):
        return {}, "its record is not JSON"
    if not isinstance(record, dict):
        return {}, "its record is not a record"
    for name, says in (("case", row.case), ("workflow_id", row.workflow_id)):
        if record.get(name) != says:
            return {}, f"its row holds the record of another {name}: {str(record.get(name))[:200]}"
    return record, ""


async def _receipts(journal: SqlJournal, record: dict[str, Any]) -> str:
    """The first receipt of the record that is not in the table of receipts like that; nothing when all are."""
    try:
        receipts = [dict(one) for step in record["steps"] for one in step["receipts"]]
        said = [{name: one[name] for name in ("id", *SAME)} for one in receipts]
    except (KeyError, TypeError, ValueError):
        return "its receipts cannot be read"
    for one in said:
        try:
            found = await journal.receipt_by_id(str(one["id"]))
        except ValidationError:
            return f"the receipt {one['id']} cannot be read any more"
        if found is None:
            return f"the receipt {one['id']} is gone from the journal"
        stored = found.model_dump(mode="json")
        for name in SAME:
            if stored[name] != one[name]:
                return f"the receipt {one['id']} has another {name} in the journal than in the record"
    return ""


def judged(case: str, record: dict[str, Any], word: Word) -> Checked:
    """The record by itself, then against Temporal's word."""
    found = examine(record)
    if found.state == "wrong":
        return Checked(case, "wrong", found.why)
    if found.state == "no_chain":
        if word.head:
            return Checked(case, "wrong", f"its chain was taken out: {word.of} has the head {_short(word.head)}")
        return Checked(case, "no_chain", found.why)
    head = str(record["head"])
    told = f"{len(record['timeline'])} row(s), head {_short(head)}"
    if word.head is None:
        return Checked(case, "alone", f"{told}; consistent by itself only: {word.of}")
    if word.head != head:
        had = f"the head {_short(word.head)}" if word.head else "no chain"
        return Checked(case, "wrong", f"it was written anew: its head is {_short(head)}, {word.of} has {had}")
    return Checked(case, "ok", f"{told}, as in {word.of}")


def _short(head: str) -> str:
    return f"{head[:16]}…"


def _earlier(cases: set[str]) -> set[str]:
    """Rounds of a run are numbered: where there is a third, there were two."""
    out = set[str]()
    for case in cases:
        run, _, number = case.rpartition(".")
        out |= {f"{run}.{n}" for n in range(1, int(number))} if number.isdecimal() and len(number) < 4 else set()
    return out
