"""What design 8 forbids, found in records, receipts and counts. Pure: tests/bench/test_kills_judge.py doctors a journal.

`rows` are the journal's rows of receipts, oldest first, with `receipt` read as JSON.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

NO_ACT = ("intended", "not_standing")
UNSETTLED = ("intended", "standing")
Row = Mapping[str, Any]


def acts(rows: Iterable[Row]) -> list[Row]:
    """The receipts of what was done: an act, its undo and its restore have one each."""
    return [r for r in rows if r["state"] not in NO_ACT]


def lost(
    accepted: Mapping[str, str], records: Iterable[Mapping[str, Any]], resolved: Collection[str], seen: Collection[str]
) -> list[str]:
    """Invariant 1. `accepted`: fingerprint → its case's workflow.

    Found in a closed record; and one that was resolved must have been seen in an open case before that: the resolution
    alone would be no proof that the alert itself was kept.
    """
    found = {d["fingerprint"] for r in records for d in r["detections"]}
    return [f"{f} for {w}" for f, w in accepted.items() if f not in found or (f in resolved and f not in seen)]


def twice(rows: Sequence[Row], taken_in: Mapping[str, int]) -> list[str]:
    """Invariant 3. `taken_in`: pool → changes that Envoy took in. More of them than the journal has is an act that was made
    twice, or never written down."""
    written = _by_pool(rows)
    found = [
        f"{pool}: Envoy took in {taken} changes, the journal has {written[pool]} acts"
        for pool, taken in taken_in.items()
        if taken > written[pool]
    ]
    permits = Counter(r["permit_id"] for r in acts(rows))
    found += [f"permit {permit} has {count} receipts" for permit, count in permits.items() if count > 1]
    settings = [(r["case_id"], r["domain"], str(sorted(r["receipt"]["after"].items()))) for r in acts(rows)]
    return found + [f"{case} did {what} {n} times" for (case, _, what), n in Counter(settings).items() if n > 1]


def never_made(rows: Sequence[Row], taken_in: Mapping[str, int]) -> list[str]:
    """Acts of the journal that Envoy knows nothing of."""
    return [
        f"{pool}: the journal has {count} acts, Envoy took in {taken_in.get(pool, 0)}"
        for pool, count in _by_pool(rows).items()
        if taken_in.get(pool, 0) < count
    ]


def forbidden(rows: Sequence[Row]) -> list[str]:
    """Invariants 2, 5 and 6: a permit for each act, nothing left that nobody ended, epochs that rise."""
    wrong = [f"receipt {r['receipt_id']} has no permit in the journal" for r in rows if not r["permit"]]
    wrong += [f"receipt {r['receipt_id']} of {r['case_id']} is {r['state']}" for r in rows if r["state"] in UNSETTLED]
    epochs: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        epochs[row["domain"]].append(row["receipt"]["epoch"])
    wrong += [f"{d}: epochs do not rise: {found}" for d, found in epochs.items() if found != sorted(set(found))]
    return wrong + _at_once(rows)


def _at_once(rows: Sequence[Row]) -> list[str]:
    """Invariant 6, and 4 with a limit of one endpoint: what one case took out is back before another takes out one."""
    wrong, out = [], dict[str, dict[str, str]]()
    for row in acts(rows):
        standing = out.setdefault(row["domain"], {})
        for key, value in row["receipt"]["after"].items():
            others = {c for k, c in standing.items() if k != key and c != row["case_id"]}
            if value == "out" and others:
                wrong.append(f"{row['case_id']} took out {key} while {', '.join(sorted(others))} had one out")
            if value == "out":
                standing[key] = row["case_id"]
            else:
                standing.pop(key, None)
    return wrong


def _by_pool(rows: Sequence[Row]) -> Counter[str]:
    """Pool → acts on it. A change writes one file, so all its settings are of one pool: `endpoint/POOL/ADDRESS`."""
    return Counter({key.split("/")[1] for key in row["receipt"]["after"]}.pop() for row in acts(rows))
