"""What could stop a step, found by asking the real gates about a world that differs in one thing. No table of gates here.

A `Difference` is a question, in words: each gate's own answer to it is what people read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from runbooks.base import Model
from runbooks.change import Change
from runbooks.facts import ControlNow, Facts, FaultNow, GuardView, Known, PoolState, Spent, Unknown
from runbooks.fleet import ControlPlane, Fleet
from runbooks.gates.question import Question
from runbooks.guard_book import remedy
from runbooks.plan import GateVerdict
from runbooks.policy import Freeze, LeverPolicy, Policy
from runbooks.policy_sample import World
from runbooks.safety import GATES, judge

MUCH = 1_000_000
SHARES: dict[str, float] = dict.fromkeys(
    ("largest_increment", "largest_share", "max_share_down", "ask_over_share"), 1.0
)
"""What a share is at its widest; counts have no widest."""
FACTS = {
    "evidence_at": "the time of the evidence",
    "fault": "whether the fault holds now",
    "before": "what stands there now",
    "pools": "the state of the pools",
    "guard": "the Guard",
    "verifier": "what verify would measure",
    "skew_s": "the detector's clock",
    "dependencies": "the headroom of what it leans on",
    "control": "whether the control plane answers",
    "error_budget": "the error budget",
}
"""Facts in the words of people."""


class Difference(NamedTuple):
    """One thing that is not well. `change` gets the question and the facts, and gives both as they are then."""

    words: str
    change: Callable[[Question, Facts], tuple[Question, Facts]]


class Stop(Model):
    """What one gate says when one thing is not well."""

    gate: str
    outcome: str
    words: str


class GateShown(Model):
    """One gate: what it is for, in its own words, and when it stops this class's steps."""

    gate: str
    about: str
    stops: tuple[Stop, ...]


def about(gate: Callable[..., GateVerdict]) -> tuple[str, str]:
    """The gate's name, and the first sentence of its docstring."""
    text = " ".join((gate.__doc__ or "").split())
    return gate.__name__.split("_")[0].upper(), re.split(r"(?<=\w)[.:] ", text)[0].rstrip(".")


def stops(question: Question, facts: Facts) -> list[Stop]:
    """Every gate that stops this increment when one thing is not well, and that does not when all is."""
    well = {g.gate: g for g in judge(question, facts).gates}
    found: list[Stop] = []
    for difference in _differences(question, facts):
        for verdict in judge(*difference.change(question, facts)).gates:
            if verdict.outcome not in ("allow", well[verdict.gate].outcome):
                found.append(Stop(gate=verdict.gate, outcome=verdict.outcome, words=difference.words))
    return found


def gates_shown(found: list[list[Stop]]) -> list[GateShown]:
    """All gates in their order, with what stops any of the steps."""
    every = list(dict.fromkeys(s for step in found for s in step))
    return [
        GateShown(gate=name, about=text, stops=tuple(s for s in every if s.gate == name))
        for name, text in map(about, GATES)
    ]


def limits_that_count(world: World, failure_class: str, policy: Policy) -> dict[str, float]:
    """Limits of the lever that have a say in this step: at their narrowest or widest the planner or a gate says another thing."""
    lever = world.step.step.lever
    limits = policy.for_lever(lever)
    now = _answers(world, failure_class, policy)
    out: dict[str, float] = {}
    for name in LeverPolicy.model_fields:
        value = getattr(limits, name)
        if isinstance(value, bool):
            continue
        for other in (type(value)(0), SHARES.get(name, MUCH)):
            moved = {**policy.levers, lever: limits.model_copy(update={name: other})}
            if _answers(world, failure_class, policy.model_copy(update={"levers": moved})) != now:
                out[name] = value
    if "attempts" in out:
        out["cooldown_s"] = limits.cooldown_s
    return out


def _answers(world: World, failure_class: str, policy: Policy) -> list[str]:
    """What the planner and the gates say to the first and the last increment: a drain cordons first, and evicts after that."""
    changes, early = replace(world).walk(policy)
    out = [early]
    for change in (*changes[:1], *changes[1:][-1:]):
        verdict = judge(world.question(change, failure_class, policy), world.facts(change))
        out += [f"{g.gate} {g.outcome}" for g in verdict.gates]
    return out


def _differences(q: Question, f: Facts) -> Iterator[Difference]:
    yield from _unknowns(f)
    yield from _of_guard(q)
    yield from _of_world()
    yield from _of_pools()
    yield Difference("changes are frozen", _frozen)
    yield Difference("its control plane runs on what is sick", _leaning)
    yield Difference("the pools are of different residencies", lambda q, f: (_fleet(q, _labelled(q.fleet)), f))
    yield Difference("the pools are of different tenants", lambda q, f: (_fleet(q, _tenanted(q.fleet)), f))


def _unknowns(f: Facts) -> Iterator[Difference]:
    for name, words in FACTS.items():
        if getattr(f, name) is not None:
            yield Difference(f"{words} is unknown", _facts(**{name: Unknown(why="it could not be had")}))


