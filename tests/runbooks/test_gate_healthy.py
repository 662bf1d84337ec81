"""G5 by a table: the minimum of answering endpoints is never crossed. And how many would still answer, lever by lever."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.change import Blast, Change, NothingToDo
from runbooks.detection import Target
from runbooks.facts import Facts, FaultNow, PoolState, Unknown
from runbooks.gates.healthy import minimum
from runbooks.gates.question import Question
from runbooks.gates.replicas import answering, going, no_fewer
from runbooks.levers import IsolateEndpoint, RestartEngine, RollbackChange, RolloutHotfix, Step
from runbooks.plan import GateVerdict
from runbooks.schema import Criterion
from tests.runbooks import gate_cluster as k
from tests.runbooks.gate_lab import (
    NOW,
    SICK,
    STEP,
    agrees,
    change,
    facts,
    known,
    policy,
    pool,
    question,
    table,
    verdict,
)

ALL_ASK: Any = ("G2", "G3", "G8", "G9", "G10", "G13", "G15")
HOTFIX = RolloutHotfix(rings=(("pool-a",),), image="e:2")
MOVE = {"share_moved": {"chat": 0.2}, "reserved_tps": {"pool-b": 30.0}}
POOL_A = Target(cluster="lab", service="pool-a")


def pools(**states: Any) -> Facts:
    """These pools are measured, and no other."""
    return facts(pools=known({s.pool: s for s in states.values()}))


def a(answering: int | None, endpoints: int = 4) -> Facts:
    """So many of pool-a answer."""
    return pools(a=pool("pool-a", answering, endpoints=endpoints))


def b(answering: int | None) -> Facts:
    """So many of pool-b answer."""
    return pools(b=pool("pool-b", answering))


def with_step(step: Step, **more: Any) -> Question:
    """The same question about another lever."""
    return question(step=STEP.model_copy(update={"step": step, **more.pop("planned", {})}), **more)


def fewer(purpose: str, by: int = 1, of: int = 4) -> Question:
    """A surge of the pool goes back."""
    back = Change(before={"replicas/pool-a": of}, after={"replicas/pool-a": of - by}, last=True)
    return question(purpose=purpose, change=back)


def no(reason: str, **more: Any) -> GateVerdict:
    """Refused."""
    return verdict("G5", "deny", reason, **more)


def yes(reason: str) -> GateVerdict:
    """Enough go on answering."""
    return verdict("G5", "allow", reason)


def short(reason: str) -> GateVerdict:
    """Refused for who gave no token at this look: asked again, since the next one may tell another story."""
    return no(reason, unknown=True)


NO_PROBE = "how many endpoints of {} answer is unknown: they could not be probed"
X = Unknown(why="x")
NONE = yes("no endpoint is taken out")
CANARY = STEP.model_copy(update={"healthy": Criterion(indicator="canary_pass", above=1.0)})
G5 = [
    (yes("3 of 4 in pool-a go on answering (minimum 2)"), question(), facts()),
    (yes("2 of 4 in pool-a go on answering (minimum 2)"), question(), a(2)),
    (short("1 of 4 endpoints of pool-a would answer; 2 is the minimum"), question(), a(1)),
    (NONE, question(change=NothingToDo(why="done")), facts(pools=X)),
    (NONE, question(change=change(refused_share=0.1)), facts(pools=X)),
    (NONE, question(purpose="undo"), facts(pools=X)),
    (NONE, question(purpose="restore"), facts(pools=X)),
    (no(NO_PROBE.format("pool-a"), unknown=True), question(), a(None)),
    (no("the state of pool pool-a is unknown: x", unknown=True), question(), facts(pools=X)),
    (no("the state of pool pool-a is unknown: it was not measured", unknown=True), question(), b(4)),
    (no("the state of pool pool-a is unknown: x", unknown=True), question(policy=policy(ask_on_unknown=ALL_ASK)), facts(pools=X)),
    (no(NO_PROBE.format("pool-a"), unknown=True), question(policy=policy(ask_on_unknown=ALL_ASK)), a(None)),
    # Bad output is still output: who gives tokens counts as lost when it is taken out for another reason.
    (yes("3 of 4 in pool-a go on answering (minimum 2)"), question(step=CANARY), a(4)),
    (short("1 of 4 endpoints of pool-a would answer; 2 is the minimum"), question(step=CANARY), a(2)),
    (short("1 of 4 endpoints of pool-a would answer; 2 is the minimum"), question(target=POOL_A), a(2)),
    (short("1 of 4 endpoints of pool-a would answer; 2 is the minimum"), question(), a(2).model_copy(
        update={"fault": known(FaultNow(holds=False, detail="3 tokens"))})),
    (short("1 of 4 endpoints of pool-a would answer; 2 is the minimum"), question(), a(2).model_copy(update={"fault": X})),
    # Replicas that are down until their successors serve.
    (yes("2 of 3 in big answer meanwhile (minimum 2)"), k.ask(k.DRAIN, k.EVICT), k.facts()),
    (short("1 replica(s) of big would answer meanwhile; 2 is the minimum"),
     k.ask(k.RESTART, k.EVICT), k.facts(pools=k.known({"big": k.pool("big", 2)}))),
    (no(NO_PROBE.format("big"), unknown=True), k.ask(k.RESTART, k.EVICT), k.facts(pools=k.known({"big": k.pool("big", None)}))),
    (no(NO_PROBE.format("big"), unknown=True),
     k.ask(k.RESTART, k.EVICT, k.policy().model_copy(update={"ask_on_unknown": ALL_ASK})),
     k.facts(pools=k.known({"big": k.pool("big", None)}))),
    (no("the state of pool big is unknown: x", unknown=True),
     k.ask(k.RESTART, k.EVICT, k.policy().model_copy(update={"ask_on_unknown": ALL_ASK})), k.facts(pools=X)),
    (NONE, k.ask(k.DRAIN, {}, purpose="restore"), k.facts()),
    # A rollout that replaces only what is broken takes none that answers: a broken pool must not be kept from it.
    (yes("1 of 4 in pool-a answer meanwhile (minimum 2)"), with_step(HOTFIX, change=change(restarting={"pool-a": 1})), a(1)),
    (no("1 replica(s) of pool-a would answer meanwhile; 2 is the minimum"),
     with_step(HOTFIX, change=change(restarting={"pool-a": 3})), a(3)),
    # A surge goes back: the controller ends first what is not ready.
    (yes("3 of 4 in pool-a answer meanwhile (minimum 2)"), fewer("undo"), a(4)),
    (yes("1 of 4 in pool-a answer meanwhile (minimum 2)"), fewer("undo", 3), a(1)),
    (no("1 replica(s) of pool-a would answer meanwhile; 2 is the minimum"), fewer("undo", 3), a(3)),
    (no("1 replica(s) of pool-a would answer meanwhile; 2 is the minimum"), fewer("restore", 3), a(3)),
    (NONE, fewer("act"), a(4)),
    (no(NO_PROBE.format("pool-a"), unknown=True), fewer("restore"), a(None)),
    # Whoever receives load must itself be well.
    (yes("4 of 4 answer in receiving pool-b"), question(change=change(**MOVE)), b(4)),
    (yes("2 of 4 answer in receiving pool-b"), question(change=change(**MOVE)), b(2)),
    (short("receiving pool pool-b is itself below its minimum"), question(change=change(**MOVE)), b(1)),
    # Whatever the next look says: not even all of them would be enough.
    (no("1 of 2 endpoints of pool-a would answer; 2 is the minimum"), question(policy=policy(min_answering_count=2)), a(1, 2)),
    (no("0 of 2 endpoints of pool-a would answer; 2 is the minimum"),
     question(step=CANARY, policy=policy(min_answering_count=2)), a(1, 2)),
    (no("1 of 4 endpoints of pool-a would answer; 2 is the minimum"), question(),
     pools(a=pool("pool-a", 1).model_copy(update={"in_rotation": 2}))),
    (short("1 of 4 endpoints of pool-a would answer; 2 is the minimum"), question(),
     pools(a=pool("pool-a", 1).model_copy(update={"in_rotation": 3}))),
    (no("0 replica(s) of big would answer meanwhile; 2 is the minimum"), k.ask(k.RESTART, k.EVICT),
     k.facts(pools=k.known({"big": k.pool("big", 1).model_copy(update={"in_rotation": 2})}))),
    (no("receiving pool pool-b is itself below its minimum"), question(change=change(**MOVE)),
     pools(b=pool("pool-b", 1).model_copy(update={"in_rotation": 1}))),
    (short("receiving pool pool-b is itself below its minimum"), question(change=change(**MOVE)),
     pools(b=pool("pool-b", 1).model_copy(update={"in_rotation": 2}))),
    (no(NO_PROBE.format("pool-b"), unknown=True), question(change=change(**MOVE)), b(None)),
    (no(NO_PROBE.format("pool-b"), unknown=True), question(change=change(**MOVE), policy=policy(ask_on_unknown=ALL_ASK)), b(None)),
    (no("the state of pool pool-b is unknown: it was not measured", unknown=True),
     question(change=change(**MOVE), policy=policy(ask_on_unknown=ALL_ASK)), a(4)),
    (yes("3 of 4 in pool-a go on answering (minimum 2); 4 of 4 in pool-b answer meanwhile (minimum 2); "
         "4 of 4 answer in receiving pool-b"),
     question(change=change(endpoints_down={"pool-a": 1}, restarting={"pool-b": 1}, **MOVE)), facts()),
]  # fmt: skip
# Even a policy that no file can hold: it would ask about this gate, and the gate denies.
FORGED = policy().model_copy(update={"ask_on_unknown": ("G5",)})
ASKS = " is unknown (x); policy asks people"
NO_PROBE_ASKS = "how many endpoints of {} answer is unknown (they could not be probed); policy asks people"
G5 += [
    (no("the state of pool pool-a" + ASKS), question(policy=FORGED), facts(pools=X)),
    (no(NO_PROBE_ASKS.format("pool-a")), question(policy=FORGED), a(None)),
    (no("the state of pool pool-a" + ASKS), question(policy=FORGED, change=change(restarting={"pool-a": 1})), facts(pools=X)),
    (no(NO_PROBE_ASKS.format("pool-a")), question(policy=FORGED, change=change(restarting={"pool-a": 1})), a(None)),
    (no("the state of pool pool-b" + ASKS), question(policy=FORGED, change=change(**MOVE)), facts(pools=X)),
]  # fmt: skip


@table(*G5)
def test_the_minimum_is_never_crossed(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """At the minimum it is allowed, one below it is not."""
    agrees(wanted, asked, seen)


@pytest.mark.parametrize(("share", "count", "endpoints", "least"), [
    (0.5, 1, 4, 2), (0.5, 1, 3, 2), (0.5, 1, 1, 1), (0.0, 1, 4, 1), (0.0, 3, 4, 3), (0.1, 1, 10, 1), (0.7, 1, 10, 7), (1.0, 1, 3, 3),
])  # fmt: skip
def test_the_minimum_is_a_share_rounded_up_and_a_count(share: float, count: int, endpoints: int, least: int) -> None:
    """Seven of ten is seven, although 0.7 times ten is a little more on a computer."""
    assert minimum(policy(min_answering=share, min_answering_count=count), endpoints) == least


STATE = pool("pool-a", 3)


def left(step: Step, state: PoolState = STATE, fault: Any = None, **blast: Any) -> object:
    """How many of pool-a would still answer."""
    asked = with_step(step, change=change(**blast))
    seen = facts() if fault is None else facts(fault=fault)
    return answering(asked, seen, "G5", state)


def test_what_a_lever_leaves_depends_on_whether_the_one_it_takes_gives_tokens() -> None:
    """The sick endpoint of the target is not among those that answer; another one is."""
    out: dict[str, Any] = {"endpoints_down": {"pool-a": 1}}
    here: dict[str, Any] = {"restarting": {"pool-a": 1}}
    restart = RestartEngine(pool="pool-a", endpoint=SICK, older_than=NOW)
    assert left(IsolateEndpoint(pool="pool-a", endpoint=SICK), **out) == 3
    assert left(IsolateEndpoint(pool="pool-a", endpoint="a-2:8000"), **out) == 2
    assert left(restart, **here) == 3
    assert left(RestartEngine(pool="pool-a", older_than=NOW), **here) == 2
    assert left(restart, restarting={"pool-a": 1}, endpoints_down={"pool-a": 1}, fault=X) == 1
    assert left(IsolateEndpoint(pool="pool-a", endpoint=SICK), endpoints_down={"pool-b": 1}, fault=X) == 3


def test_a_rollout_ends_what_is_not_ready_first() -> None:
    """The more replicas are broken, the less it takes."""
    for step in (HOTFIX, RollbackChange(pool="pool-a", fault_began=NOW)):
        assert left(step, restarting={"pool-a": 1}) == 3
        assert left(step, restarting={"pool-a": 2}) == 2
        assert left(step, restarting={"pool-a": 9}) == 0
        assert no_fewer(with_step(step), STATE, 3)
        assert not no_fewer(with_step(step), STATE, 2)
    assert not no_fewer(question(), STATE, 3)


@pytest.mark.parametrize(
    ("before", "after", "purpose", "gone"),
    [
        ({"replicas/pool-a": 4}, {"replicas/pool-a": 1}, "undo", {"pool-a": 3}),
        ({"replicas/pool-a": 4}, {"replicas/pool-a": 3}, "restore", {"pool-a": 1}),
        ({"replicas/pool-a": 4}, {"replicas/pool-a": 3}, "act", {}),
        ({"replicas/pool-a": 4}, {"replicas/pool-a": 4}, "undo", {}),
        ({"replicas/pool-a": 4}, {"replicas/pool-a": 5}, "undo", {}),
        ({"weight/pool-a": 4}, {"weight/pool-a": 3}, "undo", {}),
        ({}, {"replicas/pool-a": 3}, "undo", {}),
        ({"replicas/pool-a": 4}, {"replicas/pool-a": "gone"}, "undo", {}),
    ],
    ids=["three", "one", "an act", "the same", "more", "a weight", "no before", "text"],
)
def test_only_a_way_back_that_lowers_replicas_takes_some(
    before: dict[str, Any], after: dict[str, Any], purpose: str, gone: dict[str, int]
) -> None:
    """Read from the settings, since a way back has no blast of its own."""
    assert going(question(purpose=purpose, change=Change(before=before, after=after, blast=Blast(), last=True))) == gone
    assert going(question(purpose=purpose, change=NothingToDo(why="done"))) == {}
