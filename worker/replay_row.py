"""One incident's row: what a run came to, beside what people knew."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from activities.adapters.simulated import SimulatedSite
from runbooks.incident import Incident
from runbooks.record import CaseRecord
from worker.replay_alone import without_answer
from worker.replay_curves import curves
from worker.replay_play import Played
from worker.replay_result import Harm, Refused, Row, Run, failed_expectations

_DATE = re.compile(r"\b20\d\d-[01]\d-[0-3]\d(?=[T ]\d\d:)")
"""Of a moment in a text."""
PLAYED = frozenset({"refused", "harm", "expectations_failed", "rows", "bars", "cases"})
"""What of a row comes from the play."""


def lost(incident: Incident, why: str) -> Row:
    """The row of an incident that could not be played."""
    run = Run(None, (), (), None, False, None, Harm(failed_requests=None, below_minimum_s=None), 0.0, 0)
    return row_of(incident, run, time.monotonic(), failed=(why,))


def row_of(
    incident: Incident,
    run: Run,
    began: float,
    *,
    mode: str | None = None,
    detail: dict[str, Any] | None = None,
    failed: tuple[str, ...] | None = None,
) -> Row:
    """`began`: when playing it began, by the monotonic clock. `failed` None: what the file expects and does not hold."""
    truth = incident.truth
    return Row(
        incident=incident.incident,
        truth_class=truth.failure_class,
        found_class=run.failure_class,
        levers=tuple(dict.fromkeys(lever for lever, _ in run.done)),
        refused=tuple({"lever": r.lever, "gate": r.gate, "why": r.why} for r in _once(run.refused)),
        outcome=run.outcome,
        ttm_s=run.mitigated_s,
        human_ttm_s=incident.seconds(truth.mitigated) - first_fault(incident) if truth.mitigated is not None else None,
        harm=run.harm,
        expectations_failed=failed if failed is not None else tuple(failed_expectations(incident, run)),
        real_s=round(time.monotonic() - began, 2),
        mode=mode,
        detail={
            "title": incident.title,
            "kind": incident.kind,
            "words": incident.truth.words,
            "starts": f"{incident.starts:%Y-%m-%d %H:%M}",
            "nothing_failed": round(run.nothing_failed, 1),
            **(detail or {}),
        },
    )


def _once(refused: Sequence[Refused]) -> Iterator[Refused]:
    """G8 passes on what the planner says: told once, as the planner's. The same for several targets: told once."""
    planned = {(r.lever, r.why) for r in refused if r.gate == "planner"}
    seen = set()
    for one in refused:
        if (one.gate != "G8" or (one.lever, one.why) not in planned) and (what := one[:3]) not in seen:
            seen.add(what)
            yield one


def told(incident: Incident, site: SimulatedSite, beside: SimulatedSite, lasted: float) -> dict[str, Any]:
    """What was measured, beside the run in which nobody did anything."""
    theirs = without_answer(beside)
    return {
        "lasts_s": incident.lasts,
        "ended_s": round(lasted, 1),
        "beyond": {what: round(n - theirs[what], 1) for what, n in without_answer(site).items()},
        "curves": curves(site.account, beside.account).model_dump(),
    }


def case_of(record: CaseRecord, played: Played) -> dict[str, Any]:
    """A case in short."""
    return {
        "case": record.case,
        "target": record.target.id if record.target is not None else "",
        "class": record.classification.failure_class if record.classification is not None else None,
        "outcome": record.outcome,
        "why": record.why,
        "opened_s": round((record.opened_at - played.starts).total_seconds(), 1),
    }


def first_fault(incident: Incident) -> float:
    """Seconds after the start: what times to mitigate count from."""
    return min(incident.seconds(f.at) for f in incident.timeline.faults)


def after_fault(incident: Incident, at: datetime | None) -> float | None:
    """Seconds from the first fault; None: it has not happened."""
    if at is None:
        return None
    return round((at - incident.starts).total_seconds() - first_fault(incident), 1)


def dated(row: Row, later: timedelta) -> Row:
    """The same row with its own dates: it was played so many whole days later. What the file says keeps its dates."""
    data, days = row.as_json(), timedelta(days=later.days)
    for part in (data, data["detail"]):
        for name in PLAYED & part.keys():
            part[name] = _back(part[name], days)
    return Row.model_validate(data)


def _back(value: Any, days: timedelta) -> Any:
    if isinstance(value, str):
        return _DATE.sub(lambda found: str(date.fromisoformat(found[0]) - days), value)
    if isinstance(value, dict):
        return {key: _back(one, days) for key, one in value.items()}
    return [_back(one, days) for one in value] if isinstance(value, list) else value
