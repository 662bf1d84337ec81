"""One incident's row: what a run came to, beside what people knew."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from activities.adapters.simulated import SimulatedSite
from runbooks.incident import Incident
from runbooks.record import CaseRecord
from worker.replay_curves import curves
from worker.replay_play import Played
from worker.replay_result import Harm, Row, Run, failed_expectations


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
        refused=tuple({"lever": r.lever, "gate": r.gate, "why": r.why} for r in run.refused),
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
            "words": incident.truth.words or incident.expect.because,
            "starts": f"{incident.starts:%Y-%m-%d %H:%M}",
            "nothing_failed": round(run.nothing_failed, 1),
            **(detail or {}),
        },
    )


def told(incident: Incident, site: SimulatedSite, alone: SimulatedSite, lasted: float) -> dict[str, Any]:
    """What was measured, beside the run in which nobody did anything."""
    return {
        "lasts_s": incident.lasts,
        "ended_s": round(lasted, 1),
        "curves": curves(site.account, alone.account).model_dump(),
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
