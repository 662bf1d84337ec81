"""A closed case as a row of the report. Pure: the record, people's word on it, and the taxonomy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from runbooks import retelling
from runbooks.detection import Detection
from runbooks.did import Did, in_force
from runbooks.people import Attested
from runbooks.policy_score import compare
from runbooks.record import CaseRecord, Judged, StepRecord
from runbooks.report_rows import PEOPLE, Asked, By, Done, Missing, Mode, Refused, Row
from runbooks.report_waiting import asked, in_hands, resolved
from runbooks.taxonomy import UNKNOWN

NOT_COUNTED = ("refused_input", "forwarded", "handed_over")
"""Outcomes of what was no incident of its own: it is counted in another case, or was never read."""
MODES: Mapping[str, Mode] = {"observe": "observe", "ask": "ask", "auto": "auto"}
BY_PEOPLE = ("paged", "observed", "adopted", "aborted")


def counts(record: CaseRecord) -> bool:
    """True for a closed case that is an incident of its own."""
    return record.closed_at is not None and record.outcome is not None and record.outcome not in NOT_COUNTED


def row_of_case(record: CaseRecord, words: Sequence[Did], groups: Mapping[str, str]) -> Row:
    """`words`: what people said that they did, by `interlock cases did`. `groups`: class → group."""
    spans = {s.name: s.seconds for s in retelling.spans(record)}
    found = record.classification.failure_class if record.classification is not None else None
    asks, told, done = asked(record), in_force(words), tuple(_done(record))
    did = tuple(d.lever if d.lever != "other" else PEOPLE for d in told if d.lever != "none")
    return Row(
        name=record.case,
        source="case",
        at=retelling.began(record) or record.opened_at,
        found_class=found,
        truth=None,
        group=groups.get(found or UNKNOWN, UNKNOWN),
        automatic=_automatic(record),
        detected_after_s=spans["Time to detect"],
        mitigated_after_s=spans["Time to mitigate"],
        people_ttm_s=_by_hand(record),
        done=done,
        people_levers=did,
        asked=asks,
        missing=tuple(_missing(record, told, asks, did)),
        refused=tuple(_refused(record)),
        outcome=record.outcome,
        by=_by(record, asks),
        mode=MODES.get(record.mode),
        people_s=in_hands(record, asks),
        hotfix=_hotfix(record, done, told),
        false_alarm=_false_alarm(record, done),
    )


def _done(record: CaseRecord) -> Iterator[Done]:
    yield from (Done(lever=s.lever, end=s.end) for s in record.steps if s.receipts)


def _automatic(record: CaseRecord) -> bool | None:
    """Of whoever spoke first. The record keeps the newest word of each alert, so the first row of the timeline tells."""
    kinds = {d.automatic for d in record.detections}
    if len(kinds) < 2:
        return next(iter(kinds), None)
    first = next((e.text for e in record.timeline if e.what == "alert firing"), "")
    named = {d.automatic for d in record.detections if first.startswith(f"{d.alert} by {d.detector}")}
    return named.pop() if len(named) == 1 else None


def _by_hand(record: CaseRecord) -> float | None:
    """Fault began → its alerts taken back, where people had it."""
    began, over = retelling.began(record), resolved(record)
    if record.outcome not in ("paged", "observed") or began is None or over is None:
        return None
    seconds = (over - began).total_seconds()
    return seconds if seconds >= 0 else None


def _by(record: CaseRecord, asks: Sequence[Asked]) -> By | None:
    if record.outcome == "self_resolved":
        return "itself"
    if record.mitigated_at is not None and record.outcome not in BY_PEOPLE:
        return "approved" if any(a.acted for a in asks) else "alone"
    return "people" if record.outcome in BY_PEOPLE else None


def _hotfix(record: CaseRecord, done: Sequence[Done], told: Sequence[Did]) -> bool | None:
    """Whether a new version or setting ended it. Not known for what people ended without saying how."""
    if any(d.lever == "rollout_hotfix" and not d.taken_back for d in done):
        return True
    if told:
        return any(d.lever == "rollout_hotfix" for d in told)
    return False if record.outcome in ("restored", "fixed", "self_resolved") else None


def _false_alarm(record: CaseRecord, done: Sequence[Done]) -> bool | None:
    """True: whenever the gates looked, the fault was not there (G16), nothing was done, and its alerts were taken back.
    Not known where nobody ever looked."""
    looked = [g for j in record.verdicts for g in j.verdict.gates if g.gate == "G16" and j.purpose == "act"]
    if done or any(g.outcome == "allow" for g in looked):
        return False
    seen = [g for g in looked if not g.unknown]
    return True if seen and not _fires(record.detections) else None


def _fires(detections: Sequence[Detection]) -> bool:
    return any(d.status == "firing" for d in detections)


def _refused(record: CaseRecord) -> Iterator[Refused]:
    """Each lever and gate once: a check that is repeated for a minute is one refusal."""
    told: set[tuple[str, str]] = set()
    for step in record.steps:
        judged = [j for j in record.verdicts if j.step == step.step_id and j.purpose == "act"]
        later = bool(step.receipts) or step.end == "observed"
        for one in judged:
            for gate, why in _against(one, step):
                if (step.lever, gate) not in told:
                    told.add((step.lever, gate))
                    yield Refused(lever=step.lever, gate=gate, why=why, later=later)
        if step.end == "rejected" and (step.lever, "people") not in told:
            told.add((step.lever, "people"))
            why = next((d.reason for d in record.decisions if _rejects(d)), "")
            yield Refused(lever=step.lever, gate="people", why=why, later=False)


def _rejects(one: Attested) -> bool:
    return one.accepted and one.action == "decide" and not one.approve and not one.withdraw


def _against(one: Judged, step: StepRecord) -> Iterator[tuple[str, str]]:
    """Gates that denied; gates that held a step until it was given up; the Guard when no gate was against it."""
    for gate in one.verdict.gates:
        if gate.outcome == "deny" or (gate.outcome == "hold" and step.end == "refused"):
            yield gate.gate, gate.reason
    word, _, why = one.guard.partition(": ")
    if word in ("refused", "correlated", "halted") and one.verdict.outcome == "allow" and not step.receipts:
        yield "guard", why


def _missing(record: CaseRecord, told: Sequence[Did], asks: Sequence[Asked], did: Sequence[str]) -> Iterator[Missing]:
    """What people had to do, and why Interlock did not."""
    if record.outcome == "observed" and record.target is not None:
        would = compare(record, told).would
        if would.acts:
            yield Missing(lever=would.lever, why="observe")
            return
    if record.outcome not in ("paged", "observed"):
        return
    if any(a.answer in ("rejected", "expired") for a in asks):
        return  # counted with the requests
    refusals = [r for r in _refused(record) if r.later is False]
    lever = did[0] if did else refusals[0].lever if refusals else ""
    gates = tuple(r.gate for r in refusals if r.lever == lever)
    yield Missing(lever=lever, why="refused" if gates else "no_step", gates=gates)
