"""One incident from its file to its row: played, played again with nobody doing anything, and compared."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from activities.adapters.simulated import SimulatedSite
from runbooks.incident import Incident
from runbooks.library import Library
from runbooks.policy import Policy
from runbooks.record import CaseRecord
from runbooks.taxonomy import UNKNOWN
from worker.replay_curves import curves
from worker.replay_moved import moved, observing, policy_at
from worker.replay_naive import HandClock, Naive
from worker.replay_play import Play, Played
from worker.replay_result import Harm, Refused, Row, Run, failed_expectations, harms
from worker.replay_stage import Stage
from worker.replay_story import Story, given_bars, refused
from worker.replay_svg import Bar
from worker.replay_violations import made, violations

Baseline = Literal["naive", "observe"]
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Options:
    """How incidents are played. `seed` is added to each file's own; `baseline` None: as Interlock does it."""

    policy: Policy
    catalogue: Path | None = None
    baseline: Baseline | None = None
    seed: int = 0


async def replay_one(stage: Stage, incident: Incident, options: Options, library: Library) -> Row:
    """Plays it. Whatever fails here is a fault of ours or of the file, not a failed expectation."""
    began = time.monotonic()
    here = moved(incident.model_copy(update={"seed": incident.seed + options.seed}), await stage.now())
    policy = policy_at(here, observing(options.policy) if options.baseline == "observe" else options.policy)
    if options.baseline == "naive":
        return await _naive(incident, here, policy, library, began)
    site = SimulatedSite(here, stage.clock, minimum=policy.min_answering)
    with tempfile.TemporaryDirectory(prefix="interlock-replay-", dir=_folder()) as folder:
        played = await Play(stage, here, site, policy, library, Path(folder)).run()
    lasted = (played.ended - played.starts).total_seconds()
    alone = nothing(here, lasted, policy)
    turned_down, main = refused(played), main_case(played.records)
    run = _run(here, played, main, turned_down, site, alone, policy)
    story = Story(here, played, turned_down)
    return _row(
        incident,
        run,
        began,
        mode=(main.mode or None) if main is not None else None,
        failed=tuple(harms(run.harm, run.nothing_failed)) if options.baseline else None,
        detail={
            **_told(incident, site, alone, lasted),
            "policy": policy.ref,
            "paged": run.paged,
            "people": story.people(),
            "slowest_s": round(stage.watch.slowest_s, 3),
            "cases": [_case(r, played) for r in played.records],
            "bars": [b.model_dump() for b in story.bars()],
            "rows": story.rows(),
        },
    )


def nothing(incident: Incident, lasted: float, policy: Policy) -> SimulatedSite:
    """The same site, and nobody does anything but what the file itself has people and automation do."""
    clock = HandClock(incident.starts)
    site = SimulatedSite(incident, clock, minimum=policy.min_answering)
    clock.now += timedelta(seconds=lasted)
    site.advance(clock.now)
    return site


def main_case(records: Sequence[CaseRecord]) -> CaseRecord | None:
    """What the incident is judged by: the case that acted first; else the first that has a class; else the first. What was
    handed on to another case is that one's matter."""
    own = [r for r in records if r.outcome not in ("forwarded", "handed_over")] or list(records)
    return min(own, key=lambda r: (*_acted(r), _unknown(r), r.opened_at), default=None)


def _acted(record: CaseRecord) -> tuple[bool, datetime]:
    return record.first_act_at is None, record.first_act_at or record.opened_at.min.replace(tzinfo=UTC)


def _unknown(record: CaseRecord) -> bool:
    return record.classification is None or record.classification.failure_class == UNKNOWN


def _run(
    incident: Incident,
    played: Played,
    main: CaseRecord | None,
    turned_down: list[Refused],
    site: SimulatedSite,
    alone: SimulatedSite,
    policy: Policy,
) -> Run:
    acted = [a for a in played.acts if a.receipt is not None and a.request.permit.purpose == "act"]
    found = main.classification if main is not None else None
    open_ = "open" if main is not None else None
    return Run(
        failure_class=found.failure_class if found is not None else None,
        done=tuple((a.request.step.step.lever, a.request.target_id) for a in acted),
        refused=tuple(turned_down),
        outcome=(main.outcome or open_) if main is not None else None,
        paged=any(p.matters for p in played.pages),
        mitigated_s=_after_fault(incident, main.mitigated_at) if main is not None else None,
        harm=_harm(site, alone, violations(made(played), policy)),
        nothing_failed=badly(alone),
        cases_that_acted=len({a.request.case for a in acted}),
    )


