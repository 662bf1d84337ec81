"""G3 by a table: whatever receives load, or grows, has room for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runbooks.change import Change, NothingToDo
from runbooks.facts import Facts, GuardView, StandingReceipt, Unknown
from runbooks.fleet import Dependency
from runbooks.gates.headroom import RESERVED_FOR_S, reserved
from runbooks.gates.question import Question
from runbooks.levers import IncreaseCapacity, RolloutHotfix
from runbooks.plan import GateVerdict
from tests.runbooks import clusters as c
from tests.runbooks import gate_cluster as k
from tests.runbooks.gate_lab import (
    FLEET,
    NOW,
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

A, B = "weight/chat/pool-a", "weight/chat/pool-b"
MOVE = {"share_moved": {"chat": 0.2}, "reserved_tps": {"pool-b": 30.0}}
X = Unknown(why="x")
ASK: Any = {"policy": policy(ask_on_unknown=("G3",))}
HOTFIX = STEP.model_copy(update={"step": RolloutHotfix(rings=(("pool-a",),), image="e:2")})


def no(reason: str, **more: Any) -> GateVerdict:
    """Refused."""
    return verdict("G3", "deny", reason, **more)


def yes(reason: str) -> GateVerdict:
    """There is room."""
    return verdict("G3", "allow", reason)


def loads(a: float | None = 40.0, b: float | None = 40.0, guard: Any = None) -> Facts:
    """So many tokens/s are asked of the pools; three and four of their endpoints answer."""
    pools = known({"pool-a": pool("pool-a", load=a), "pool-b": pool("pool-b", 4, load=b)})
    return facts(pools=pools, guard=guard or known(GuardView(domain="lab")))


def failing(share: float | None) -> Facts:
    """Pool-b fails this share of what it is asked."""
    sick = pool("pool-b", 4, load=40.0).model_copy(update={"failing": share})
    return facts(pools=known({"pool-a": pool("pool-a", load=40.0), "pool-b": sick}))


def promised(tps: float = 20.0, age_s: float = 1.0, case: str = "other#1.1", to: str = "pool-b") -> Any:
    """Another case has moved so much to the pool."""
    receipt = StandingReceipt(
        receipt_id="r", case=case, lever="reroute_traffic", target_id="t", since=NOW - timedelta(seconds=age_s),
        reserved_tps={to: tps},
    )  # fmt: skip
    return known(
        GuardView(domain="lab", standing=(receipt, receipt.model_copy(update={"reserved_tps": {"else": 1.0}})))
    )


def moves(**more: Any) -> Question:
    """May 30 tokens/s go to pool-b, which can serve 96?"""
    return question(change=change(**MOVE), **more)


def back(before: dict[str, Any], after: dict[str, Any], purpose: str = "restore") -> Question:
    """A way back of weights."""
    return question(purpose=purpose, change=Change(before=before, after=after, last=True))


def at(weights: dict[str, Any], a: float | None = 40.0, b: float | None = 40.0) -> Facts:
    """The weights that stand now."""
    return loads(a, b).model_copy(update={"before": known(weights)})


def grows(at_once: int = 2, of: str = "big", **more: Any) -> Question:
    """May the pool grow?"""
    return k.ask(IncreaseCapacity(pool=of, by=3, at_once=at_once), {"gpus": 2}, **more)


NOTHING = yes("nothing receives more load")
CARRIES = yes("pool-a carries 40 of 90 tokens/s")
RAISED = back({A: 0, B: 100}, {A: 50, B: 50})
G3 = [
    (CARRIES, question(), facts()),
    (yes("pool-a carries 90 of 90 tokens/s"), question(), loads(90.0)),
    (no("pool-a is asked for 91 tokens/s and the 3 endpoint(s) left can serve 90"), question(), loads(91.0)),
    (NOTHING, question(change=NothingToDo(why="done")), facts(pools=X, guard=X)),
    (NOTHING, question(purpose="undo"), facts(pools=X, guard=X)),
    (NOTHING, question(change=change(refused_share=0.1)), facts(pools=X)),
    (no("the headroom that is promised already is unknown: x", unknown=True),
     question(change=change(refused_share=0.1)), facts(guard=X)),
    (verdict("G3", "ask", "the headroom that is promised already is unknown (x); policy asks people"),
     question(**ASK), facts(guard=X)),
    (no("the load of pool-a is unknown: tokens/s could not be measured", unknown=True), question(), loads(None)),
    (verdict("G3", "ask", "the load of pool-a is unknown (tokens/s could not be measured); policy asks people"),
     question(**ASK), loads(None)),
    (no("the state of pool pool-a is unknown: x", unknown=True), question(), facts(pools=X)),
    (verdict("G3", "ask", "the state of pool pool-a is unknown (x); policy asks people"), question(**ASK), facts(pools=X)),
    (no("how many endpoints of pool-a answer is unknown: they could not be probed", unknown=True),
     question(), facts(pools=known({"pool-a": pool("pool-a", None)}))),
    (no("nowhere is asked for 5 tokens/s and the 3 endpoint(s) left can serve 0"),
     question(change=change(endpoints_down={"nowhere": 1})), facts(pools=known({"nowhere": pool("nowhere", load=5.0)}))),
    # A rollout that takes none that answers needs no room; one that does, does.
    (yes("pool-a loses none that answers"), question(step=HOTFIX, change=change(restarting={"pool-a": 1})), loads(None)),
    (no("pool-a is asked for 91 tokens/s and the 1 endpoint(s) left can serve 30"),
     question(step=HOTFIX, change=change(restarting={"pool-a": 3})), loads(91.0)),
    # A surge that goes back.
    (yes("pool-a carries 40 of 60 tokens/s"), back({"replicas/pool-a": 4}, {"replicas/pool-a": 2}), loads()),
    (no("pool-a is asked for 61 tokens/s and the 2 endpoint(s) left can serve 60"),
     back({"replicas/pool-a": 4}, {"replicas/pool-a": 2}), loads(61.0)),
    (no("pool-a is asked for 61 tokens/s and the 2 endpoint(s) left can serve 60"),
     back({"replicas/pool-a": 4}, {"replicas/pool-a": 2}, "undo"), loads(61.0)),
    (yes("pool-a loses none that answers"), back({"replicas/pool-a": 4}, {"replicas/pool-a": 3}, "undo"), loads(None)),
    (no("the load of pool-a is unknown: tokens/s could not be measured", unknown=True),
     back({"replicas/pool-a": 4}, {"replicas/pool-a": 3}), loads(None)),
    # Whoever receives: 0.8 of 120 tokens/s is its limit, and what others were promised lately counts.
    (yes("pool-b would carry 70 of 96 tokens/s"), moves(), loads()),
    (yes("pool-b would carry 96 of 96 tokens/s"), moves(), loads(b=66.0)),
    (no("pool-b would carry 97 tokens/s; 96 is its limit"), moves(), loads(b=67.0)),
    (yes("pool-b would carry 90 of 96 tokens/s"), moves(), loads(guard=promised())),
    (no("pool-b would carry 97 tokens/s; 96 is its limit"), moves(), loads(guard=promised(27.0))),
    (no("pool-b would carry 97 tokens/s; 96 is its limit"), moves(), loads(guard=promised(27.0, 30.0))),
    (yes("pool-b would carry 70 of 96 tokens/s"), moves(), loads(guard=promised(27.0, 30.1))),
    (yes("pool-b would carry 70 of 96 tokens/s"), moves(), loads(guard=promised(27.0, case="me#1.1"))),
    (no("pool-b would carry 97 tokens/s; 96 is its limit"), moves(), loads(guard=promised(27.0, case="me-too#1.1"))),
    (no("the load of pool-b is unknown: tokens/s could not be measured", unknown=True), moves(), loads(b=None)),
    (verdict("G3", "ask", "the load of pool-b is unknown (tokens/s could not be measured); policy asks people"),
     moves(**ASK), loads(b=None)),
    (no("the state of pool pool-b is unknown: it was not measured", unknown=True),
     moves(), facts(pools=known({"pool-a": pool("pool-a")}))),
    (yes("spare would carry 30 of 96 tokens/s"), question(change=change(reserved_tps={"spare": 30.0})),
     facts(pools=known({"spare": pool("spare", 4, load=0.0)}))),
    (no("pool-b would carry 70 tokens/s; 60 is its limit"),
     moves(fleet=FLEET.model_copy(update={"routes": (FLEET.routes[0].model_copy(update={"target_utilisation": 0.5}),)})), loads()),
    (yes("pool-a carries 40 of 90 tokens/s; pool-b would carry 70 of 96 tokens/s"),
     question(change=change(endpoints_down={"pool-a": 1}, **MOVE)), loads()),
    # A pool whose users are failed already looks idle (oai-2024-04-10, after the first increment).
    (no("pool-b itself fails 11% of its requests; one that fails over 10% receives nothing"), moves(), failing(0.11)),
    (yes("pool-b would carry 70 of 96 tokens/s"), moves(), failing(0.1)),
    (yes("pool-b would carry 70 of 96 tokens/s"), moves(), failing(None)),
    # A restore gives back a share of all that the route carries now.
    (yes("pool-a would carry 64 of 72 tokens/s"), RAISED, at({A: 0, B: 100}, 24.0, 56.0)),
    (no("pool-a would carry 80 tokens/s; 72 is its limit"), RAISED, at({A: 0, B: 100})),
    (no("pool-a would carry 120 tokens/s; 72 is its limit"), RAISED, at({})),
    (no("pool-a would carry 120 tokens/s; 72 is its limit"), RAISED, loads().model_copy(update={"before": X})),
    (no("pool-a would carry 80 tokens/s; 72 is its limit"), RAISED, at({A: 0, B: 100, "mode": "x"})),
    (no("the load of pool-a is unknown: tokens/s could not be measured", unknown=True), RAISED, at({A: 0, B: 100}, None)),
    (yes("pool-a would carry 60 of 72 tokens/s"), RAISED, at({A: 0, B: 100}, 40.0, None)),
    (yes("pool-a would carry 48 of 72 tokens/s; pool-b would carry 48 of 96 tokens/s"),
     back({A: 40, B: 40}, {A: 50, B: 50}), at({A: 50, B: 50})),
    (NOTHING, back({A: 50, B: 50}, {A: 50, B: 50}), at({A: 50, B: 50})),
    (NOTHING, back({A: 60}, {A: 50}), at({A: 50, B: 50})),
    (NOTHING, back({"admit/chat/batch": 50}, {"admit/chat/batch": 100}), at({})),
    (NOTHING, back({A: "0"}, {A: 50}), at({})),
    (NOTHING, back({A: 0}, {A: "50"}), at({})),
    (NOTHING, back({"cordon/n1": "on"}, {"cordon/n1": "off"}), facts(pools=X)),
    (yes("pool-b would carry 40 of 96 tokens/s"), back({"weight/none/pool-b": 0}, {"weight/none/pool-b": 50}), at({})),
    (NOTHING, back({A: 0, B: 100}, {A: 50, B: 50}, "act"), at({A: 0, B: 100})),
    (yes("pool-a would carry 60 of 72 tokens/s"), RAISED, at({A: 0, B: 100}).model_copy(
        update={"pools": known({"pool-a": pool("pool-a", load=40.0)})})),
    (no("the state of pool pool-a is unknown: x", unknown=True), RAISED, facts(pools=X)),
    # What more replicas lean on.
    (yes("registry has room for 5 more"), grows(), k.facts()),
    (yes("registry has room for 2 more"), grows(), k.facts(dependencies=k.known({"registry": 2.0}))),
    (no("registry has room for 1.5 more replica(s), and 2 are wanted"), grows(), k.facts(dependencies=k.known({"registry": 1.5}))),
    (yes("registry has room for 1 more"), grows(1), k.facts(dependencies=k.known({"registry": 1.0}))),
    (no("the headroom of registry is unknown: it was not measured", unknown=True), grows(), k.facts(dependencies=None)),
    (no("the headroom of registry is unknown: it was not measured", unknown=True), grows(), k.facts(dependencies=k.known({}))),
    (no("the headroom of registry is unknown: away", unknown=True), grows(), k.facts(dependencies=Unknown(why="away"))),
    (NOTHING, grows(of="small"), k.facts(dependencies=None)),
    (NOTHING, grows(of="nowhere"), k.facts(dependencies=None)),
    (NOTHING, grows(purpose="restore"), k.facts(dependencies=None)),
    (NOTHING, k.ask(IncreaseCapacity(pool="pool-a"), {"gpus": 1}, fleet=FLEET), k.facts(dependencies=None)),
    (yes("big carries 40 of 60 tokens/s"), k.ask(k.DRAIN, k.EVICT), k.facts(dependencies=None)),
    (no("big is asked for 70 tokens/s and the 2 endpoint(s) left can serve 60"),
     k.ask(k.DRAIN, k.EVICT), k.facts(pools=k.known({"big": k.pool("big", load=70.0)}))),
]  # fmt: skip


def emptying(case: str = "other#1.1", lever: str = "reroute_traffic", age_s: float = 99.0) -> Facts:
    """A change of pool-b stands for longer than promises are counted."""
    receipt = StandingReceipt(
        receipt_id="r", case=case, lever=lever, target_id="lab/service/pool-b", since=NOW - timedelta(seconds=age_s)
    )
    return loads(guard=known(GuardView(domain="lab", standing=(receipt,))))


AGREED: dict[str, Any] = {**ASK, "approved": True}
EMPTIED = no("pool-b is being emptied by another case: nothing new goes there")
NO_GUARD = "the headroom that is promised already is unknown (x); named people have approved it all the same"
G3 += [
    # Nothing goes into a pool that another case moves load away from: two cases would move it to and fro.
    (EMPTIED, moves(), emptying()),
    (EMPTIED, moves(), emptying("me-too#1.1")),
    (yes("pool-b would carry 70 of 96 tokens/s"), moves(), emptying("me#1.1")),
    (yes("pool-b would carry 70 of 96 tokens/s"), moves(), emptying(lever="isolate_endpoint")),
    # What people have allowed though it is unknown hides nothing that is known to have no room.
    (yes(f"{NO_GUARD}; pool-a carries 40 of 90 tokens/s"), question(**AGREED), facts(guard=X)),
    (no("pool-a is asked for 91 tokens/s and the 3 endpoint(s) left can serve 90"), question(**AGREED), loads(91.0, guard=X)),
    (no("pool-a is asked for 91 tokens/s and the 3 endpoint(s) left can serve 90"), question(**ASK), loads(91.0, guard=X)),
    (verdict("G3", "ask", "the headroom that is promised already is unknown (x); policy asks people"),
     question(**ASK), facts(guard=X)),
    (no("the headroom that is promised already is unknown: x", unknown=True), question(approved=True), facts(guard=X)),
    (no("pool-b would carry 97 tokens/s; 96 is its limit"), moves(**AGREED), loads(b=67.0, guard=X)),
]  # fmt: skip


@table(*G3)
def test_whatever_receives_load_has_room_for_it(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """At its limit it is allowed, one token per second more is not."""
    agrees(wanted, asked, seen)


def test_promises_of_several_cases_add_up_until_the_load_shows_them() -> None:
    """Thirty seconds, then the measured load has them."""
    one = promised(20.0).value.standing[0]
    two = one.model_copy(update={"receipt_id": "r2", "reserved_tps": {"pool-b": 5.0}})
    gone = one.model_copy(update={"receipt_id": "r3", "since": NOW - timedelta(seconds=RESERVED_FOR_S + 1)})
    view = GuardView(domain="lab", standing=(gone, one, two))
    assert reserved(view, "me", NOW) == {"pool-b": 25.0}
    assert reserved(view, "other", NOW) == {}


@pytest.mark.parametrize("names", [("registry", "quota")])
def test_every_named_dependency_must_have_room(names: tuple[str, ...]) -> None:
    """The first that has none refuses; both are in the reason when both have."""
    big = c.FLEET.pools[0]
    assert big.workload is not None
    work = big.workload.model_copy(update={"depends_on": names})
    fleet = c.FLEET.model_copy(
        update={
            "pools": (big.model_copy(update={"workload": work}), c.FLEET.pools[1]),
            "dependencies": tuple(Dependency(name=n, headroom="room") for n in names),
        }
    )
    agrees(
        yes("registry has room for 5 more; quota has room for 3 more"),
        grows(fleet=fleet),
        k.facts(dependencies=k.known({"registry": 5.0, "quota": 3.0})),
    )
    agrees(
        no("quota has room for 0 more replica(s), and 2 are wanted"),
        grows(fleet=fleet),
        k.facts(dependencies=k.known({"registry": 5.0, "quota": 0.0})),
    )
    agrees(
        no("the headroom of registry, quota is unknown: it was not measured", unknown=True),
        grows(fleet=fleet),
        k.facts(dependencies=None),
    )
