"""What a closed record says between its lines: who approved, how long it took, which gates stood behind which act. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from runbooks.change import Receipt
from runbooks.people import Attested
from runbooks.plan import Effect
from runbooks.record import CaseRecord, Judged, StepRecord

ENDS = {
    "restored": "back to normal",
    "fixed": "fixed",
    "self_resolved": "resolved by itself",
    "paged": "handed to people",
    "observed": "only observed",
    "aborted": "aborted",
    "adopted": "people own what stands",
    "refused_input": "input refused",
    "forwarded": "forwarded to another case",
    "handed_over": "handed over to the case of its domain",
}
"""An outcome in words; one that is not here reads well enough by its name."""
STEP_ENDS = {
    "": "not ended",
    "mitigated": "it helped",
    "undone": "it did not help, and was taken back",
    "stopped": "it did not help, was taken back, and what was before is bad as well",
    "kept": "nobody could tell whether it helped: it was kept",
    "partly": "a part of it stands, and was no worse than before",
    "uncertain": "it may or may not have been applied",
    "already": "nothing to change",
    "enough": "what was done before sufficed",
    "refused": "not allowed",
    "rejected": "rejected",
    "expired": "nobody approved it in time",
    "observed": "only observed",
    "replan": "cut short by a new plan",
    "resolved": "not needed any more",
    "aborted": "aborted by a person",
}
"""How a step ended, in words."""


class Span(NamedTuple):
    """One of the times that post-mortems ask for. `seconds` is None when it was not measured, and `note` says why."""

    name: str
    seconds: float | None
    note: str


class Act(NamedTuple):
    """One receipt with what belongs to it: what was said, the verdict behind it, the effects after it."""

    receipt: Receipt
    purpose: str
    text: str
    judged: Judged | None
    effects: tuple[Effect, ...]
    measured: tuple[str, ...]


class Stands(NamedTuple):
    """A change that is in force at the end."""

    lever: str
    receipt: Receipt
    note: str


def end_of(record: CaseRecord) -> str:
    """How it ended, in words."""
    name = record.outcome or "still open"
    return ENDS.get(name, name.replace("_", " "))


def step_end(step: StepRecord) -> str:
    """How a step ended, in words."""
    return STEP_ENDS.get(step.end, step.end)


def first_heard(record: CaseRecord) -> datetime:
    """When the first detection was taken in: the zero of all seconds.

    The record keeps the newest word of each alert, so a resolved one has the time of its own arrival; the case cannot have
    been opened before the first.
    """
    return min([record.opened_at, *(d.received_at for d in record.detections if d.received_at is not None)])


def began(record: CaseRecord) -> datetime | None:
    """When the fault began, by the word of a detector and its clock."""
    return min((d.started_at for d in record.detections), default=None)


def spans(record: CaseRecord) -> tuple[Span, ...]:
    """Time to detect, to act, to mitigate, to normal."""
    start, heard = began(record), first_heard(record)
    return (
        _span("Time to detect", start, heard, "fault began → first detection taken in", "no detection was kept"),
        _span("Time to first act", heard, record.first_act_at, "first detection → first act", "nothing was changed"),
        _span("Time to mitigate", start, record.mitigated_at, "fault began → proven better", "it was not mitigated"),
        _span("Time to normal", start, record.restored_at, "fault began → everything back", "nothing was put back"),
    )


def _span(name: str, start: datetime | None, end: datetime | None, note: str, missing: str) -> Span:
    if end is None or start is None:
        return Span(name, None, missing if end is None or start is None else "")
    seconds = (end - start).total_seconds()
    return (
        Span(name, seconds, note) if seconds >= 0 else Span(name, None, "not measured: the detector's clock is ahead")
    )


def who(one: Attested) -> str:
    """A person, and how sure we are of it."""
    return one.who if one.verified else f"{one.who} (unverified)"


def approvers(record: CaseRecord) -> list[str]:
    """Those whose approvals counted, each once."""
    return list(dict.fromkeys(who(d) for d in record.decisions if d.action == "decide" and d.approve and d.accepted))


def acted(record: CaseRecord) -> list[str]:
    """Levers that changed something, in order, each once."""
    return list(dict.fromkeys(s.lever for s in record.steps if s.receipts))


def standing(record: CaseRecord) -> tuple[Stands, ...]:
    """What is in force at the end, the newest last. `note` when it is meant so, or cannot be otherwise."""
    out = []
    for step in record.steps:
        if step.standing is not None:
            out.append(Stands(step.lever, step.standing, ""))
        elif step.receipts and step.back in ("permanent", "irreversible") and step.end not in ("undone", "stopped"):
            note = "meant to stay" if step.back == "permanent" else "it has happened and cannot be taken back"
            out += [Stands(step.lever, receipt, note) for receipt in step.receipts]
    return tuple(out)


def uncertain(record: CaseRecord) -> list[str]:
    """Levers of which nobody knows whether they were applied: it must not read as if nothing stood."""
    return [s.lever for s in record.steps if s.end == "uncertain"]


def lasted(seconds: float) -> str:
    """Seconds, and from two minutes on in hours and minutes as well."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{seconds:.0f} s ({f'{hours} h ' if hours else ''}{minutes} min)"


