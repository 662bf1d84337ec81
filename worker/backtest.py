"""`interlock backtest` over closed cases: every one judged again under two policies, and priced where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from activities.adapters.sql import SqlJournal
from runbooks.fleet import Fleet
from runbooks.policy import Policy
from worker.backtest_case import Pair, decide
from worker.backtest_ledger import Ledger
from worker.backtest_models import Differs, OfJournal
from worker.backtest_price import price, typical
from worker.backtest_settings import differing
from worker.report_read import Kept, incidents_of


class Read(NamedTuple):
    """The cases, and what was left out: reason → how many."""

    cases: list[Kept]
    left_out: dict[str, int]


async def read(journal: SqlJournal, groups: Mapping[str, str], since: datetime | None) -> Read:
    """Every closed case that is an incident of its own. `groups`: class → group."""
    left_out: dict[str, int] = {}
    return Read([kept async for kept in incidents_of(journal, groups, since, left_out)], left_out)


def of_journal(found: Read, a: Policy, b: Policy, fleet: Fleet | None, source: str) -> OfJournal:
    """`fleet` None: shares of a pool are not judged."""
    ledger, waits = Ledger(k.record for k in found.cases), typical(k.row for k in found.cases)
    differ: list[Differs] = []
    for kept in found.cases:
        mine = decide(kept.record, kept.row, Pair(a, b), ledger, fleet)
        theirs = decide(kept.record, kept.row, Pair(b, a), ledger, fleet)
        if mine.same_as(theirs) and mine.does != "cannot_tell":
            continue
        cost = price(kept.row, kept.told, mine, theirs, waits)
        differ.append(
            Differs(
                case=kept.record.case,
                failure_class=kept.row.label,
                target=kept.record.target.id if kept.record.target is not None else "",
                at=kept.record.opened_at,
                a=mine,
                b=theirs,
                **cost._asdict(),
            )
        )
    sure = tuple(d for d in differ if "cannot_tell" not in (d.a.does, d.b.does))
    return OfJournal(
        a=a.ref,
        b=b.ref,
        settings=differing(a, b),
        source=source,
        left_out=found.left_out,
        cases=len(found.cases),
        same=len(found.cases) - len(differ),
        differ=sure,
        cannot_tell=tuple(d for d in differ if d not in sure),
    )
