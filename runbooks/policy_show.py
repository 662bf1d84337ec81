"""`interlock policy show CLASS`: what would happen for a class under this policy, and why. Pure.

The steps are planned by the real planner on a target of the fleet, in a world where all is well (`policy_sample`); who is
asked and what refuses is the real gates' answer. Nothing here says again what a gate or the policy says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from runbooks.base import Model, Time
from runbooks.change import Change
from runbooks.decisions import same_person
from runbooks.detection import Target, TargetKind
from runbooks.facts import GuardView, Known, Unknown
from runbooks.fleet import Fleet
from runbooks.levers import Kind, Page, kind, takes_back_whole
from runbooks.library import Library
from runbooks.plan import GateVerdict, PlannedStep
from runbooks.planning import near, planned_steps
from runbooks.policy import Freeze, Policy
from runbooks.policy_limits import around
from runbooks.policy_probe import GateShown, Stop, gates_shown, limits_that_count, stops
from runbooks.policy_sample import World, detection_of, sample_fleet, targets_of_kind
from runbooks.safety import RANK, judge
from runbooks.schema import Criterion
from runbooks.several import one_view


class StepShown(Model):
    """One step of the runbook on the sample target."""

    id: str
    lever: str
    kind: Kind
    does: str
    targets: tuple[str, ...] = ()
    increments: tuple[str, ...] = Field(default=(), description="What each would write, while nothing is in the way.")
    ends_early: str = Field(default="", description="Why no further increment could be planned.")
    limits: dict[str, float] = Field(default_factory=dict, description="Limits of the lever that count here.")
    outcome: str = Field(description="The worst answer of the gates while all is well: allow or ask, as a rule.")
    because: tuple[str, ...] = Field(default=(), description="What the gates say that do not just allow.")
    now: str = Field(default="", description="The same with what the Guard says now, where it says something else.")
    proof: str = ""
    worse: str = ""
    cannot_tell: str = ""
    back: str = ""


class PeopleShown(Model):
    """Who may approve, and what counts."""

    group: str
    members: tuple[str, ...]
    quorum: int
    never: tuple[str, ...]
    four_eyes: bool
    named: bool = Field(description="A step cannot be taken back: only a named, verified person counts (G6).")
    accept_unverified: bool
    ttl_s: float


class DomainShown(Model):
    """One domain as its Guard tells it now. `why`: the Guard could not be asked, and nothing is known."""

    domain: str
    why: str = ""
    view: GuardView | None = None
    left: dict[str, str] = Field(default_factory=dict, description="Budget → what is left of it in this hour.")
    freeze: Freeze | None = None


class Shown(Model):
    """All of it."""

    failure_class: str
    definition: str
    mode: Literal["observe", "ask", "auto"]
    kind: TargetKind
    other_kinds: tuple[TargetKind, ...]
    target: str
    sample_fleet: bool
    policy: str
    policy_version: int
    policy_digest: str
    runbook: str
    steps: tuple[StepShown, ...]
    left_out: tuple[str, ...]
    people: PeopleShown | None = Field(default=None, description="None: nobody is asked.")
    domains: tuple[DomainShown, ...]
    gates: tuple[GateShown, ...]
    at: Time


class NothingToShow(Exception):
    """One sentence: no such class, or nothing of the fleet that it could be about."""


def show(
    failure_class: str,
    wanted: TargetKind | None,
    *,
    policy: Policy,
    library: Library,
    fleet: Fleet | None,
    now: datetime,
    guards: Mapping[str, GuardView | str],
) -> Shown:
    """`wanted` None: the first kind of target that a runbook of the class is for. `guards`: view, or why there is none."""
    own = fleet or sample_fleet()
    kinds = kinds_of(failure_class, library)
    kind_ = wanted or _telling(failure_class, kinds, library, own)
    found = library.pick(failure_class, kind_)
    if found is None:
        raise NothingToShow(
            f"there is no runbook for {failure_class} on a {kind_.value}, so it would only page; there is one for "
            f"{', '.join(k.value for k in kinds)}"
        )
    targets = targets_of_kind(own, kind_)
    if not targets:
        raise NothingToShow(f"the fleet has no {kind_.value}, so nothing of {failure_class} can happen to one")
    name, runbook = found
    sample = detection_of(targets[0], now)
    steps, problems = planned_steps(runbook, sample, library=library, policy=policy, fleet=own, now=now)
    shown: list[StepShown] = []
    probed: list[list[Stop]] = []
    for step in steps:
        one, probe = _step(step, failure_class, targets[0], policy, own, now, guards)
        shown.append(one)
        probed.append(probe)
    domains = sorted({d for s in steps for d in s.domains} or {targets[0].domain})
    described = next((c for c in library.taxonomy.classes if c.id == failure_class), None)
    return Shown(
        failure_class=failure_class,
        definition=described.definition if described is not None else "",
        mode=policy.for_class(failure_class).mode,
        kind=kind_,
        other_kinds=tuple(k for k in kinds if k is not kind_),
        target=targets[0].id,
        sample_fleet=fleet is None,
        policy=policy.ref,
        policy_version=policy.version,
        policy_digest=policy.digest,
        runbook=f"{name}: {runbook.title}",
        steps=tuple(shown),
        left_out=tuple(f"step {p.field[1] + 1 if isinstance(p.field[1], int) else '?'}: {p.why}" for p in problems),
        people=_people(failure_class, shown, policy),
        domains=tuple(_domain(d, policy, guards, now) for d in domains),
        gates=tuple(gates_shown(probed)),
        at=now,
    )


def kinds_of(failure_class: str, library: Library) -> list[TargetKind]:
    """Kinds of targets that the class has a runbook for, the narrowest first. NothingToShow: there is no such class."""
    classes = [c.id for c in library.taxonomy.classes]
    if failure_class not in classes:
        raise NothingToShow(f"there is no failure class {failure_class!r}{near(failure_class, classes)}")
    named = {k for r in library.runbooks.values() if r.failure_class == failure_class for k in r.applies_to}
    order = ("endpoint", "gpu", "node", "service", "cluster")
    kinds = [TargetKind(k) for k in order if k in named]
    if not kinds:
        raise NothingToShow(f"there is no runbook for {failure_class}, so it would only page")
    return kinds


def _telling(failure_class: str, kinds: list[TargetKind], library: Library, fleet: Fleet) -> TargetKind:
    """Of the kinds that the fleet has the first for which something acts: a page needs no explaining."""
    there = [k for k in kinds if targets_of_kind(fleet, k)] or kinds
    for one in there:
        found = library.pick(failure_class, one)
        if found is not None and any(s.lever != "page" for s in found[1].steps):
            return one
    return there[0]


def _step(
    step: PlannedStep,
    failure_class: str,
    target: Target,
    policy: Policy,
    fleet: Fleet,
    now: datetime,
    guards: Mapping[str, GuardView | str],
) -> tuple[StepShown, list[Stop]]:
    if isinstance(step.step, Page):
        page = StepShown(id=step.id, lever="page", kind=kind(step.step), does=step.step.summary, outcome="allow")
        return page, []
    world = World.of(fleet, step, target, now)
    changes, early = World.of(fleet, step, target, now).walk(policy)
    well = _verdicts(world, changes, failure_class, policy, None)
    view = _view(step, target, guards, now)
    today = _verdicts(world, changes[:1], failure_class, policy, view) if view is not None else well
    first = world.plan(policy)
    facts = world.facts(first)
    differs = [g for g in today if g.outcome != "allow" and g not in well]
    shown = StepShown(
        id=step.id,
        lever=step.step.lever,
        kind=kind(step.step),
        does=step.envelope.direction,
        targets=step.targets,
        increments=tuple(c.note for c in changes),
        ends_early=early,
        limits=limits_that_count(World.of(around(fleet, target), step, target, now), failure_class, policy),
        outcome=max((g.outcome for g in well), key=RANK.__getitem__, default="deny"),
        because=tuple(dict.fromkeys(_says(g) for g in well if g.outcome != "allow")),
        now="; ".join(dict.fromkeys(_says(g) for g in differs)),
        proof=_proof(step),
        worse=_worse(step),
        cannot_tell=_cannot_tell(step),
        back=_back(step),
    )
    return shown, stops(world.question(first, failure_class, policy), facts) if isinstance(first, Change) else []


def _view(step: PlannedStep, target: Target, guards: Mapping[str, GuardView | str], now: datetime) -> GuardView | None:
    """What the Guards of all its domains say together; None when one of them could not be asked."""
    views = [guards.get(d, "") for d in step.domains or (target.domain,)]
    whole = one_view([Known(value=v, observed_at=now) if isinstance(v, GuardView) else Unknown(why=v) for v in views])
    return whole.value if isinstance(whole, Known) else None


def _verdicts(
    world: World, changes: list[Change], failure_class: str, policy: Policy, view: GuardView | None
) -> list[GateVerdict]:
    """Each gate's word on each increment, each as if it were the first."""
    return [
        g
        for change in changes
        for g in judge(world.question(change, failure_class, policy), world.facts(change, view)).gates
    ]