async def _naive(incident: Incident, here: Incident, policy: Policy, library: Library, began: float) -> Row:
    clock = HandClock(here.starts)
    site = SimulatedSite(here, clock, minimum=policy.min_answering)
    naive = Naive(here, site, policy, library, clock)
    await naive.run()
    lasted = (clock() - here.starts).total_seconds()
    alone = nothing(here, lasted, policy)
    run = Run(
        failure_class=naive.classes[0] if naive.classes else None,
        done=tuple((d.lever, d.target) for d in naive.did),
        refused=(),
        outcome=None,
        paged=naive.paged,
        mitigated_s=None,
        harm=_harm(site, alone, violations(naive.made, policy)),
        nothing_failed=badly(alone),
        cases_that_acted=len({d.target for d in naive.did}),
    )
    bars = given_bars(here, naive.said, lasted)
    for (at, lever, target), same in groupby(naive.did, key=lambda d: (d.at, d.lever, d.target)):
        notes = [d.change.note for d in same]
        more = f" and {len(notes) - 1} more" if len(notes) > 1 else ""
        starts = (at - here.starts).total_seconds()
        words = f"{lever} on {target}\n" + "\n".join(notes)
        bars.append(Bar(lane="the script", kind="final", starts=starts, text=f"{lever}: {notes[0]}{more}", full=words))
    failed = tuple(harms(run.harm, run.nothing_failed))
    detail = {**_told(incident, site, alone, lasted), "bars": [b.model_dump() for b in bars], "rows": []}
    return _row(incident, run, began, detail=detail, failed=failed)


def lost(incident: Incident, why: str) -> Row:
    """The row of an incident that could not be played."""
    run = Run(None, (), (), None, False, None, Harm(failed_requests=None, below_minimum_s=None), 0.0, 0)
    return _row(incident, run, time.monotonic(), failed=(why,))


def _row(
    incident: Incident,
    run: Run,
    began: float,
    *,
    mode: str | None = None,
    detail: dict[str, Any] | None = None,
    failed: tuple[str, ...] | None = None,
) -> Row:
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


def _told(incident: Incident, site: SimulatedSite, alone: SimulatedSite, lasted: float) -> dict[str, Any]:
    return {
        "lasts_s": incident.lasts,
        "ended_s": round(lasted, 1),
        "curves": curves(site.account, alone.account).model_dump(),
    }


def _case(record: CaseRecord, played: Played) -> dict[str, Any]:
    return {
        "case": record.case,
        "target": record.target.id if record.target is not None else "",
        "class": record.classification.failure_class if record.classification is not None else None,
        "outcome": record.outcome,
        "why": record.why,
        "opened_s": round((record.opened_at - played.starts).total_seconds(), 1),
    }


def badly(site: SimulatedSite) -> float:
    """Requests of users that got no right answer: failed, refused by an act, or answered wrongly."""
    account = site.account
    return account.failed_requests + sum(account.refused_requests.values()) + account.wrong_answers


def _harm(site: SimulatedSite, alone: SimulatedSite, more: list[str]) -> Harm:
    return Harm(
        failed_requests=round(badly(site) - badly(alone), 1),
        below_minimum_s=round(site.account.below_minimum_s - alone.account.below_minimum_s, 1),
        violations=tuple(dict.fromkeys([*site.account.violations, *more])),
    )


def first_fault(incident: Incident) -> float:
    """Seconds after the start: what times to mitigate count from."""
    return min(incident.seconds(f.at) for f in incident.timeline.faults)


def _after_fault(incident: Incident, at: datetime | None) -> float | None:
    if at is None:
        return None
    return round((at - incident.starts).total_seconds() - first_fault(incident), 1)


def _folder() -> Path | None:
    """The journal's disk: memory where there is some, for each act is on disk before and after it."""
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
