"""The hash chain of a closed record: what makes a changed, removed, added or re-ordered row show. Pure.

Each row of the timeline carries the hash of the row before it, the first one that of the case's id. `chain_end` is the last
row's hash; `seals` has one hash per other field of the record; `head` is the hash of all seals, and so of everything. All of
it is over the JSON as it is stored, not over today's models: a field that a later version adds breaks no old record.

Whoever can write the record can compute all of this anew. That is why the head is in the workflow's result as well, where
an editor of the journal does not come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from runbooks.base import Model

Row = Mapping[str, Any]
UNSEALED = frozenset({"timeline", "seals", "head"})
"""The rows are in the chain, whose end is sealed; the other two are the seal itself."""


class Finding(Model):
    """What a record says of itself. `why` names the first thing that is wrong."""

    state: Literal["ok", "no_chain", "wrong"]
    why: str = ""


def hashed(value: object) -> str:
    """SHA-256 of a JSON value, 64 hex digits. In full: `base.digest` names things, this withstands somebody who searches."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def origin(case: str) -> str:
    """What the first row follows: rows of another case do not fit here."""
    return hashed({"case": case})


def link(previous: str, row: Row) -> str:
    """The hash of a row, as JSON, that follows `previous`. A `hash` that it has already does not count."""
    return hashed({"previous": previous, "row": {k: v for k, v in row.items() if k != "hash"}})


def seals(record: Mapping[str, Any]) -> dict[str, str]:
    """One hash for each field, so that it can be said which one was changed."""
    return {name: hashed(value) for name, value in record.items() if name not in UNSEALED}


def examine(record: Mapping[str, Any]) -> Finding:
    """Computes everything anew from the stored JSON of a record."""
    rows = record.get("timeline")
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        return _wrong("it has no timeline that could be read")
    chained = ("chain_base", "chain_end", "seals", "head")
    if not any(record.get(name) for name in chained) and not any(r.get("hash") for r in rows):
        return Finding(state="no_chain", why="closed before this version")
    if missing := [name for name in chained if not record.get(name)]:
        return _wrong(f"{' and '.join(missing)} of its chain is gone")
    if wrong := _rows(str(record.get("case")), str(record["chain_base"]), rows, str(record["chain_end"])):
        return _wrong(wrong)
    kept, now = record["seals"], seals(record)
    if not isinstance(kept, dict):
        return _wrong("its seals cannot be read")
    for name in sorted({*kept, *now}):
        if name not in now:
            return _wrong(f"the field {name} was removed")
        if name not in kept:
            return _wrong(f"the field {name} was added")
        if kept[name] != now[name]:
            return _wrong(f"the field {name} was changed")
    return Finding(state="ok") if hashed(kept) == record["head"] else _wrong("its head is not the hash of its seals")


def _wrong(why: str) -> Finding:
    return Finding(state="wrong", why=why)


def _rows(case: str, base: str, rows: Sequence[Row], end: str) -> str:
    """The first row that is wrong, in plain words; nothing when all follow each other from `base` to `end`."""
    first = 0 if base == origin(case) or not rows else rows[0].get("n")
    if not isinstance(first, int) or (base != origin(case) and first == 0):
        return "its rows do not begin with this case"
    previous = base
    for i, row in enumerate(rows):
        if row.get("n") != first + i or link(previous, row) != row.get("hash"):
            return _first_wrong(rows, i, first + i, previous)
        previous = row["hash"]
    if previous == end:
        return ""
    known = [base, *(r["hash"] for r in rows)]
    if end in known:
        return f"{named(rows[known.index(end)])} was added after the last one"
    return f"the last rows were removed: nothing follows {named(rows[-1])}" if rows else "all its rows were removed"


def _first_wrong(rows: Sequence[Row], i: int, n: int, previous: str) -> str:
    """What became of row number `n`, at place `i`: removed, added, re-ordered or changed."""
    row, before = rows[i], rows[:i]
    true = next((later for later in rows[i + 1 :] if later.get("n") == n and _follows(later, previous)), None)
    if true is not None:
        # The right row comes later. What stands in its place is of this chain, or was never in it.
        hashes = {r.get("hash") for r in rows}
        moved = row not in before and any(_follows(row, str(h)) for h in hashes)
        return f"{named(row)} was {'re-ordered: it stands before row ' + str(n) if moved else 'added'}"
    if row in before:
        return f"{named(row)} was added: it stands there twice"
    found = row.get("n")
    if isinstance(found, int) and found > n:
        gone = f"row {n} was" if found == n + 1 else f"rows {n} to {found - 1} were"
        return f"{gone} removed before {named(row)}"
    if found != n:
        return f"{named(row)} was added or re-ordered: row {n} belongs there"
    if i + 1 < len(rows) and _follows(rows[i + 1], str(row.get("hash"))):
        return f"{named(row)} was changed"
    return f"{named(row)} does not follow the row before it: one of the two was changed, or rows between were removed or added"


def _follows(row: Row, previous: str) -> bool:
    return link(previous, row) == row.get("hash")


def named(row: Row) -> str:
    """A row in words. What stands in an edited record is a stranger's text: nothing but plain characters of it."""
    what = "".join(c for c in str(row.get("what"))[:40] if c.isprintable())
    return f"row {str(row.get('n'))[:9]} ({str(row.get('at'))[11:19]} {what})"
