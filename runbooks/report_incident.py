"""An incident file as a row of the report, and what a replay made of it, where there is one. Pure.

The file gives what people knew afterwards (`truth`); the replay's row gives what Interlock did. Neither stands in for the
other: what only a replay can tell is unknown without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field

from runbooks.incident import Incident
from runbooks.incident_faults import Blind
from runbooks.levers import LEVERS
from runbooks.report_rows import PEOPLE, By, Done, Missing, Mode, Refused, Row
from runbooks.taxonomy import UNKNOWN


class ReplayedRefusal(BaseModel):
    """One entry of `refused`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    lever: str
    gate: str
    why: str


class Harm(BaseModel):
    """What it cost users beyond doing nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    failed_requests: float | None
    below_minimum_s: float | None
    violations: tuple[str, ...] = ()


class People(BaseModel):
    """How often people were asked in the replay, and what came of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    asked: float
    approved: float
    rejected: float
    expired: float
    waited_s: float


class Detail(BaseModel):
    """What else a row may tell."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    people: People | None = None


class Replayed(BaseModel):
    """One row of `interlock replay --json`. More keys than these may be there; these must."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    incident: str
    truth_class: str
    found_class: str | None = Field(alias="class")
    levers: tuple[str, ...]
    refused: tuple[ReplayedRefusal, ...]
    outcome: str | None
    ttm_s: float | None
    human_ttm_s: float | None
    harm: Harm
    expectations_failed: tuple[str, ...]
    mode: Mode | None = None
    detail: Detail = Detail()


def row_of_incident(incident: Incident | None, replayed: Replayed | None, groups: Mapping[str, str]) -> Row:
    """One of the two at least. `groups`: class → group."""
    assert incident is not None or replayed is not None
    truth = incident.truth if incident is not None else None
    label = truth.failure_class if truth is not None else replayed.truth_class if replayed is not None else UNKNOWN
    people = tuple(_lever(one) for one in truth.levers) if truth is not None else ()
    return Row(
        name=incident.incident if incident is not None else replayed.incident if replayed is not None else "",
        source="replay" if replayed is not None else "file",
        at=incident.starts if incident is not None else None,
        found_class=replayed.found_class if replayed is not None else None,
        truth=label,
        second=truth.second_label if truth is not None else None,
        group=truth.group if truth is not None else groups.get(label, UNKNOWN),
        automatic=truth.found == "automatic" if truth is not None else None,
        detected_after_s=_since_fault(incident, truth.detected) if incident is not None and truth is not None else None,
        mitigated_after_s=replayed.ttm_s if replayed is not None else None,
        people_ttm_s=_people_ttm(incident, replayed),
        done=tuple(Done(lever=name) for name in replayed.levers) if replayed is not None else (),
        people_levers=people,
        missing=tuple(_missing(replayed, label, people)) if replayed is not None else (),
        refused=tuple(_refused(replayed)) if replayed is not None else (),
        outcome=replayed.outcome if replayed is not None else None,
        by=_by(replayed) if replayed is not None else "people",
        mode=replayed.mode if replayed is not None else None,
        people_s=_people_s(incident),
        hotfix=truth.hotfix if truth is not None else None,
        false_alarm=_false_alarm(incident),
        harm_requests=replayed.harm.failed_requests if replayed is not None else None,
        failed=replayed.expectations_failed if replayed is not None else (),
    )


def _lever(name: str) -> str:
    """People's own words for what is no lever of ours are counted together."""
    return name if name in LEVERS else PEOPLE


def fault_began_s(incident: Incident) -> float:
    """Seconds after the file's start at which the first fault sets in."""
    return min(incident.seconds(f.at) for f in incident.timeline.faults)


def _since_fault(incident: Incident, at: str | None) -> float | None:
    if at is None:
        return None
    seconds = incident.seconds(at) - fault_began_s(incident)
    return seconds if seconds >= 0 else None


def _people_ttm(incident: Incident | None, replayed: Replayed | None) -> float | None:
    if replayed is not None and replayed.human_ttm_s is not None:
        return replayed.human_ttm_s
    return _since_fault(incident, incident.truth.mitigated) if incident is not None else None


def _people_s(incident: Incident | None) -> float | None:
    """The time that people worked, where the file says it; else from found to mitigated, by the clock."""
    if incident is None:
        return None
    truth = incident.truth
    if truth.people_minutes is not None:
        return truth.people_minutes * 60
    if truth.detected is None or truth.mitigated is None:
        return None
    seconds = incident.seconds(truth.mitigated) - incident.seconds(truth.detected)
    return seconds if seconds >= 0 else None


def _by(replayed: Replayed) -> By | None:
    if replayed.outcome == "self_resolved":
        return "itself"
    if replayed.ttm_s is not None and replayed.levers:
        people = replayed.detail.people
        return "interlock" if people is None else "approved" if people.approved else "alone"
    return "people" if replayed.outcome in ("paged", "observed", "adopted", "aborted") else None


def _false_alarm(incident: Incident | None) -> bool | None:
    """Alerts were raised, and of faults there is nothing but what blinded a detector."""
    if incident is None:
        return None
    return bool(incident.timeline.alerts) and all(isinstance(f, Blind) for f in incident.timeline.faults)


def _refused(replayed: Replayed) -> Iterator[Refused]:
    told: set[tuple[str, str]] = set()
    for one in replayed.refused:
        if (one.lever, one.gate) not in told:
            told.add((one.lever, one.gate))
            yield Refused(lever=one.lever, gate=one.gate, why=one.why, later=one.lever in replayed.levers)


def _missing(replayed: Replayed, label: str, people: tuple[str, ...]) -> Iterator[Missing]:
    """What people did to end it and the replay did not do."""
    if replayed.outcome == "self_resolved" or (replayed.ttm_s is not None and replayed.levers):
        return
    other = replayed.found_class if replayed.found_class != label else None
    for lever in dict.fromkeys(people) or ("",):
        gates = tuple(dict.fromkeys(r.gate for r in replayed.refused if r.lever == lever))
        if replayed.outcome == "observed":
            yield Missing(lever=lever, why="observe")
        elif gates:
            yield Missing(lever=lever, why="refused", gates=gates)
        elif other is not None:
            yield Missing(lever=lever, why="other_class", taken_for=other)
        else:
            yield Missing(lever=lever, why="no_step")
