"""What the Guards had in their books at each moment, made anew from the receipts of closed cases. Pure.

Acts of cases that are still open, and of journals that were not given, are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from runbooks import retelling
from runbooks.change import Receipt
from runbooks.facts import GuardView, StandingReceipt
from runbooks.guard_book import DAY, HOUR, remedy, spent_by
from runbooks.policy import Policy
from runbooks.record import CaseRecord, StepRecord
from runbooks.standing import counted


class _Act(NamedTuple):
    """`until`: when it was taken back, or counted no longer. None: it stands."""

    receipt: Receipt
    domains: tuple[str, ...]
    remedy: str
    first: bool
    until: datetime | None


class _Failed(NamedTuple):
    """A remedy that did not help."""

    domain: str
    lever: str
    remedy: str
    at: datetime


class Ledger:
    """Of all records that were given."""

    def __init__(self, records: Iterable[CaseRecord]) -> None:
        self._acts: list[_Act] = []
        self._failed: list[_Failed] = []
        for record in records:
            for step in record.steps:
                self._take(record, step)
        self._acts.sort(key=lambda a: a.receipt.acted_at)

    def _take(self, record: CaseRecord, step: StepRecord) -> None:
        name = record.classification.failure_class if record.classification is not None else ""
        moves = retelling.acts(record, step)
        mine = [m.receipt for m in moves if m.purpose == "act"]
        back = max((m.receipt.acted_at for m in moves if m.purpose != "act"), default=record.closed_at)
        until = None if step.standing is not None else back
        for n, receipt in enumerate(mine):
            what = remedy(step.lever, receipt.target_id, name)
            domains = receipt.domains or (receipt.domain,)
            self._acts.append(_Act(receipt, domains, what, n == 0, until))
            if n == 0 and step.end in ("undone", "stopped") and back is not None:
                self._failed += [_Failed(d, step.lever, what, back) for d in domains]

    def view(self, domain: str, now: datetime, rule: Policy) -> GuardView:
        """What the Guard of the domain would have said just before `now` under this policy."""
        before = [a for a in self._acts if domain in a.domains and a.receipt.acted_at < now]
        hour = [a for a in before if a.receipt.acted_at > now - HOUR]
        attempts: dict[str, tuple[datetime, ...]] = {}
        for act in before:
            if act.first and act.receipt.acted_at > now - DAY:
                attempts[act.remedy] = (*attempts.get(act.remedy, ()), act.receipt.acted_at)
        return GuardView(
            domain=domain,
            standing=tuple(_standing(before, now)),
            acts_last_hour=len(hour),
            spent=spent_by([a.receipt.blast for a in hour]),
            attempts=attempts,
            ineffective=self._barred(domain, now, rule),
        )

    def _barred(self, domain: str, now: datetime, rule: Policy) -> dict[str, datetime]:
        """For as long as this policy remembers it."""
        out: dict[str, datetime] = {}
        for one in self._failed:
            until = one.at + timedelta(seconds=rule.for_lever(one.lever).ineffective_s)
            if one.domain == domain and one.at < now < until:
                out[one.remedy] = max(until, out.get(one.remedy, until))
        return out


def _standing(acts: Iterable[_Act], now: datetime) -> Iterator[StandingReceipt]:
    for act in acts:
        if act.until is None or act.until > now:
            yield counted(act.receipt.id, act.receipt)
