"""A runbook applied to one case: rendered once, checked against the fleet, bounded by an envelope.

A step that cannot be rendered or names what the fleet does not have is left out and the plan says so: the case falls
through to the next step, as it would when a gate refuses it. When nothing is left that acts, the plan only pages.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

from pydantic import TypeAdapter, ValidationError

from runbooks.base import digest
from runbooks.detection import Detection, Target, TargetKind
from runbooks.fleet import Fleet, Pool
from runbooks.increments import plan_change
from runbooks.levers import LEVERS, Page, RolloutHotfix, Step, rejoins
from runbooks.plan import Classification, IndicatorQuery, Plan, PlannedStep
from runbooks.policy import Policy
from runbooks.reach import envelope_of, pools_touched, targets_of
from runbooks.restoring import plan_restore
from runbooks.schema import Criterion, RestoreRule, Runbook, StepSpec
from runbooks.templates import RenderError, render_all

if TYPE_CHECKING:
    from runbooks.library import Library

__all__ = ["plan", "plan_change", "plan_restore", "planned_steps"]

_STEP: TypeAdapter[Step] = TypeAdapter(Step)


def plan(
    classification: Classification,
    detections: Sequence[Detection],
    *,
    library: Library,
    policy: Policy,
    fleet: Fleet,
    now: datetime,
) -> Plan:
    """The plan of a case: all detections are about one target. Never fails: what cannot be planned becomes a page."""
    detection = _gravest(detections)
    target, failure_class = detection.target, classification.failure_class
    found = library.pick(failure_class, target.kind)
    because = (
        f"{failure_class} by rule {classification.rule} ({classification.confidence:.0%}); "
        f"the fault began {max(0.0, (now - detection.started_at).total_seconds()):.0f} s before this plan"
    )
    if not fleet.has(target):
        return _page_only(
            classification, target, policy, f"{target.id} is not in the fleet, and what is not in it is not touched"
        )
    if found is None:
        return _page_only(
            classification, target, policy, f"there is no runbook for {failure_class} on a {target.kind.value}"
        )
    name, runbook = found
    steps, problems = planned_steps(runbook, detection, library=library, policy=policy, fleet=fleet, now=now)
    if not steps:
        return _page_only(
            classification, target, policy, f"no step of {name} can be planned: {'; '.join(map(str, problems))}"
        )
    left_out = [f"left out: {_at_step(problem)}" for problem in problems]
    return Plan(
        failure_class=failure_class,
        title=runbook.title,
        runbook=f"{name}@{digest(runbook)}",
        policy=policy.ref,
        steps=tuple(steps),
        why="; ".join([because, *left_out]),
    )


def _at_step(problem: RenderError) -> str:
    """For people who see a runbook's steps counted from one, and its file not at all."""
    _, index, *rest = problem.field
    place = ".".join(str(part) for part in rest if part != "with")
    return f"step {int(index) + 1}" + (f", {place}" if place else "") + f": {problem.why}"


def planned_steps(
    runbook: Runbook, detection: Detection, *, library: Library, policy: Policy, fleet: Fleet, now: datetime
) -> tuple[list[PlannedStep], list[RenderError]]:
    """The steps that can be planned, in order, and for each of the others the reason with its place in the runbook."""
    case = _Case.of(detection, library, policy, fleet, now)
    steps: list[PlannedStep] = []
    problems: list[RenderError] = []
    for index, spec in enumerate(runbook.steps):
        try:
            steps.append(_planned(case, index, spec, runbook.healthy))
        except RenderError as error:
            problems.append(error)
    return steps, problems


def known_parameters(lever: str) -> list[str]:
    """Parameter names of a lever; empty for a lever that there is none of."""
    models = get_args(get_args(Step)[0])  # the closed union, flat
    return [n for m in models if m.model_fields["lever"].default == lever for n in m.model_fields if n != "lever"]


