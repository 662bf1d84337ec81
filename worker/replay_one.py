"""One incident from its file to its row: played, played again with nobody doing anything, and compared."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Literal

from activities.adapters.simulated import SimulatedSite
from runbooks.incident import Incident
from runbooks.library import Library
from runbooks.policy import Policy
from runbooks.record import CaseRecord
from runbooks.taxonomy import UNKNOWN
from worker.replay_alone import HandClock, StepsKept, alone, badly, harm_of, unwell_alone
from worker.replay_moved import moved, observing, policy_at
from worker.replay_naive import Naive
from worker.replay_play import Play, Played
from worker.replay_result import Refused, Row, Run, harms
from worker.replay_row import after_fault, case_of, dated, row_of, told
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
    began, seeded = time.monotonic(), incident.model_copy(update={"seed": incident.seed + options.seed})
    if options.baseline == "naive":
        here = moved(seeded, incident.starts)
        return await _naive(incident, here, policy_at(here, options.policy), library, began)
    here = moved(seeded, await stage.begin(incident.starts))
    policy = policy_at(here, observing(options.policy) if options.baseline == "observe" else options.policy)
    site = StepsKept(here, stage.clock, minimum=policy.min_answering)
    # The alerts of a synthetic one are those of a site that nobody touched: what Interlock has mended is not reported.
    doubtful = unwell_alone(here, policy) if incident.kind == "synthetic" else frozenset[int]()
    with tempfile.TemporaryDirectory(prefix="interlock-replay-", dir=_folder()) as folder:
        play = Play(stage, here, site, policy, library, Path(folder), doubtful)
        played = await play.run()
    lasted = (played.ended - played.starts).total_seconds()
    beside = alone(here, policy, site.steps)
    turned_down, main = refused(played), main_case(played.records)
    run = _run(here, played, main, turned_down, site, beside, policy)
    story = Story(here, played, turned_down)
    row = row_of(
        incident,
        run,
        began,
        mode=(main.mode or None) if main is not None else None,
        failed=tuple(harms(run.harm, run.nothing_failed)) if options.baseline else None,
        detail={
            **told(incident, site, beside, lasted),
            "policy": options.policy.ref,
            "paged": run.paged,
            "people": story.people(),
            "slowest_s": round(stage.watch.slowest_s, 3),
            "cases": [case_of(r, played) for r in played.records],
            "bars": [b.model_dump() for b in story.bars()],
            "rows": story.rows(),
        },
    )
    return dated(row, here.starts - incident.starts)


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
    beside: SimulatedSite,
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
        mitigated_s=after_fault(incident, main.mitigated_at) if main is not None else None,
        harm=harm_of(site, beside, violations(made(played), policy)),
        nothing_failed=badly(beside),
        cases_that_acted=len({a.request.case for a in acted}),
    )


async def _naive(incident: Incident, here: Incident, policy: Policy, library: Library, began: float) -> Row:
    clock = HandClock(here.starts)
    site = StepsKept(here, clock, minimum=policy.min_answering)
    naive = Naive(here, site, policy, library, clock)
    await naive.run()
    lasted = (clock() - here.starts).total_seconds()
    beside = alone(here, policy, site.steps)
    run = Run(
        failure_class=naive.classes[0] if naive.classes else None,
        done=tuple((d.lever, d.target) for d in naive.did),
        refused=(),
        outcome=None,
        paged=naive.paged,
        mitigated_s=None,
        harm=harm_of(site, beside, violations(naive.made, policy)),
        nothing_failed=badly(beside),
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
    detail = {**told(incident, site, beside, lasted), "bars": [b.model_dump() for b in bars], "rows": []}
    return row_of(incident, run, began, detail=detail, failed=failed)


def _folder() -> Path | None:
    """The journal's disk: memory where there is some, for each act is on disk before and after it."""
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
