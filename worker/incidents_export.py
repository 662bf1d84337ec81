"""A closed case as an incident file of kind `case`: to be corrected by a person, and then replayed.

What a record does not know is guessed plainly and named under `inferred`: loads, GPUs of a replica, and above all the fault.
People's names are left out; they are called person-1, person-2, …
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import yaml

from runbooks.detection import Detection, Target
from runbooks.fleet import Fleet
from runbooks.incident import Incident
from runbooks.incident_time import span_text
from runbooks.record import CaseRecord
from worker.incidents_guess import guess
from worker.incidents_names import Renamed

BEFORE, AFTER = timedelta(minutes=2), timedelta(minutes=20)
INFERRED = (
    "The fault is a guess from the class that the case was closed as. Loads (half of what the pools serve), GPUs of a replica, nodes "
    "where the inventory has none, cold starts and the rest of each default are guesses too. Replicas and nodes are numbered anew, the "
    "sick one first, and people are person-1, person-2. The truth is what the case was closed as: correct it."
)


class NotExportable(Exception):
    """The case has nothing to play: the text says why."""


def exported(record: CaseRecord, fleet: Fleet) -> Incident:
    """The record as an incident. NotExportable: it has no detection, no class, no end, or is not about this fleet."""
    about, seen = record.target, record.detections
    if about is None or not seen or record.classification is None or record.outcome is None:
        raise NotExportable("this case has no detection, class and outcome, so there is nothing to play")
    if not fleet.has(about):
        raise NotExportable(f"{about.id} is not in the fleet file: name the fleet that the case was about")
    closed = record.closed_at or record.opened_at
    starts = min(record.opened_at, *(min(d.started_at, _heard(record, d)) for d in seen)) - BEFORE
    starts = starts.replace(second=0, microsecond=0)
    moment = _Clock(starts)
    names, people = Renamed(fleet, about), _People()
    spec = names.fleet()
    failure_class = record.classification.failure_class
    done = tuple(dict.fromkeys(s.lever for s in record.steps if s.receipts))
    data: dict[str, Any] = {
        "incident": _name(record.case),
        "title": f"{failure_class} on {names.target(about)}, {record.outcome}"[:200],
        "kind": "case",
        "sources": [
            {
                "says": f"Closed as {record.outcome}: {record.why or 'no reason is on the record'}"[:1000],
                "name": f"Interlock's record of case {record.case}"[:300],
                "mark": "R",
            }
        ],
        "inferred": INFERRED,
        "starts": starts.isoformat().replace("+00:00", "Z"),
        "lasts": span_text((closed - starts + AFTER).total_seconds() // 1),
        "fleet": spec.model_dump(mode="json", exclude_defaults=True),
        "timeline": {
            "faults": [
                {
                    **guess(failure_class, Target.of(names.target(about)), spec, seen[0].evidence),
                    "at": moment(min(d.started_at for d in seen)),
                    **_ends(record, moment),
                }
            ],
            "alerts": list(_alerts(record, names, moment)),
            "people": list(_said(record, names.target(about), people, moment)),
            "answers": _answers(record, people),
        },
        "site": {"group": people.names or ["person-1", "person-2"]},
        "truth": {
            "failure_class": failure_class,
            "group": failure_class.partition(".")[0],
            "found": "automatic" if seen[0].automatic else "people",
            "levers": list(done),
            "detected": moment(record.opened_at),
            **({"mitigated": moment(record.mitigated_at)} if record.mitigated_at else {}),
            "ended": moment(closed),
            "words": "What the case was closed as (our inference, mark I). A person corrects it.",
        },
        "expect": {
            "classes": [failure_class],
            "required" if record.outcome in ("restored", "fixed") else "allowed": list(done),
            "outcome": list(dict.fromkeys([record.outcome, "paged"])),
            "because": "What the case did. Whether that was right, and what had to be refused, is for a person to say.",
        },
    }
    return Incident.model_validate(data)


def as_yaml(incident: Incident) -> str:
    """The file: what is a default is left out."""
    data = incident.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


class _Clock:
    """Moments as spans after the start."""

    def __init__(self, starts: datetime) -> None:
        self._starts = starts

    def __call__(self, at: datetime) -> str:
        return span_text(round(max(0.0, (at - self._starts).total_seconds()), 1))


class _People:
    """Pseudonyms, by who spoke first."""

    def __init__(self) -> None:
        self._by: dict[str, str] = {}

    def __call__(self, who: str) -> str:
        return self._by.setdefault(who, f"person-{len(self._by) + 1}")

    @property
    def names(self) -> list[str]:
        return list(self._by.values())


def _name(case: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", case).strip("-")[:120]


def _ends(record: CaseRecord, moment: _Clock) -> dict[str, str]:
    """When the fault went away by itself, as far as the record shows it; not where a lasting change mended it."""
    if record.outcome == "fixed":
        return {}
    told = [d.observed_at for d in record.detections if d.status == "resolved"]
    ends = max(told, default=record.restored_at if record.outcome == "restored" else None)
    begun = min(d.started_at for d in record.detections)
    return {"ends": moment(ends)} if ends is not None and moment(ends) != moment(begun) else {}


def _alerts(record: CaseRecord, names: Renamed, moment: _Clock) -> Iterator[dict[str, Any]]:
    """One for each fingerprint: as it fired first, taken back when it was. A case keeps the last word of each alone."""
    by: dict[str, list[Detection]] = {}
    for one in record.detections:
        by.setdefault(one.key, []).append(one)
    for said in by.values():
        one = next((d for d in said if d.status == "firing"), said[0])
        arrived = _heard(record, one)
        back = max((d.observed_at for d in said if d.status == "resolved"), default=None)
        yield {
            "at": moment(arrived),
            "alert": one.alert,
            "target": names.target(one.target),
            "severity": one.severity.value,
            "labels": one.labels,
            "evidence": one.evidence,
            "began": moment(min(one.started_at, arrived)),
            "measured": moment(min(one.observed_at, arrived)),
            "detector": one.detector,
            "automatic": one.automatic,
            "reported_by": "somebody" if one.reported_by else "",
            **({"resolves": moment(back)} if back is not None and moment(back) != moment(arrived) else {}),
        }


def _heard(record: CaseRecord, one: Detection) -> datetime:
    """When the case heard that it fires."""
    if one.status == "firing":
        return one.received_at or one.observed_at
    told = (e.at for e in record.timeline if e.what == "alert firing" and e.text.split(" ")[0] == one.alert)
    return next(told, record.opened_at)


def _said(record: CaseRecord, about: str, people: _People, moment: _Clock) -> Iterator[dict[str, Any]]:
    """What counted."""
    for one in record.decisions:
        if one.accepted and not one.withdraw:
            says = ("approve" if one.approve else "reject") if one.action == "decide" else one.action
            reason = one.reason or "as on the record"
            yield {"at": moment(one.at), "who": people(one.who), "says": says, "about": about, "reason": reason}


def _answers(record: CaseRecord, people: _People) -> dict[str, Any]:
    """For questions that come at another time than on the record: the same answer after the same time."""
    first = next((d for d in record.decisions if d.accepted and d.action == "decide" and not d.withdraw), None)
    names = people.names or ["person-1", "person-2"]
    if first is None:
        return {"decision": "nobody", "people": names}
    asked = [e.at for e in record.timeline if e.what == "gates: ask" and e.at <= first.at]
    waited = (first.at - max(asked, default=record.opened_at)).total_seconds()
    return {
        "decision": "approve" if first.approve else "reject",
        "after": span_text(round(max(0.0, waited))),
        "people": names,
    }