def near(name: str, names: Sequence[str]) -> str:
    """`; did you mean …?` when one of the names is like it, else all of them."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}"


def _gravest(detections: Sequence[Detection]) -> Detection:
    firing = [d for d in detections if d.status == "firing"] or list(detections)
    return max(firing, key=lambda d: (d.severity.rank, d.observed_at, d.key))


def _context(detection: Detection, pool: Pool | None, fleet: Fleet, now: datetime) -> dict[str, Any]:
    """What templates may use. What this target does not have is absent: using it is an error, not an empty text."""
    target = detection.target
    context: dict[str, Any] = {
        "target": target.id,
        "cluster": target.cluster,
        "labels": detection.labels,
        "evidence": detection.evidence,
        "began": detection.started_at.isoformat(),
        "now": now.isoformat(),
    }
    if target.node is not None:
        context["node"] = target.node
    if target.gpu is not None:
        context["gpu"] = target.gpu
    if pool is None:
        return context
    context["pool"] = pool.name
    if target.endpoint is not None:
        context["endpoint"] = target.endpoint
    route = fleet.route_of(pool.name)
    if route is not None:
        context["route"] = route.name
        context["siblings"] = [name for name in route.pools if name != pool.name]
        if route.tiers:
            context["tier_lowest"] = route.tiers[0]
    return context


@dataclass(frozen=True)
class _Case:
    """What all steps of one case are planned from."""

    target: Target
    pool: Pool | None
    context: dict[str, Any]
    library: Library
    policy: Policy
    fleet: Fleet

    @classmethod
    def of(cls, detection: Detection, library: Library, policy: Policy, fleet: Fleet, now: datetime) -> _Case:
        target = detection.target
        node = fleet.node(target.node or "") if target.service is None else None
        # A node has no dialect of its own: the first pool that runs on it proves that it serves; of a cluster, its first.
        pool = fleet.pool(node.pools[0] if node is not None else target.service or "")
        if target.kind is TargetKind.CLUSTER:
            pool = next((p for p in fleet.pools if p.cluster == target.cluster), None)
        return cls(target, pool, _context(detection, pool, fleet, now), library, policy, fleet)


def _planned(case: _Case, index: int, spec: StepSpec, healthy: Criterion | None) -> PlannedStep:
    where: tuple[int | str, ...] = ("steps", index)
    values = render_all(spec.parameters, case.context, (*where, "with"))
    if spec.lever == "rollout_hotfix" and "rings" not in values:
        values["rings"] = rings_of(case.fleet, case.pool)
    try:
        step = _STEP.validate_python({**values, "lever": spec.lever})
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "union_tag_invalid":
            raise RenderError(
                (*where, "lever"), f"there is no lever {spec.lever!r}{near(spec.lever, LEVERS)}"
            ) from error
        field = [str(part) for part in first["loc"] if part != spec.lever]
        message = first["msg"][0].lower() + first["msg"][1:]
        if first["type"] == "extra_forbidden" and field:
            message = f"unknown parameter{near(field[-1], known_parameters(spec.lever))}"
        raise RenderError((*where, "with", *field), f"{spec.lever}: {message}") from error
    touched = pools_touched(step, case.fleet, where)
    targets = targets_of(step, touched)
    gone = None if spec.verify is None else healthy
    return PlannedStep(
        id=f"{index + 1}-{spec.lever}",
        step=step,
        targets=targets,
        domains=tuple(sorted({p.cluster for p in touched})),
        verify=spec.verify,
        indicators=_indicators(case, () if spec.verify is None else spec.verify.criteria, (*where, "verify")),
        on_cannot_tell=spec.on_cannot_tell,
        restore=spec.restore,
        then=spec.then,
        rejoin_pool=touched[0].name if rejoins(step) else "",
        by_pool=_by_pool(case, step, spec, (*where, "verify")),
        healthy=gone,
        healthy_indicator=_indicators(case, [gone], ("healthy",))[0] if gone else None,
        envelope=envelope_of(f"{index + 1}-{spec.lever}", step, targets, case.policy),
    )


def rings_of(fleet: Fleet, pool: Pool | None) -> tuple[tuple[str, ...], ...]:
    """One ring per pool of the route, the largest first: wrong numbers on some GPU types only, in oai-2024-02-20."""
    route = fleet.route_of(pool.name) if pool is not None else None
    names = route.pools if route is not None else (pool.name,) if pool is not None else ()
    pools = [p for p in (fleet.pool(n) for n in names) if p is not None]
    return tuple((p.name,) for p in sorted(pools, key=lambda p: (-p.size * p.tokens_per_second, p.name)))


def _by_pool(
    case: _Case, step: Step, spec: StepSpec, where: tuple[int | str, ...]
) -> dict[str, tuple[IndicatorQuery, ...]]:
    """For a rollout: what the criteria measure on each pool of its rings. A ring is judged by its own pools."""
    if not isinstance(step, RolloutHotfix) or spec.verify is None:
        return {}
    found: dict[str, tuple[IndicatorQuery, ...]] = {}
    for name in (name for ring in step.rings for name in ring):
        pool = case.fleet.pool(name)
        route = case.fleet.route_of(name)
        context = {**case.context, "pool": name} | ({"route": route.name} if route else {})
        found[name] = _indicators(replace(case, pool=pool, context=context), spec.verify.criteria, where)
    return found


def _indicators(case: _Case, criteria: Sequence[Criterion], where: tuple[int | str, ...]) -> tuple[IndicatorQuery, ...]:
    """What the criteria measure, each once, in the dialect of the target's pool."""
    if not criteria:
        return ()
    if case.pool is None:
        raise RenderError(where, f"{case.target.id} is not in a pool, so no engine dialect says how to measure")
    dialect = case.library.dialects.get(case.pool.dialect)
    if dialect is None:
        raise RenderError(where, f"there are no indicators for the dialect {case.pool.dialect}")
    names = dict.fromkeys(c.indicator for c in criteria)
    return tuple(dialect.query(name, case.context, where) for name in names)


def _page_only(classification: Classification, target: Target, policy: Policy, why: str) -> Plan:
    """Nothing acts; people are told why."""
    step_id = "1-page"
    page = Page(summary=f"{classification.failure_class} on {target.id}: Interlock does not act, because {why}"[:500])
    step = PlannedStep(
        id=step_id,
        step=page,
        targets=(),
        domains=(),
        verify=None,
        indicators=(),
        on_cannot_tell="keep_and_page",
        restore=RestoreRule(),
        envelope=envelope_of(step_id, page, (), policy),
    )
    return Plan(
        failure_class=classification.failure_class,
        title="Tell people",
        runbook="none",
        policy=policy.ref,
        steps=(step,),
        why=f"{classification.failure_class} by rule {classification.rule}; {why}",
    )
