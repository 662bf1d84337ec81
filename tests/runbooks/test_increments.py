"""One increment at a time, from what stands there now."""

from __future__ import annotations

import pytest

from runbooks.change import Blast, CannotPlan, Change, NothingToDo
from runbooks.facts import PoolState, Settings
from runbooks.fleet import Fleet
from runbooks.levers import ActingStep, IsolateEndpoint, RecycleConnections, RerouteTraffic, ShedLoad
from runbooks.planning import plan_change
from runbooks.policy import LeverPolicy

ISOLATE = IsolateEndpoint(pool="pool-a", endpoint="pool-a-1:8000")
REROUTE = RerouteTraffic(route="chat", away_from="pool-a", keep=0.0, increment=0.25)
RECYCLE = RecycleConnections(pool="pool-a", max_connection_s=9.5)
SHED = ShedLoad(route="chat", tier="batch", admit=0.1, increment=0.25)
WEIGHTS: Settings = {"weight/chat/pool-a": 40, "weight/chat/pool-b": 60}
KEY = "endpoint/pool-a/pool-a-1:8000"


def _pools(load_b: float | None = 30.0) -> dict[str, PoolState]:
    sick = PoolState(pool="pool-a", endpoints=2, in_rotation=2, answering=0, capacity_tps=0, load_tps=20)
    well = PoolState(pool="pool-b", endpoints=2, in_rotation=2, answering=2, capacity_tps=100, load_tps=load_b)
    return {"pool-a": sick, "pool-b": well}


def _plan(step: ActingStep, settings: Settings, fleet: Fleet) -> Change | NothingToDo | CannotPlan:
    return plan_change(step, "act", 0, settings, _pools(), fleet, LeverPolicy())


def test_isolating_takes_one_endpoint_out(fleet: Fleet) -> None:
    """One setting, one endpoint down, complete."""
    found = _plan(ISOLATE, {KEY: "in"}, fleet)

    assert isinstance(found, Change)
    assert (found.before, found.after, found.last) == ({KEY: "in"}, {KEY: "out"}, True)
    assert found.blast == Blast(endpoints_down={"pool-a": 1})


def test_rerouting_moves_one_increment_by_the_capacity_planner(fleet: Fleet) -> None:
    """The first increment is not the last; the second is planned from what then stands there."""
    first = _plan(REROUTE, WEIGHTS, fleet)
    assert isinstance(first, Change)
    assert first.after == {"weight/chat/pool-a": 15, "weight/chat/pool-b": 85}
    assert not first.last
    assert first.blast.share_moved == {"chat": 0.25}
    assert first.blast.reserved_tps == {"pool-b": 12.5}

    second = _plan(REROUTE, {**WEIGHTS, **first.after}, fleet)
    assert isinstance(second, Change)
    assert second.after == {"weight/chat/pool-a": 0, "weight/chat/pool-b": 100}
    assert second.last

    assert isinstance(_plan(REROUTE, {**WEIGHTS, **second.after}, fleet), NothingToDo)


def test_rerouting_keeps_what_it_is_told_to_keep(fleet: Fleet) -> None:
    """Down to the share and not below, and then it is complete."""
    step = REROUTE.model_copy(update={"keep": 0.3})

    found = _plan(step, WEIGHTS, fleet)

    assert isinstance(found, Change)
    assert found.after["weight/chat/pool-a"] == 30
    assert found.last


def test_the_levers_policy_bounds_the_increment(fleet: Fleet) -> None:
    """A runbook cannot move more at once than policy allows."""
    found = plan_change(REROUTE, "act", 0, WEIGHTS, _pools(), fleet, LeverPolicy(largest_increment=0.1))

    assert isinstance(found, Change)
    assert found.blast.share_moved == {"chat": 0.1}


def test_unknown_pools_deny_a_reroute(fleet: Fleet) -> None:
    """No figures, no move."""
    blind = plan_change(REROUTE, "act", 0, WEIGHTS, None, fleet, LeverPolicy())
    unmeasured = plan_change(REROUTE, "act", 0, WEIGHTS, _pools(load_b=None), fleet, LeverPolicy())

    assert isinstance(blind, CannotPlan)
    assert "unknown" in blind.why
    assert isinstance(unmeasured, CannotPlan)
    assert "pool-b has an unknown load" in unmeasured.why


def test_promised_headroom_counts(fleet: Fleet) -> None:
    """Another case's move has taken the room."""
    found = plan_change(REROUTE, "act", 0, WEIGHTS, _pools(), fleet, LeverPolicy(), {"pool-b": 50.0})

    assert isinstance(found, CannotPlan)


def test_recycling_sets_the_life_of_connections(fleet: Fleet) -> None:
    """From none or longer to the wanted seconds, rounded up; shorter stays."""
    found = _plan(RECYCLE, {"connections/pool-a": 0}, fleet)

    assert isinstance(found, Change)
    assert (found.after, found.last) == ({"connections/pool-a": 10}, True)
    assert isinstance(_plan(RECYCLE, {"connections/pool-a": 5}, fleet), NothingToDo)


def test_shedding_lowers_the_tier_step_by_step(fleet: Fleet) -> None:
    """By one increment, never under what is still admitted."""
    settings: Settings = {"admit/chat/batch": 100}
    seen = []
    while isinstance(found := _plan(SHED, settings, fleet), Change):
        settings = {**settings, **found.after}
        seen.append((found.after["admit/chat/batch"], found.blast.refused_share, found.last))

    assert seen == [(75, 0.25, False), (50, 0.25, False), (25, 0.25, False), (10, 0.15, True)]
    assert isinstance(found, NothingToDo)


