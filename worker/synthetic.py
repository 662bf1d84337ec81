"""156 incidents with the paper's shares, or any number in proportion, from a seed: always the same for the same seed and count.

Faults go into the simulated fleet, and what rules of a site would have seen of it become the alerts. It shares no table with
the classifier. `interlock incident generate` writes one file each; docs/synthetic-incidents.md explains.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from runbooks.incident import Answer, Incident, Timeline, Truth
from runbooks.incident_faults import Fault
from worker import synthetic_config as config
from worker import synthetic_engine as engine
from worker import synthetic_infra as infra
from worker import synthetic_rates as rates
from worker.synthetic_draw import Draw
from worker.synthetic_fleets import draw_fleet
from worker.synthetic_scene import Shown, show
from worker.synthetic_shares import PAPER, SHARES, Place, places
from worker.synthetic_story import Cause, Scene, Story, at, fault
from worker.synthetic_truth import Statuses, closings, second_labels, statuses, times
from worker.synthetic_words import expect, sources

CAUSES: Mapping[str, Cause] = {
    s.cause: getattr(module, s.cause) for s in SHARES for module in (engine, infra, config) if hasattr(module, s.cause)
}
_ALONE = frozenset({"slow_replicas", "dead_connections", "hang", "bad_output", "detection_gap", "imbalance"})
"""Causes that also come in routes without a second place to go."""
_FULL = frozenset({"allocation_late"})
_SIBLINGS = frozenset({"automation_runaway"})
_CALM = frozenset({"slower"})
"""Causes that need room below what the pools can serve: in a busy one nothing is slow without a queue."""
_TRIES = 4
AT_A_TIME = 4
"""Incidents that a process is given at once: each takes some hundredths of a second."""
_FIRST = datetime(2026, 1, 5, tzinfo=UTC)
_HOURS = {0: 2.0, 6: 1.0, 12: 2.4, 18: 3.6}
"""By six hours, UTC. D: 18-24 has 3.6 times the starts of 06-12; the other two are ours."""


@dataclass(frozen=True)
class Made:
    """One incident, and what of the do-nothing world is not in its file: HTTP statuses that at least one request in 200 got."""

    incident: Incident
    place: Place
    statuses: frozenset[int]


def generate(seed: int, count: int = PAPER, processes: int = 1) -> list[Made]:
    """The same whatever the number of processes. ValueError: the count is not positive, or a fault shows nowhere however bad
    it is made."""
    draw = Draw(seed, "corpus", count)
    whole = places(draw, count)
    seen = statuses(draw, whole)
    labels = second_labels(draw, [p.share.failure_class for p in whole])
    minutes = closings(draw, whole)
    order = draw.shuffled(range(count))
    parts = [(seed, number, whole[n], seen[n], labels[n], minutes[n]) for number, n in enumerate(order)]
    if processes == 1:
        return [_one(*part) for part in parts]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(_one, *zip(*parts, strict=True), chunksize=AT_A_TIME))


def _one(seed: int, number: int, place: Place, status: Statuses, second: str, minutes: float) -> Made:
    for harder in range(_TRIES):
        draw = Draw(seed, number, place.share.cause, harder)
        scene, story = _story(draw, place, status, harder)
        shown = show(draw, scene, story, people=place.people, statuses=status, watchful=harder > 0)
        last = harder == _TRIES - 1
        if shown is not None and (last or status.wanted <= shown.statuses):
            return _made(draw, seed, number, place, scene, story, shown, second, minutes)
    raise ValueError(
        f"seed {seed}, incident {number}: {place.share.cause} shows in no rule; this is a fault of the generator"
    )


def _story(draw: Draw, place: Place, status: Statuses, harder: int) -> tuple[Scene, Story]:
    cause = place.share.cause
    siblings = cause in _SIBLINGS or (draw.happens(0.75) if cause in _ALONE else draw.happens(0.9))
    fleet = draw_fleet(draw, siblings=siblings, full=cause in _FULL, calm=cause in _CALM)
    begins = float(draw.whole(120, 300))
    scene = Scene(draw, fleet, place.hotfix, harder, begins, status.both)
    story = CAUSES[cause](scene)
    if draw.happens(rates.UNRELATED_CHANGE) and not any(f.fault in ("change", "by_hand") for f in story.faults):
        story = story.with_fault(_good_change(draw, scene))
    return scene, story


def _good_change(draw: Draw, scene: Scene) -> Fault:
    """A version that changes nothing, minutes before: of the pool that is hit, or of any other."""
    pool = scene.pool if draw.happens(0.5) else draw.one(scene.fleet.pools)
    return fault("change", 30, pools=(pool.name,), version=f"v{draw.whole(2, 9)}", per_minute=30.0)


def _starts(draw: Draw) -> datetime:
    """A weekend day has a quarter of a weekday's starts (D)."""
    day = draw.weighted({d: 0.25 if d % 7 in (5, 6) else 1.0 for d in range(84)})
    hour = draw.weighted(_HOURS) + draw.whole(0, 5)
    return _FIRST + timedelta(days=day, hours=hour, minutes=draw.whole(0, 59))


def _made(
    draw: Draw, seed: int, number: int, place: Place, scene: Scene, story: Story, shown: Shown, second: str, minutes: float
) -> Made:  # fmt: skip
    share, lasted = place.share, times(draw, scene.begins, shown.detected, minutes)
    seen = ", ".join(str(s) for s in sorted(shown.statuses)) or "none"
    incident = Incident(
        incident=f"synthetic-{seed}-{number:03d}-{share.cause.replace('_', '-')}",
        title=f"Synthetic: {share.cause.replace('_', ' ')} of {story.target}"[:200],
        kind="synthetic",
        sources=sources(share),
        inferred="Everything but the shares and the distribution of durations: see the sources.",
        starts=_starts(draw),
        lasts=story.lasts,
        seed=number,
        noise=0.02,
        fleet=scene.fleet,
        timeline=Timeline(faults=story.faults, alerts=tuple(shown.alerts), answers=_answer(draw)),
        truth=Truth(
            failure_class=share.failure_class,
            second_label=second,
            group=share.group,
            found="people" if place.people else "automatic",
            hotfix=place.hotfix,
            levers=story.did,
            detected=at(lasted.detected),
            mitigated=at(lasted.mitigated),
            ended=at(lasted.ended),
            people_minutes=lasted.people_minutes,
            words=f"{story.words} Failed requests by HTTP status: {seen}.",
        ),
        expect=expect(share, story),
    )
    return Made(incident, place, shown.statuses)


def _answer(draw: Draw) -> Answer:
    return Answer.model_validate(
        {"decision": draw.weighted(rates.ANSWER_SHARES), "after": float(round(draw.between(*rates.ANSWER_S)))}
    )
