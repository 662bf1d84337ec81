"""How a closed case waited for people: each request for approval with its answer, and the time in their hands. Pure.

Read from the rows of the timeline, whose words are those of workflows/casefile.py and workflows/asking.py;
tests/worker/test_report_real_case.py holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from runbooks.record import CaseRecord, Event, Judged, StepRecord
from runbooks.report_rows import Answer, Asked

ENDS: dict[str, Answer] = {
    "rejected": "rejected",
    "takeover": "taken_over",
    "abort": "aborted",
    "correlated": "handed_over",
    "classified": "void",
    "closed": "void",
}
"""Row of the timeline → how it answers a request."""
WENT_ON = ("gates: allow", "gates: hold", "gates: deny", "no permit yet", "check failed", "plan again")
"""Rows that follow when enough people have approved."""
UNDECIDED = "Nobody decided on "
"""How the page begins that is sent when nobody has approved in time."""
MORE = " more target(s) of "
"""In a page that only adds to one before it."""


def asked(record: CaseRecord) -> tuple[Asked, ...]:
    """Every request, in order."""
    rows = record.timeline
    return tuple(_one(record, rows[n], rows[n + 1 :]) for n, row in enumerate(rows) if row.what == "approval asked")


def _one(record: CaseRecord, row: Event, after: Sequence[Event]) -> Asked:
    answer, at = _answer(after)
    verdict = _behind(record.verdicts, row.at)
    step = _step(record, verdict.step, row.at) if verdict is not None else None
    did = step is not None and any(r.acted_at >= row.at for r in step.receipts)
    return Asked(
        step=verdict.step if verdict is not None else "",
        lever=step.lever if step is not None else "",
        gates=tuple(g.gate for g in verdict.verdict.gates if g.outcome == "ask") if verdict is not None else (),
        at=row.at,
        answer=answer,
        waited_s=(at - row.at).total_seconds() if at is not None else None,
        acted=answer == "approved" and did,
        helped={"mitigated": True, "undone": False, "stopped": False}.get(step.end) if step and did else None,
    )


def _answer(after: Sequence[Event]) -> tuple[Answer | None, datetime | None]:
    """What ended the wait, and when: the last approval, not what was done thereupon."""
    approved: datetime | None = None
    for row in after:
        if row.what == "approval asked":
            # Asked anew: with approvals by now it had gone on, and comes to its next request.
            return ("approved", approved) if approved is not None else ("void", row.at)
        if row.what == "approved":
            approved = row.at
        elif row.what == "approval taken back":
            approved = None
        elif row.what == "people told" and row.text.startswith(UNDECIDED):
            return "expired", row.at
        elif approved is not None and row.what.startswith(WENT_ON):
            return "approved", approved
        elif row.what in ENDS:
            return ENDS[row.what], row.at
    return None, None


def _behind(verdicts: Sequence[Judged], at: datetime) -> Judged | None:
    """The verdict that asked: the last one that wanted people by then."""
    return next(
        (j for j in reversed(verdicts) if j.at <= at and j.purpose == "act" and j.verdict.outcome == "ask"), None
    )


def _step(record: CaseRecord, step_id: str, at: datetime) -> StepRecord | None:
    """A new plan may have a step of the same id: the first that acted after the request, else the last of them."""
    same = [s for s in record.steps if s.step_id == step_id]
    return next((s for s in same if any(r.acted_at >= at for r in s.receipts)), same[-1] if same else None)


def in_hands(record: CaseRecord, asks: Sequence[Asked]) -> float | None:
    """Seconds, by the clock, in which only people could bring the case on. None: it ended in their hands, and nobody can
    tell for how long."""
    if any(a.waited_s is None for a in asks):
        return None
    end = record.closed_at or max([record.opened_at, *(e.at for e in record.timeline)])
    seconds = sum(a.waited_s or 0.0 for a in asks)
    seconds += sum((until - since).total_seconds() for since, until in _taken_over(record, end))
    if record.outcome not in ("paged", "observed", "adopted", "aborted"):
        return seconds
    # Where Interlock only observed, it was people's from the beginning.
    since = record.opened_at if record.outcome == "observed" else handed(record)
    over = resolved(record) if record.outcome != "adopted" else None  # what stands is theirs, and has no end here
    if since is None or over is None:
        return None
    return seconds + max(0.0, (over - since).total_seconds())


def _taken_over(record: CaseRecord, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    since: datetime | None = None
    for row in record.timeline:
        if row.what == "takeover":
            since = since or row.at
        elif row.what in ("hand_back", "closed") and since is not None:
            yield since, row.at
            since = None
    if since is not None:
        yield since, end


def handed(record: CaseRecord) -> datetime | None:
    """When it became people's for the last time: they were told, or aborted. None: neither is on record."""
    return max((e.at for e in record.timeline if e.what == "abort" or _theirs(e)), default=None)


def _theirs(row: Event) -> bool:
    return row.what == "people told" and not row.text.startswith("Approval asked") and MORE not in row.text


def resolved(record: CaseRecord) -> datetime | None:
    """When the last of its alerts was taken back. None: one of them fires, or the record does not tell."""
    if any(d.status == "firing" for d in record.detections):
        return None
    return max((e.at for e in record.timeline if e.what == "alert resolved"), default=None)