def _of_guard(q: Question) -> Iterator[Difference]:
    what = remedy(q.step.step.lever, q.target.id, q.failure_class)
    yield Difference("the domain is halted", _view(halted="halted by somebody"))
    yield Difference("the breaker has tripped", _view(breaker="it tripped"))
    yield Difference("the domain is dirty", _view(dirty="something stands unverified"))
    yield Difference("many targets are sick at once", _view(correlated="many at once"))
    yield Difference("the lever acted too often this hour", _view(acts_last_hour=MUCH))
    yield Difference(
        "the domain's hourly budget is spent",
        _view(spent=Spent(endpoints={p.name: MUCH for p in q.fleet.pools}, nodes=MUCH, gpus=MUCH, share=float(MUCH))),
    )
    yield Difference(
        "it did not help this target lately",
        lambda q, f: _view(ineffective={what: f.now + timedelta(hours=1)})(q, f),
    )
    yield Difference(
        "it was tried as often as it may be", lambda q, f: _view(attempts={what: (f.now,) * q.limits.attempts})(q, f)
    )
    yield Difference("a halt ended after it was planned", lambda q, f: _view(resumed_at=f.now)(q, f))


def _of_world() -> Iterator[Difference]:
    yield Difference(
        "the evidence is old",
        lambda q, f: (q, _new(f, evidence_at=Known(value=f.now - timedelta(days=1), observed_at=f.now))),
    )
    yield Difference("the alert came late", lambda q, f: (q.model_copy(update={"alert_age_s": float(MUCH)}), f))
    yield Difference("the detector's clock is off", lambda q, f: (q, _new(f, skew_s=_at(f, float(MUCH)))))
    yield Difference("the fault is gone", lambda q, f: (q, _new(f, fault=_at(f, FaultNow(holds=False, detail="gone")))))
    yield Difference(
        "somebody changed it meanwhile",
        lambda q, f: (
            q,
            _new(f, before=_at(f, dict.fromkeys(q.change.before, "?") if isinstance(q.change, Change) else {})),
        ),
    )
    yield Difference("its control plane is slow", lambda q, f: (q, _new(f, control=_slow(f))))
    yield Difference("it was held too long", lambda q, f: (q.model_copy(update=_waited(f)), f))
    yield Difference(
        "the error budget is spent", lambda q, f: (q, _new(f, error_budget=_at(f, 0.0)) if f.error_budget else f)
    )


def _of_pools() -> Iterator[Difference]:
    yield Difference("whoever gets the load has no room", _pool(lambda p: {"load_tps": p.capacity_tps}))
    yield Difference("too few endpoints answer", _pool(lambda _: {"answering": 0, "capacity_tps": 0.0}))
    yield Difference("endpoints could not be probed", _pool(lambda _: {"answering": None}))
    yield Difference("the load could not be measured", _pool(lambda _: {"load_tps": None}))


def _facts(**more: Any) -> Callable[[Question, Facts], tuple[Question, Facts]]:
    return lambda q, f: (q, _new(f, **more))


def _view(**more: Any) -> Callable[[Question, Facts], tuple[Question, Facts]]:
    def change(q: Question, f: Facts) -> tuple[Question, Facts]:
        return q, _new(f, guard=_at(f, GuardView(domain=q.target.domain, **more)))

    return change


def _pool(more: Callable[[PoolState], dict[str, Any]]) -> Callable[[Question, Facts], tuple[Question, Facts]]:
    def change(q: Question, f: Facts) -> tuple[Question, Facts]:
        assert isinstance(f.pools, Known)
        pools = {n: p.model_copy(update=more(p)) for n, p in f.pools.value.items()}
        return q, _new(f, pools=_at(f, pools))

    return change


def _frozen(q: Question, f: Facts) -> tuple[Question, Facts]:
    now = Freeze(name="probe", starts=f.now - timedelta(hours=1), ends=f.now + timedelta(hours=1), reason="probe")
    return q.model_copy(update={"policy": q.policy.model_copy(update={"freezes": (now,)})}), f


def _leaning(q: Question, f: Facts) -> tuple[Question, Facts]:
    controls = [
        ControlPlane(cluster=c.cluster, kind=c.kind, runs_on=(*c.runs_on, q.target.id)) for c in q.fleet.controls
    ]
    return _fleet(q, q.fleet.model_copy(update={"controls": tuple(controls)})), f


def _labelled(fleet: Fleet) -> Fleet:
    pools = tuple(p.model_copy(update={"residency": f"probe-{p.name}"}) for p in fleet.pools)
    return fleet.model_copy(update={"pools": pools})


def _tenanted(fleet: Fleet) -> Fleet:
    pools = tuple(p.model_copy(update={"tenants": (f"probe-{p.name}",)}) for p in fleet.pools)
    return fleet.model_copy(update={"pools": pools})


def _fleet(q: Question, fleet: Fleet) -> Question:
    return q.model_copy(update={"fleet": fleet})


def _slow(f: Facts) -> Known[ControlNow]:
    assert isinstance(f.control, Known)
    return Known(value=f.control.value.model_copy(update={"answered_in_s": float(MUCH)}), observed_at=f.now)


def _waited(f: Facts) -> dict[str, Any]:
    return {"waited_s": float(MUCH), "planned_at": f.now - timedelta(days=1)}


def _at(f: Facts, value: Any) -> Any:
    return Known(value=value, observed_at=f.now)


def _new(f: Facts, **more: Any) -> Facts:
    return f.model_copy(update=more)