def _says(verdict: GateVerdict) -> str:
    return f"{verdict.gate} {verdict.outcome}: {verdict.reason}"


def _proof(step: PlannedStep) -> str:
    verify = step.verify
    if verify is None:
        return ""
    each = " and ".join(map(_criterion, verify.criteria))
    return f"{each} for {verify.soak_s:g} s, within {verify.deadline_s:g} s"


def _criterion(one: Criterion) -> str:
    return f"{one.indicator} <= {one.below:g}" if one.below is not None else f"{one.indicator} >= {one.above:g}"


def _worse(step: PlannedStep) -> str:
    """As `workflows/acting.py` undoes."""
    if kind(step.step) is Kind.IRREVERSIBLE:
        return "cannot be taken back: people are told and own it"
    if takes_back_whole(step.step):
        return "the whole step is taken back, then the next step"
    return "the last increment is taken back, then the next step"


def _cannot_tell(step: PlannedStep) -> str:
    if step.on_cannot_tell == "keep_and_page":
        return "it stays, and people are told and own it"
    return _worse(step)


def _back(step: PlannedStep) -> str:
    on = {"stand": "", "next": "then the next step, also when it helped; "}.get(
        step.then, "it only makes room for the next step, and is taken back when that one does not stand; "
    )
    return on + _to_normal(step)


