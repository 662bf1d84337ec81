"""G12 by a table: requests go only where they may be served, and what was moved may come home."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.change import CannotPlan, Change, NothingToDo
from runbooks.facts import Facts
from runbooks.fleet import Fleet
from runbooks.gates.placement import moved
from runbooks.gates.question import Question
from runbooks.plan import GateVerdict
from runbooks.policy import Placement
from tests.runbooks.gate_lab import FLEET, agrees, facts, policy, question, table, verdict

A, B = "weight/chat/pool-a", "weight/chat/pool-b"
AWAY = Change(before={A: 60, B: 40}, after={A: 40, B: 60}, last=True)
"""From pool-a to pool-b."""


def fleet(a: dict[str, Any], b: dict[str, Any]) -> Fleet:
    """Residency and tenants of both pools."""
    first, second = FLEET.pools
    return FLEET.model_copy(update={"pools": (first.model_copy(update=a), second.model_copy(update=b))})


def move(a: dict[str, Any], b: dict[str, Any], change: Any = AWAY, purpose: str = "act", **placement: Any) -> Question:
    """May load of the first go to the second?"""
    rules = policy(placement=Placement(**placement))
    return question(change=change, fleet=fleet(a, b), policy=rules, purpose=purpose)


def at(residency: str) -> dict[str, Any]:
    """Declared to be there."""
    return {"residency": residency}


def of(*tenants: str) -> dict[str, Any]:
    """For these tenants alone."""
    return {"tenants": tenants}


ELSE: dict[str, Any] = {"residency": {"eu": ("ch", "uk")}}
YES = verdict("G12", "allow", "pool-b may serve what pool-a did")
NONE = verdict("G12", "allow", "no pool receives requests of another")
BEFORE = verdict("G12", "allow", "nothing receives requests that it did not serve before")
THIRD = FLEET.pools[1].model_copy(update={"name": "pool-c", "residency": "us"})
WIDE = FLEET.model_copy(update={"pools": (*fleet(at("eu"), at("eu")).pools, THIRD)})
SPLIT = Change(
    before={A: 60, B: 20, "weight/chat/pool-c": 20}, after={A: 20, B: 40, "weight/chat/pool-c": 40}, last=True
)
JOIN = Change(before={A: 60, B: 20, "weight/chat/pool-c": 20}, after={A: 50, B: 50, "weight/chat/pool-c": 0}, last=True)


def no(reason: str) -> GateVerdict:
    """Waiting does not change where a pool may serve."""
    return verdict("G12", "deny", reason, lasting=True)


G12 = [
    (YES, move({}, {}), facts()),
    (YES, move(at("eu"), at("eu")), facts()),
    (no("pool-a serves residency eu, and pool-b is in us"), move(at("eu"), at("us")), facts()),
    (no("pool-a serves residency us, and pool-b is in eu"), move(at("us"), at("eu")), facts()),
    (no("pool-a serves residency eu, and pool-b declares none"), move(at("eu"), {}), facts()),
    (YES, move({}, at("eu")), facts()),
    (no("pool-a declares no residency, and policy denies a move of what is not declared"),
     move({}, at("eu"), undeclared="deny"), facts()),
    (no("pool-a declares no residency, and policy denies a move of what is not declared"),
     move({}, {}, undeclared="deny"), facts()),
    (YES, move(at("eu"), at("eu"), undeclared="deny"), facts()),
    (YES, move(at("eu"), at("ch"), **ELSE), facts()),
    (YES, move(at("eu"), at("uk"), **ELSE), facts()),
    (no("pool-a serves residency ch, and pool-b is in eu"), move(at("ch"), at("eu"), **ELSE), facts()),
    (YES, move(of("x"), of("x")), facts()),
    (YES, move(of("x"), of("x", "y")), facts()),
    (no("pool-b does not serve tenant y of pool-a"), move(of("x", "y"), of("x")), facts()),
    (no("pool-b does not serve tenant x, z of pool-a"), move(of("x", "y", "z"), of("y")), facts()),
    (no("pool-a serves x, y alone, and pool-b is shared"), move(of("x", "y"), {}), facts()),
    (no("pool-b serves x, y alone, and pool-a is shared by all"), move({}, of("x", "y")), facts()),
    (no("pool-b does not serve tenant x of pool-a"), move({**at("eu"), **of("x")}, {**at("eu"), **of("y")}), facts()),
    (no("pool-a serves residency eu, and pool-b is in us"), move({**at("eu"), **of("x")}, {**at("us"), **of("x")}), facts()),
    (no("pool pool-c is not in the inventory: where it may serve is unknown"), question(change=SPLIT), facts()),
    (no("pool pool-c is not in the inventory: where it may serve is unknown"), question(change=JOIN), facts()),
    (no("pool-a serves residency eu, and pool-c is in us"), question(change=SPLIT, fleet=WIDE), facts()),
    (no("pool-c serves residency us, and pool-b is in eu"), question(change=JOIN, fleet=WIDE), facts()),
    (verdict("G12", "allow", "pool-b, pool-c may serve what pool-a did"),
     question(change=SPLIT, fleet=WIDE.model_copy(update={"pools": (*fleet({}, {}).pools, THIRD)})), facts()),
    # The pair is declared one way only, and yet what was moved comes home.
    (BEFORE, move(at("eu"), at("us"), AWAY.reversed("back"), "restore"), facts()),
    (BEFORE, move(at("eu"), at("us"), AWAY.reversed("back"), "undo"), facts()),
    (BEFORE, move(at("eu"), at("us"), NothingToDo(why="done")), facts()),
    (BEFORE, move(at("eu"), at("us"), CannotPlan(why="no room")), facts()),
    (NONE, move(at("eu"), at("us"), Change(before={A: 60, B: 40}, after={A: 60, B: 40}, last=True)), facts()),
    (NONE, move(at("eu"), at("us"), Change(before={A: 60}, after={A: 40}, last=True)), facts()),
    (NONE, move(at("eu"), at("us"), Change(before={B: 40}, after={B: 60}, last=True)), facts()),
    (NONE, question(), facts()),
]  # fmt: skip
G12.append(
    (
        verdict("G12", "allow", "pool-b may serve what pool-a, pool-c did"),
        question(
            change=JOIN,
            fleet=WIDE.model_copy(update={"pools": (*fleet({}, {}).pools, THIRD.model_copy(update=at("")))}),
        ),
        facts(),
    )
)


@table(*G12)
def test_requests_go_only_where_they_may_be_served(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """Both ways of each pair of labels."""
    agrees(wanted, asked, seen)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (AWAY, (("pool-a",), ("pool-b",))),
        (Change(before={}, after={B: 1}, last=True), ((), ("pool-b",))),
        (Change(before={}, after={B: 0}, last=True), ((), ())),
        (Change(before={B: 5}, after={B: 5}, last=True), ((), ())),
        (Change(before={"admit/chat/batch": 100}, after={"admit/chat/batch": 50}, last=True), ((), ())),
        (Change(before={A: "60"}, after={A: 40}, last=True), ((), ())),
        (Change(before={A: 60}, after={A: "40"}, last=True), ((), ())),
    ],
    ids=["both", "from nothing", "still nothing", "the same", "no weight", "before is text", "after is text"],
)
def test_who_gives_and_who_takes_is_read_from_the_weights(change: Change, found: object) -> None:
    """Nothing else moves requests between pools."""
    assert moved(change) == found
