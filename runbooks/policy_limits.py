"""Limits that nothing can meet, found by asking the real planner and the real gates on a domain where all is well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from runbooks.change import CannotPlan, Change
from runbooks.detection import Target, TargetKind
from runbooks.facts import GuardView, StandingReceipt
from runbooks.fleet import Fleet
from runbooks.gates.blast import g2_blast_radius
from runbooks.gates.healthy import g5_minimum_healthy, minimum
from runbooks.levers import Kind, Page, kind
from runbooks.library import Library
from runbooks.plan import PlannedStep
from runbooks.planning import planned_steps
from runbooks.policy import DomainPolicy, LeverPolicy, Policy
from runbooks.policy_probe import MUCH, SHARES
from runbooks.policy_sample import World, detection_of, sample_fleet, targets_of_kind

BUDGETS = {
    "max_endpoints_down": ("endpoints_per_hour_in_pool", "endpoints_per_hour"),
    "max_nodes_out": ("nodes_per_hour",),
    "max_gpus": ("gpus_per_hour",),
    "largest_increment": ("share_per_hour",),
    "max_acts_per_hour": ("breaker_acts",),
}
"""Limit of a lever → budgets of the domain that count the same units."""
MOST_NODES = 8
"""Other nodes that are looked at beside a target: replicas go somewhere, and where does not matter here."""
Found = dict[str, Any]


class First(NamedTuple):
    """A step that the catalogue would take in this fleet, and its increments while nothing is in the way."""

    failure_class: str
    target: Target
    step: PlannedStep
    world: World
    changes: list[Change]


def first_increments(policy: Policy, library: Library, fleet: Fleet, now: datetime) -> Iterator[First]:
    """Every lever of every runbook on one target of each shape: pools of one size are alike to the gates."""
    shapes = {k: _shapes(fleet, k) for k in TargetKind}
    for runbook in library.runbooks.values():
        for name in runbook.applies_to:
            for target in shapes[TargetKind(name)]:
                near = around(fleet, target)
                steps, _ = planned_steps(
                    runbook, detection_of(target, now), library=library, policy=policy, fleet=near, now=now
                )
                for step in steps:
                    if isinstance(step.step, Page):
                        continue
                    changes, _ = World.of(near, step, target, now).walk(policy)
                    yield First(runbook.failure_class, target, step, World.of(near, step, target, now), changes)


def around(fleet: Fleet, target: Target) -> Fleet:
    """The part of the fleet that a target's steps can touch: a policy is checked in a second, however large the fleet is."""
    node = fleet.node(target.node or "") if target.service is None else None
    own = [target.service] if target.service else [*node.pools] if node is not None else []
    if not own:
        own = [p.name for p in fleet.pools if p.cluster == target.cluster][:3]
    routes = [r for r in fleet.routes if set(r.pools) & set(own)]
    keep = {*own, *(p for r in routes for p in r.pools)}
    hosts = [n for n in fleet.nodes if n is not node and set(n.pools) & keep][:MOST_NODES]
    nodes = [n.model_copy(update={"pools": tuple(p for p in n.pools if p in keep)}) for n in hosts]
    return fleet.model_copy(
        update={
            "routes": tuple(routes),
            "pools": tuple(p for p in fleet.pools if p.name in keep),
            "nodes": (*([node] if node is not None else []), *nodes),
        }
    )


def _shapes(fleet: Fleet, kind_: TargetKind) -> list[Target]:
    kept: dict[tuple[Any, ...], Target] = {}
    for target in targets_of_kind(fleet, kind_):
        pool, node = fleet.pool(target.service or ""), fleet.node(target.node or "")
        route = fleet.route_of(pool.name) if pool else None
        of_pool = (pool.size, pool.workload is None, len(route.pools) if route else 0) if pool else ()
        of_node = (node.gpus, tuple(sorted(p.size for n in node.pools if (p := fleet.pool(n))))) if node else ()
        kept.setdefault((of_pool, of_node), target)
    return list(kept.values())


def limit_findings(policy: Policy, library: Library, fleet: Fleet | None, now: datetime) -> Iterator[Found]:
    """Limits of levers, budgets and minimums."""
    own = fleet or sample_fleet()
    cases = list(first_increments(policy, library, own, now))
    usual = cases if fleet is None else list(first_increments(policy, library, sample_fleet(), now))
    yield from _never_met(policy, cases, usual)
    yield from _half_way(policy, cases)
    yield from _over_budget(policy)
    yield from _minimums(policy, own, cases)