def acts(record: CaseRecord, step: StepRecord) -> tuple[Act, ...]:
    """Each receipt of a step with its verdict and its effects, in the order of acting.

    The record keeps the three in lists of their own; what belongs together is told by time. An effect belongs to the last
    act before its newest reading.
    """
    found, effects = sorted(step.receipts, key=lambda r: r.acted_at), _dated(step.effects)
    out = []
    for i, receipt in enumerate(found):
        until = found[i + 1].acted_at if i + 1 < len(found) else None
        mine = tuple(e for e, at in effects if (at >= receipt.acted_at or i == 0) and (until is None or at < until))
        judged = _behind(record.verdicts, step.step_id, receipt)
        purpose = judged.purpose if judged is not None else "act"
        text = _said(record, f"{purpose}: {step.lever}", receipt.acted_at)
        out.append(Act(receipt, purpose, text, judged, mine, tuple(m for e in mine for m in _measured(e))))
    return tuple(out)


def _dated(effects: Sequence[Effect]) -> list[tuple[Effect, datetime]]:
    """Effects with the time of their newest reading; one without readings has that of the one before it."""
    out: list[tuple[Effect, datetime]] = []
    for effect in effects:
        newest = max((s.observed_at for s in effect.samples), default=out[-1][1] if out else None)
        if newest is not None:
            out.append((effect, newest))
    return out


def _behind(verdicts: Sequence[Judged], step_id: str, receipt: Receipt) -> Judged | None:
    """The last verdict with a permit before the act."""
    permitted = [j for j in verdicts if j.step == step_id and j.guard.startswith("permit")]
    before = [j for j in permitted if j.at <= receipt.acted_at]
    return before[-1] if before else None


def _said(record: CaseRecord, what: str, at: datetime) -> str:
    """What the timeline says of an act: its row comes when the act has returned."""
    return next((e.text for e in record.timeline if e.what == what and e.at >= at), "")


def _measured(effect: Effect) -> Iterator[str]:
    """Each indicator: first and last value, readings; and what could not be read."""
    for name in dict.fromkeys(s.indicator for s in effect.samples):
        readings = [s for s in effect.samples if s.indicator == name]
        values = [s.value for s in readings if s.value is not None]
        lost = [s.why for s in readings if s.value is None]
        told = f"{values[0]:.4g} → {values[-1]:.4g}" if values else "no value"
        missed = f", {len(lost)} failed ({lost[-1]})" if lost else ""
        yield f"{name} {told} in {len(readings)} reading(s){missed}"