def _to_normal(step: PlannedStep) -> str:
    match kind(step.step):
        case Kind.RESTORABLE:
            shares = [f"{share:.0%}" for share in step.restore.ramp]
            ramp = f"in steps of {', '.join(shares)} of the way" if len(shares) > 1 else "at once"
            return f"put back {ramp} when the fault has been gone for {step.restore.clear_for_s:g} s"
        case Kind.PERMANENT:
            return "stays: it is the fix"
        case Kind.IRREVERSIBLE | Kind.HARMLESS:
            return "nothing to go back to"


def _people(failure_class: str, steps: list[StepShown], policy: Policy) -> PeopleShown | None:
    if all(s.outcome != "ask" for s in steps):
        return None
    rule = policy.for_class(failure_class)
    everybody = policy.groups.get(rule.approvers, ())
    return PeopleShown(
        group=rule.approvers,
        members=tuple(p for p in everybody if not any(same_person(p, n) for n in rule.never)),
        quorum=rule.quorum,
        never=rule.never,
        four_eyes=rule.four_eyes,
        named=any(b.startswith("G6 ask") for s in steps for b in s.because),
        accept_unverified=rule.accept_unverified and rule.quorum == 1,
        ttl_s=rule.approval_ttl_s,
    )


def _domain(domain: str, policy: Policy, guards: Mapping[str, GuardView | str], now: datetime) -> DomainShown:
    view, freeze = guards.get(domain, "it was not asked"), policy.frozen(domain, now)
    if isinstance(view, str):
        return DomainShown(domain=domain, why=view, freeze=freeze)
    limits, spent = policy.domain, view.spent
    used = {
        "endpoints_per_hour": (sum(spent.endpoints.values()), limits.endpoints_per_hour),
        "nodes_per_hour": (spent.nodes, limits.nodes_per_hour),
        "gpus_per_hour": (spent.gpus, limits.gpus_per_hour),
        "share_per_hour": (spent.share, limits.share_per_hour),
        "breaker_acts": (view.acts_last_hour, limits.breaker_acts),
    }
    left = {name: f"{most - gone:g} of {most:g}" for name, (gone, most) in used.items()}
    return DomainShown(domain=domain, view=view, left=left, freeze=freeze)
