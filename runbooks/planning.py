"""A runbook applied to one case: rendered once, checked against the fleet, bounded by an envelope.

A step that cannot be rendered or names what the fleet does not have is left out and the plan says so: the case falls
through to the next step, as it would when a gate refuses it. When nothing is left that acts, the plan only pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, assert_never

from pydantic import TypeAdapter, ValidationError

from runbooks.base import digest
from runbooks.detection import Detection, Target
from runbooks.fleet import Fleet, Pool
from runbooks.increments import completes, plan_change
from runbooks.levers import IsolateEndpoint, Page, RecycleConnections, RerouteTraffic, ShedLoad, Step, direction
from runbooks.plan import Classification, Envelope, IndicatorQuery, Plan, PlannedStep
from runbooks.policy import Policy
from runbooks.restoring import merged, plan_restore
from runbooks.schema import Criterion, RestoreRule, Runbook, StepSpec
from runbooks.templates import RenderError, render_all

if TYPE_CHECKING:
    from runbooks.library import Library

__all__ = ["completes", "merged", "plan", "plan_change", "plan_restore", "planned_steps"]

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
        f"the fault began {max(0.0, (now - detection.started_at).total_seconds()):.0f} s before"
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
    steps, problems = planned_steps(runbook, detection, library=library, policy=policy, fleet=fleet)
    if not steps:
        return _page_only(
            classification, target, policy, f"no step of {name} can be planned: {'; '.join(map(str, problems))}"
        )
    left_out = [f"left out: {problem}" for problem in problems]
    return Plan(
        failure_class=failure_class,
        title=runbook.title,
        runbook=f"{name}@{digest(runbook)}",
        policy=policy.digest,
        steps=tuple(steps),
        why="; ".join([because, *left_out]),
    )


def planned_steps(
    runbook: Runbook, detection: Detection, *, library: Library, policy: Policy, fleet: Fleet
) -> tuple[list[PlannedStep], list[RenderError]]:
    """The steps that can be planned, in order, and for each of the others the reason with its place in the runbook."""
    pool = fleet.pool(detection.target.service or "")
    context = _context(detection, pool, fleet)
    steps: list[PlannedStep] = []
    problems: list[RenderError] = []
    for index, spec in enumerate(runbook.steps):
        try:
            steps.append(
                _planned(index, spec, runbook.healthy, context, pool, detection.target, library, policy, fleet)
            )
        except RenderError as error:
            problems.append(error)
    return steps, problems


def _gravest(detections: Sequence[Detection]) -> Detection:
    firing = [d for d in detections if d.status == "firing"] or list(detections)
    return max(firing, key=lambda d: (d.severity.rank, d.observed_at, d.key))


def _context(detection: Detection, pool: Pool | None, fleet: Fleet) -> dict[str, Any]:
    """What templates may use. What this target does not have is absent: using it is an error, not an empty text."""
    target = detection.target
    context: dict[str, Any] = {"target": target.id, "labels": detection.labels, "evidence": detection.evidence}
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


def _planned(
    index: int,
    spec: StepSpec,
    healthy: Criterion | None,
    context: dict[str, Any],
    pool: Pool | None,
    target: Target,
    library: Library,
    policy: Policy,
    fleet: Fleet,
) -> PlannedStep:
    where: tuple[int | str, ...] = ("steps", index)
    values = render_all(spec.parameters, context, (*where, "with"))
    try:
        step = _STEP.validate_python({**values, "lever": spec.lever})
    except ValidationError as error:
        first = error.errors()[0]
        field = [str(part) for part in first["loc"] if part != spec.lever]
        message = first["msg"][0].lower() + first["msg"][1:]
        raise RenderError((*where, "with", *field), f"{spec.lever}: {message}") from error
    touched = _touched(step, fleet, where)
    gone = None if spec.verify is None else healthy
    asked = (context, pool, target, library)
    return PlannedStep(
        id=f"{index + 1}-{spec.lever}",
        step=step,
        targets=_targets(step, touched),
        domains=tuple(sorted({p.cluster for p in touched})),
        verify=spec.verify,
        indicators=_indicators([] if spec.verify is None else spec.verify.criteria, *asked, (*where, "verify")),
        on_cannot_tell=spec.on_cannot_tell,
        restore=spec.restore,
        healthy=gone,
        healthy_indicator=_indicators([gone], *asked, ("healthy",))[0] if gone else None,
        envelope=_envelope(f"{index + 1}-{spec.lever}", step, _targets(step, touched), policy),
    )


def _touched(step: Step, fleet: Fleet, where: tuple[int | str, ...]) -> list[Pool]:
    """The pools that the step takes from or gives to, the sick one first. RenderError: the fleet lacks such a name."""

    def pool_named(name: str, field: str) -> Pool:
        pool = fleet.pool(name)
        if pool is None:
            raise RenderError((*where, "with", field), f"the fleet has no pool {name!r}")
        return pool

    match step:
        case Page():
            return []
        case RecycleConnections():
            return [pool_named(step.pool, "pool")]
        case IsolateEndpoint():
            pool = pool_named(step.pool, "pool")
            if all(e.address != step.endpoint for e in pool.endpoints):
                raise RenderError((*where, "with", "endpoint"), f"pool {pool.name} has no endpoint {step.endpoint!r}")
            return [pool]
        case RerouteTraffic() | ShedLoad():
            route = fleet.route(step.route)
            if route is None:
                raise RenderError((*where, "with", "route"), f"the fleet has no route {step.route!r}")
            pools = [pool_named(name, "route") for name in route.pools]
            if isinstance(step, ShedLoad):
                if step.tier not in route.tiers:
                    raise RenderError((*where, "with", "tier"), f"route {route.name} has no tier {step.tier!r}")
                return pools
            if step.away_from not in route.pools:
                raise RenderError((*where, "with", "away_from"), f"route {route.name} has no pool {step.away_from!r}")
            if len(pools) < 2:
                raise RenderError(
                    (*where, "with", "away_from"), f"route {route.name} has no other pool to move traffic to"
                )
            return sorted(pools, key=lambda p: p.name != step.away_from)
    assert_never(step)


def _targets(step: Step, touched: Sequence[Pool]) -> tuple[str, ...]:
    if isinstance(step, IsolateEndpoint):
        return tuple(Target(cluster=p.cluster, service=p.name, endpoint=step.endpoint).id for p in touched)
    return tuple(Target(cluster=p.cluster, service=p.name).id for p in touched)


def _indicators(
    criteria: Sequence[Criterion],
    context: dict[str, Any],
    pool: Pool | None,
    target: Target,
    library: Library,
    where: tuple[int | str, ...],
) -> tuple[IndicatorQuery, ...]:
    if not criteria:
        return ()
    if pool is None:
        raise RenderError(where, f"{target.id} is not in a pool, so no engine dialect says how to measure")
    dialect = library.dialects.get(pool.dialect)
    if dialect is None:
        raise RenderError(where, f"there are no indicators for the dialect {pool.dialect}")
    return tuple(dialect.query(name, context, where) for name in dict.fromkeys(c.indicator for c in criteria))


def _envelope(step_id: str, step: Step, targets: tuple[str, ...], policy: Policy) -> Envelope:
    """The most that the whole step may do, over all increments: what people approve, and never more than policy."""
    limits = policy.for_lever(step.lever)
    share, endpoints = 0.0, 0
    match step:
        case RerouteTraffic():
            share = min(1.0 - step.keep, limits.largest_share)
        case ShedLoad():
            share = min(1.0 - step.admit, limits.largest_share)
        case IsolateEndpoint():
            endpoints = 1
        case RecycleConnections() | Page():
            pass
        case _:
            assert_never(step)
    return Envelope(
        step_id=step_id,
        lever=step.lever,
        targets=targets,
        direction=direction(step),
        largest_share=share,
        largest_endpoints=endpoints,
    )


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
        envelope=_envelope(step_id, page, (), policy),
    )
    return Plan(
        failure_class=classification.failure_class,
        title="Tell people",
        runbook="none",
        policy=policy.digest,
        steps=(step,),
        why=f"{classification.failure_class} by rule {classification.rule}; {why}",
    )