@pytest.mark.parametrize(
    ("step", "settings", "key"),
    [
        (ISOLATE, {}, KEY),
        (ISOLATE, {KEY: 1}, KEY),
        (REROUTE, {"weight/chat/pool-a": 40}, "weight/chat/pool-b"),
        (REROUTE, {**WEIGHTS, "weight/chat/pool-a": "40"}, "weight/chat/pool-a"),
        (RECYCLE, {}, "connections/pool-a"),
        (SHED, {"admit/chat/interactive": 100}, "admit/chat/batch"),
        (SHED, {"admit/chat/batch": True}, "admit/chat/batch"),
    ],
)
def test_a_setting_that_is_missing_or_strange_is_named(
    step: ActingStep, settings: Settings, key: str, fleet: Fleet
) -> None:
    """Nothing is written where we do not know what stood before."""
    found = _plan(step, settings, fleet)

    assert isinstance(found, CannotPlan)
    assert key in found.why


def test_a_route_without_traffic_or_with_coarse_weights_is_not_moved(fleet: Fleet) -> None:
    """Both have their own reason."""
    none = _plan(REROUTE, {"weight/chat/pool-a": 0, "weight/chat/pool-b": 0}, fleet)
    coarse = _plan(REROUTE, {"weight/chat/pool-a": 1, "weight/chat/pool-b": 1}, fleet)

    assert isinstance(none, CannotPlan)
    assert "all weights" in none.why
    assert isinstance(coarse, CannotPlan)


def test_undo_is_not_planned_from_a_step(fleet: Fleet) -> None:
    """Receipts say what stood before; a step does not."""
    assert isinstance(plan_change(ISOLATE, "undo", 0, {KEY: "out"}, None, fleet, LeverPolicy()), CannotPlan)


def _loaded(a: float | None, b: float | None, known: bool = True) -> dict[str, PoolState] | None:
    """Pool-a is gone and asked for `a`; pool-b may be asked for 80 tokens/s of its 100."""
    gone = PoolState(pool="pool-a", endpoints=2, in_rotation=2, answering=0, capacity_tps=0, load_tps=a)
    well = PoolState(pool="pool-b", endpoints=2, in_rotation=2, answering=2, capacity_tps=100, load_tps=b)
    return {"pool-a": gone, "pool-b": well} if known else None


@pytest.mark.parametrize(
    ("pools", "kind"),
    [
        (_loaded(40, 60), Change),
        (_loaded(40, 41), Change),
        (_loaded(40, 40), NothingToDo),
        (_loaded(20, 45), NothingToDo),
        (_loaded(None, 90), Change),
        (_loaded(40, 60, known=False), CannotPlan),
        (_loaded(40, None), CannotPlan),
        (_loaded(None, None), CannotPlan),
    ],
)
def test_shedding_that_makes_room_ends_when_the_rest_fits_elsewhere(
    pools: dict[str, PoolState] | None, kind: type, fleet: Fleet
) -> None:
    """Nobody is refused for more than the others lack; a load that cannot be read is told by the weights."""
    step = SHED.model_copy(update={"makes_room_for": "pool-a"})
    settings: Settings = {"admit/chat/batch": 100, **WEIGHTS}
    found = plan_change(step, "act", 0, settings, pools, fleet, LeverPolicy())
    assert isinstance(found, kind), found
    if isinstance(found, NothingToDo):
        assert found.why == "all that pool-a is asked for fits in the others of route chat"
    elsewhere = step.model_copy(update={"makes_room_for": "pool-x"})
    lost = plan_change(elsewhere, "act", 0, settings, _loaded(40, 60), fleet, LeverPolicy())
    assert lost == CannotPlan(why="the fleet has no route chat with a pool pool-x")


@pytest.mark.parametrize(
    ("weights", "a", "b", "found"),
    [
        ({"a": 0, "b": 100}, {}, {}, NothingToDo(why="no traffic of route chat goes to pool-a any more")),
        (
            {"a": 40, "b": 60},
            {"residency": "eu"},
            {"residency": "us"},
            CannotPlan(
                why="no other pool of route chat may serve what pool-a does: to refuse anybody makes no room",
                lasting=True,
            ),
        ),
        (
            {"a": 40, "b": 60},
            {"tenants": ("one",)},
            {},
            CannotPlan(
                why="no other pool of route chat may serve what pool-a does: to refuse anybody makes no room",
                lasting=True,
            ),
        ),
        (
            {"a": 40, "b": 60},
            {},
            {"answering": None},
            CannotPlan(why="the load of pool-b is unknown: nobody can say how much must be refused"),
        ),
    ],
)
def test_nobody_is_refused_where_that_makes_no_room(
    weights: dict[str, int], a: dict[str, object], b: dict[str, object], found: object, fleet: Fleet
) -> None:
    """Nothing is left to move, nobody may take it, or nobody knows what there is room for."""
    loaded = _loaded(40, 95)
    assert loaded is not None
    pools = {
        "pool-a": loaded["pool-a"].model_copy(update=a),
        "pool-b": loaded["pool-b"].model_copy(update=b),
    }
    settings: Settings = {"admit/chat/batch": 100, **{f"weight/chat/pool-{k}": v for k, v in weights.items()}}
    step = SHED.model_copy(update={"makes_room_for": "pool-a"})
    assert plan_change(step, "act", 0, settings, pools, fleet, LeverPolicy()) == found
    without = {"pool-b": pools["pool-b"]}
    blind = plan_change(step, "act", 0, {**settings, **WEIGHTS}, without, fleet, LeverPolicy())
    assert isinstance(blind, CannotPlan)
    assert not blind.lasting