def _never_met(policy: Policy, cases: list[First], usual: list[First]) -> Iterator[Found]:
    """A lever whose first increment cannot be planned, or that G2 refuses, and the limits of which each is enough for that.

    An error only where a `usual` fleet could not meet it either: a fleet of single replicas is no mistake of its policy.
    """
    never = {place for c in usual for place, _ in _culprits(policy, c)}
    for lever in dict.fromkeys(c.step.step.lever for c in cases):
        mine = [c for c in cases if c.step.step.lever == lever]
        blocked: dict[tuple[str, ...], list[tuple[First, str]]] = {}
        for case in mine:
            for place, why in _culprits(policy, case):
                blocked.setdefault(place, []).append((case, why))
        for place, refused in blocked.items():
            whose: Any = policy.domain if place[0] == "domain" else policy.for_lever(lever)
            value, why = getattr(whose, place[-1]), refused[0][1]
            if place[-1] == "max_acts_per_hour" and value == 0:
                yield _found("warning", f"0 blocks {lever} everywhere: right if that is meant", *place)
            elif len(refused) == len(mine) and place in never:
                openly = "or block the lever openly with max_acts_per_hour: 0"
                text = f"{value:g} stops every increment of {lever} ({why}): raise it, {openly}"
                yield _found("error", text, *place)
            else:
                yield _found(
                    "warning",
                    f"{value:g} stops every increment of {lever} {_whose(c for c, _ in refused)}: {why}",
                    *place,
                )


def _whose(cases: Iterable[First]) -> str:
    """`for CLASS on TARGET` of the first few."""
    named = list(dict.fromkeys(f"for {c.failure_class} on {c.target.service or c.target.id}" for c in cases))
    return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")


def _refusal(policy: Policy, case: First) -> str:
    """Why the first increment cannot be planned, or is refused by G2; empty when it can."""
    change = case.world.plan(policy)
    if isinstance(change, CannotPlan):
        return change.why
    return _g2(policy, case, change) if isinstance(change, Change) else ""


def _g2(policy: Policy, case: First, change: Change, view: GuardView | None = None) -> str:
    """Why G2 refuses the increment; empty when it does not."""
    verdict = g2_blast_radius(case.world.question(change, case.failure_class, policy), case.world.facts(change, view))
    return verdict.reason if verdict.outcome == "deny" else ""


def _culprits(policy: Policy, case: First) -> list[tuple[tuple[str, ...], str]]:
    """Each limit that stops the increment also while all the others are at their widest, with the words for it."""
    if not _refusal(policy, case):
        return []
    lever = case.step.step.lever
    limits, domain = policy.for_lever(lever), policy.domain
    wide = limits.model_copy(update={n: SHARES.get(n, MUCH) for n in _figures(limits)})
    most = domain.model_copy(update=dict.fromkeys(_figures(domain), MUCH))

    def under(mine: LeverPolicy, all_: DomainPolicy) -> str:
        return _refusal(policy.model_copy(update={"levers": {**policy.levers, lever: mine}, "domain": all_}), case)

    if under(wide, most):
        return []  # no limit is the reason
    found: list[tuple[tuple[str, ...], str]] = []
    for name in _figures(limits):
        why = under(wide.model_copy(update={name: getattr(limits, name)}), most)
        found += [(("levers", lever, name), why)] if why else []
    for name in _figures(domain):
        why = under(wide, most.model_copy(update={name: getattr(domain, name)}))
        found += [(("domain", name), why)] if why else []
    return found


def _figures(limits: LeverPolicy | DomainPolicy) -> list[str]:
    """Names of its fields that are numbers."""
    return [n for n in type(limits).model_fields if not isinstance(getattr(limits, n), bool)]


