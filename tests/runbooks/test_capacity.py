"""The capacity planner never drowns a pool."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from runbooks.capacity import KV_FULL, Weights, reroute_weights
from runbooks.facts import PoolState
from runbooks.fleet import Route

NAMES = ("a", "b", "c", "d")
ROUTE = Route(name="chat", pools=NAMES, target_utilisation=0.8)


def state(name: str, capacity: float = 100.0, load: float | None = 10.0, **rest: object) -> PoolState:
    """A pool with room."""
    base = {"pool": name, "endpoints": 3, "in_rotation": 3, "answering": 3, "capacity_tps": capacity, "load_tps": load}
    return PoolState.model_validate({**base, **rest})


def move(
    pools: dict[str, PoolState], weights: dict[str, int], keep: float = 0.0, largest: float = 0.25, **reserved: float
) -> Weights:
    """One increment away from pool a."""
    route = Route(name="chat", pools=tuple(weights), target_utilisation=0.8)
    return reroute_weights(route, "a", keep, pools, weights, largest, reserved)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, PoolState], dict[str, int], float, float, dict[str, float]]:
    """Any fleet of four pools, known or not, any weights, aims and reservations."""
    pools = {}
    for name in NAMES:
        if draw(st.integers(0, 9)) == 0:
            continue
        pools[name] = state(
            name,
            draw(st.floats(0, 1000)),
            draw(st.none() | st.floats(0, 1000)),
            answering=draw(st.none() | st.integers(0, 3)),
            queue=draw(st.none() | st.floats(0, 20)),
            kv_used=draw(st.none() | st.floats(0, 1)),
            residency=draw(st.sampled_from(["", "eu"])),
            tenants=draw(st.sampled_from([(), ("one",), ("one", "two")])),
        )
    weights = {name: draw(st.integers(0, 100)) for name in NAMES}
    assume(sum(weights.values()) > 0)
    share = st.floats(0, 1)
    reserved = {name: draw(st.floats(0, 100)) for name in NAMES}
    return pools, weights, draw(share), draw(share), reserved


@given(worlds())
def test_no_increment_drowns_a_pool_or_moves_to_an_unknown_one(
    world: tuple[dict[str, PoolState], dict[str, int], float, float, dict[str, float]],
) -> None:
    """Weights keep their sum, only the sick pool gives, never under its keep, never more than one increment; who
    receives is known, answering, not full, of the same residency, and stays under its target utilisation."""
    pools, weights, keep, largest, reserved = world

    found = reroute_weights(ROUTE, "a", keep, pools, weights, largest, reserved)

    total = sum(weights.values())
    given_up = weights["a"] - found.weights["a"]
    assert sum(found.weights.values()) == total
    assert given_up >= 0
    assert given_up == 0 or found.weights["a"] >= keep * total - 1e-6
    assert found.moved_share == given_up / total
    assert found.moved_share <= largest + 1e-9
    for name in NAMES[1:]:
        more = found.weights[name] - weights[name]
        assert more >= 0
        if not more:
            assert name not in found.reserved
            continue
        pool = pools[name]
        assert pool.answering
        assert pool.load_tps is not None
        assert pool.kv_used is None or pool.kv_used <= KV_FULL
        assert not pools["a"].residency or pool.residency == pools["a"].residency
        assert set(pools["a"].tenants) <= set(pool.tenants) if pools["a"].tenants else not pool.tenants
        assert pool.load_tps + reserved[name] + found.reserved[name] <= 0.8 * pool.capacity_tps + 1e-6
    if given_up == 0 and weights["a"] > keep * total + 1:
        assert found.why


@given(worlds(), st.floats(0, 1000), st.floats(0, 1))
def test_more_room_or_a_larger_increment_never_moves_less(
    world: tuple[dict[str, PoolState], dict[str, int], float, float, dict[str, float]], extra: float, wider: float
) -> None:
    """The planner is monotone in what it may use."""
    pools, weights, keep, largest, reserved = world
    roomier = dict(pools)
    if "b" in pools:
        roomier["b"] = pools["b"].model_copy(update={"capacity_tps": pools["b"].capacity_tps + extra})

    first = reroute_weights(ROUTE, "a", keep, pools, weights, largest, reserved)
    second = reroute_weights(ROUTE, "a", keep, roomier, weights, max(largest, wider), reserved)

    assert second.moved_share >= first.moved_share
    assert second.nowhere_tps <= first.nowhere_tps + 1e-6


@given(worlds())
def test_increments_come_to_an_end(
    world: tuple[dict[str, PoolState], dict[str, int], float, float, dict[str, float]],
) -> None:
    """Planned again and again from its own result, it stops: at the aim, or where there is no more room."""
    pools, weights, keep, largest, reserved = world
    reserved = dict(reserved)
    for _ in range(sum(weights.values()) + 1):
        found = reroute_weights(ROUTE, "a", keep, pools, weights, largest, reserved)
        if found.moved_share == 0:
            return
        for name, tps in found.reserved.items():
            reserved[name] += tps
        weights = found.weights

    raise AssertionError("it never came to an end")


def test_load_goes_where_the_room_is() -> None:
    """Not by pod count: a pool with twice the room gets twice the traffic."""
    pools = {"a": state("a", 0, 60, answering=0), "b": state("b", 100, 20), "c": state("c", 100, 50)}

    found = move(pools, {"a": 60, "b": 20, "c": 50})

    assert found.weights == {"a": 28, "b": 41, "c": 61}
    assert found.nowhere_tps == 0


def test_what_has_nowhere_to_go_is_said() -> None:
    """A full fleet is not filled further; the rest is for shed_load."""
    pools = {"a": state("a", 0, 100, answering=0), "b": state("b", 100, 40)}

    found = move(pools, {"a": 50, "b": 50}, largest=1.0)

    assert found.weights == {"a": 30, "b": 70}
    assert found.nowhere_tps == 60
    assert found.why == "not enough room"


def test_a_pool_that_nobody_measured_receives_nothing() -> None:
    """Unknown load, no probe, no answer, a full cache, a queue, another residency, other tenants: each is refused."""
    sick = state("a", 0, 50, residency="eu", tenants=("one",))
    good = {"residency": "eu", "tenants": ("one",)}
    refused: dict[str, PoolState] = {
        "has an unknown load": state("b", 100, None, **good),
        "could not be probed": state("b", 100, 0, answering=None, **good),
        "has no answering endpoint": state("b", 100, 0, answering=0, **good),
        "KV cache": state("b", 100, 0, kv_used=0.81, **good),
        "requests waiting": state("b", 100, 0, queue=7, **good),
        "must stay in eu": state("b", 100, 0, residency="us", tenants=("one",)),
        "may not serve the tenants": state("b", 100, 0, residency="eu"),
        "no room": state("b", 100, 80, **good),
    }
    for why, pool in refused.items():
        found = move({"a": sick, "b": pool}, {"a": 50, "b": 50})

        assert found.moved_share == 0
        assert why in found.why
    assert "is unknown" in move({"a": sick}, {"a": 50, "b": 50}).why


def test_a_residency_that_policy_lets_another_serve_may_move_there_and_not_back() -> None:
    """And no other: what is not written is not allowed."""
    route = Route(name="r", pools=("a", "b"), target_utilisation=0.8)
    sick = state("a", 0, 50, residency="eu")
    pools = {"a": sick, "b": state("b", 100, 0, residency="ch")}

    def moved(**may_serve: tuple[str, ...]) -> float:
        return reroute_weights(route, "a", 0.0, pools, {"a": 50, "b": 50}, 1.0, {}, may_serve).moved_share

    assert moved(eu=("ch",)) > 0
    assert moved(eu=("us", "ch")) > 0
    assert moved(eu=("us",)) == 0
    assert moved(ch=("eu",)) == 0
    assert moved() == 0


def test_headroom_that_is_promised_is_not_given_twice() -> None:
    """Reservations of other moves count until metrics show their load."""
    pools = {"a": state("a", 0, 50, answering=0), "b": state("b", 100, 30)}

    assert move(pools, {"a": 50, "b": 50}, b=50.0).moved_share == 0


def test_a_sliver_of_traffic_does_not_tell_the_load_of_the_rest() -> None:
    """The sick pool's load is unknown and its sibling had one request in twenty: nothing moves."""
    pools = {"a": state("a", 0, None, answering=0), "b": state("b", 100, 0)}

    assert move(pools, {"a": 95, "b": 5}).moved_share == 0
    assert "not known how much load" in move(pools, {"a": 95, "b": 5}).why
    assert move(pools, {"a": 50, "b": 50}).moved_share == 0.25


def test_a_hung_pool_that_reports_no_load_does_not_look_light() -> None:
    """The pools beside it tell how heavy a share of the route is."""
    pools = {"a": state("a", 0, 0, answering=0), "b": state("b", 100, 50)}

    found = move(pools, {"a": 50, "b": 50}, largest=1.0)

    assert found.weights == {"a": 20, "b": 80}