def _half_way(policy: Policy, cases: list[First]) -> Iterator[Found]:
    """A step that begins and can never be completed: what it moved itself stands against its next increment."""
    stopped: dict[tuple[str, str], list[First]] = {}
    for case in cases:
        lever: str = case.step.step.lever
        moved: dict[str, float] = {}
        for n, change in enumerate(case.changes):
            standing = StandingReceipt(
                receipt_id="r", case="c", lever=lever, target_id=case.target.id, share_moved=dict(moved),
                since=case.world.now,
            )  # fmt: skip
            why = _g2(policy, case, change, GuardView(domain=case.target.domain, standing=(standing,) if n else ()))
            if why:
                told = f"stops after {n} of {len(case.changes)} increments ({why.split(' (')[0]})"
                if n:
                    stopped.setdefault((lever, told), []).append(case)
                break
            for route, share in change.blast.share_moved.items():
                moved[route] = moved.get(route, 0.0) + share
    for (lever, told), ones in stopped.items():
        yield _found("warning", f"{lever} {told} {_whose(ones)}: right if half of it helps", "levers", lever)


def _over_budget(policy: Policy) -> Iterator[Found]:
    for lever, limits in policy.levers.items():
        for name in sorted(limits.model_fields_set & set(BUDGETS)):
            for budget in BUDGETS[name]:
                mine, whole = getattr(limits, name), getattr(policy.domain, budget)
                if mine > whole:
                    text = f"{mine:g} is more than domain.{budget} ({whole:g}) gives to all levers together: lower it, or raise that"
                    yield _found("warning", text, "levers", lever, name)
                    break


def _minimums(policy: Policy, fleet: Fleet, cases: list[First]) -> Iterator[Found]:
    """Pools in which G5 lets no lever take an endpoint out, even while all of them answer; said once for each size."""
    refused = {id(c): bool(_g5(policy, c)) for c in cases}
    touching = [refused[id(c)] for c in cases if any(b.blast.endpoints or b.blast.reserved_tps for b in c.changes)]
    severity = "error" if touching and all(touching) else "warning"
    field = "min_answering_count" if policy.min_answering_count > 1 else "min_answering"
    for size in sorted({p.size for p in fleet.pools}):
        alike = [c for c in cases if _takes(fleet, c, size)]
        if not alike or not all(refused[id(c)] for c in alike):
            continue
        pools = ", ".join(p.name for p in fleet.pools if p.size == size)
        levers = ", ".join(sorted({c.step.step.lever for c in alike}))
        text = (
            f"at least {minimum(policy, size)} of {size} must go on answering in {pools}, so none may be out and G5 refuses "
            f"{levers} even when all is well: lower it, or give it more endpoints"
        )
        yield _found(severity, text, field)


def _takes(fleet: Fleet, case: First, size: int) -> bool:
    """True when an increment takes an endpoint out of a pool of this size."""
    taken = {p for c in case.changes for p in (*c.blast.endpoints_down, *c.blast.restarting)}
    return any(p.size == size for n in taken if (p := fleet.pool(n)) is not None)


def _g5(policy: Policy, case: First) -> str:
    for change in case.changes:
        question = case.world.question(change, case.failure_class, policy)
        verdict = g5_minimum_healthy(question, case.world.facts(change))
        if verdict.outcome == "deny":
            return verdict.reason
    return ""


def unattended_findings(policy: Policy, library: Library) -> Iterator[Found]:
    """Classes in `auto` whose runbook comes to a lever that waits for a named person all the same (G6)."""
    now = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    fleet = sample_fleet()
    for runbook in library.runbooks.values():
        name = runbook.failure_class
        if policy.for_class(name).mode != "auto":
            continue
        for kind_ in runbook.applies_to:
            target = targets_of_kind(fleet, TargetKind(kind_))[0]
            sample = detection_of(target, now)
            steps, _ = planned_steps(runbook, sample, library=library, policy=policy, fleet=fleet, now=now)
            for lever in dict.fromkeys(s.step.lever for s in steps if kind(s.step) is Kind.IRREVERSIBLE):
                if not policy.for_lever(lever).unattended:
                    text = (
                        f"auto, and yet {lever} of {runbook.title!r} waits for a named, verified person, because it cannot be "
                        f"taken back: right if meant, else set levers.{lever}.unattended"
                    )
                    yield _found(
                        "warning", text, *(("classes", name) if name in policy.classes else ("default",)), "mode"
                    )


def _found(severity: str, text: str, *field: str) -> Found:
    return {"severity": severity, "field": field, "text": text}
