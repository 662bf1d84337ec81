"""Each lever has the effect that people hope for, and the harm that post-mortems tell of."""

from __future__ import annotations

from typing import Any

import pytest

from activities.adapters.fluid_look import PoolLook, pool_look
from activities.adapters.fluid_world import FluidWorld
from runbooks.change import Value
from runbooks.incident import Site
from tests.adapters.fluid_lab import QUIET, error_share, fleet, incident, lost, played, pool

BUSY: dict[str, Any] = {"fault": "demand", "at": "5m", "route": "chat", "factor": 1.6}
"""32 requests/s: four fifths of what both pools can serve, and more than one of them can."""


def fault(kind: str, **more: Any) -> dict[str, Any]:
    """One fault, five minutes after the start."""
    return {"fault": kind, "at": "5m", **more}


def look(world: FluidWorld, name: str = "chat-east") -> PoolLook:
    """At one pool."""
    return pool_look(world, name)


def after(*faults: dict[str, Any], sets: dict[str, Value], seconds: float = 1800.0, **more: Any) -> FluidWorld:
    """The faults begin after five minutes; ten minutes after the start somebody sets this."""
    return played(*faults, hands={600: sets}, seconds=seconds, **more)  # type: ignore[dict-item]


def test_isolating_a_hung_replica_ends_the_errors_at_once() -> None:
    """Its connections are closed with it, and its siblings carry its share."""
    world = after(fault("hang", pool="chat-east", replicas=1), sets={"endpoint/chat-east/chat-east-0:8000": "out"})
    then = lost(world)
    world.advance(3600)

    assert lost(world) == pytest.approx(then, abs=1)
    assert error_share(world) == 0
    assert look(world).replicas[0].tokens_s == 0


def test_closing_connections_cures_those_that_are_dead() -> None:
    """And nothing else: a hung replica hangs."""
    recycle = {"connections/chat-east": 10}
    dead = after(fault("dead_connections", pool="chat-east", share=0.3), sets=recycle)
    hung = after(fault("hang", pool="chat-east", replicas=1), sets=recycle)

    assert error_share(dead) == 0
    assert error_share(hung) > 0.1


def test_moving_traffic_away_from_a_sick_pool_ends_its_errors() -> None:
    """Where its sibling has room."""
    quiet = QUIET | {"factor": 0.8}
    world = after(quiet, fault("errors", pool="chat-east", share=0.5), sets={"weight/chat/chat-east": 0})

    assert error_share(world) == 0
    assert look(world, "chat-west").tokens_s == pytest.approx(3200, rel=0.02)


def test_a_wrong_reroute_drowns_its_target() -> None:
    """All weight on a pool that can serve less than all: its queue grows to the deadline, and half of the users fail."""
    still = played(BUSY, fault("errors", pool="chat-east", share=0.1))
    world = after(BUSY, fault("errors", pool="chat-east", share=0.1), sets={"weight/chat/chat-east": 0})
    target = look(world, "chat-west")

    assert target.queue > 200
    assert target.latency_p99_s == 60
    assert error_share(world, "chat-west") > 0.4
    assert lost(world) > 5 * lost(still)


def test_a_target_that_scales_up_for_what_is_moved_to_it_loads_its_api() -> None:
    """As in oai-2024-04-10: its autoscaler starts replicas, their starting overloads the API, and none of them comes up."""
    api = {"capacity": 100, "load": 90, "per_start": 6.0}
    of = fleet(
        clusters=[{"name": "east", "nodes": 2}, {"name": "west", "nodes": 2, "api": api}],
        pools=[pool("chat-east", "east"), pool("chat-west", "west", autoscaler_max=12)],
    )
    world = after(BUSY, sets={"weight/chat/chat-east": 0}, of=of)

    assert world.workload("chat-west").desired > 4
    assert world.apis["west"].over
    assert world.ready_in("chat-west") == 4
    assert world.starting_in("chat-west") >= 2


def test_refusing_the_lowest_tier_saves_the_others() -> None:
    """Three tenths are refused, and what is left is served in time."""
    surge = fault("demand", route="chat", factor=2.4)
    still, world = played(surge), after(surge, sets={"admit/chat/batch": 0})

    assert error_share(still) > 0.2
    assert error_share(world) < 0.001
    assert set(world.account.refused_requests) == {"batch"}
    assert world.routes["chat"].users.refused["batch"] == pytest.approx(0.3 * 48, rel=0.05)


def test_more_replicas_end_a_surge_once_they_serve() -> None:
    """Not before: a cold start of a minute."""
    surge, more = fault("demand", route="chat", factor=2.6), {"replicas/chat-east": 8, "replicas/chat-west": 8}
    early, late = (after(surge, sets=more, seconds=s) for s in (640, 1800))

    assert early.ready_in("chat-east") == 4
    assert error_share(early) > 0.2
    assert late.ready_in("chat-east") == 8
    assert error_share(late) == 0


def test_more_replicas_than_there_are_gpus_wait() -> None:
    """Two nodes of eight GPUs, each replica takes four."""
    of = fleet(pools=[pool("chat-east", "east", gpus_per_replica=4), pool("chat-west", "west")])
    world = after(QUIET, sets={"replicas/chat-east": 6}, of=of)

    assert (world.ready_in("chat-east"), len(world.pods_of("chat-east"))) == (4, 6)


def test_a_quota_ends_growth() -> None:
    """Nobody creates what may not be."""
    of = fleet(clusters=[{"name": "east", "nodes": 2, "quota_gpus": 5}, {"name": "west", "nodes": 2}])
    world = after(QUIET, sets={"replicas/chat-east": 8}, of=of)

    assert len(world.pods_of("chat-east")) == 5


def test_a_scale_out_through_a_full_database_makes_it_worse() -> None:
    """Each replica that starts opens connections: the database refuses more of the requests, and no replica comes up."""
    data = {"name": "db", "capacity": 100, "load": 80, "per_replica": 2, "per_start": 8, "serves": True}
    leaning = [pool("chat-east", "east", depends_on=["db"]), pool("chat-west", "west")]
    of = fleet(pools=leaning, dependencies=[data])
    full = fault("dependency", name="db", load=20)
    still, world = played(full, of=of), after(full, sets={"replicas/chat-east": 8}, of=of)
    back = played(full, hands={600: {"replicas/chat-east": 8}, 1200: {"replicas/chat-east": 4}}, of=of)

    assert error_share(world, "chat-east") > 2 * error_share(still, "chat-east") > 0
    assert world.ready_in("chat-east") == 4
    assert lost(world) > lost(still)
    assert error_share(back, "chat-east") == pytest.approx(error_share(still, "chat-east"), abs=0.01)


def test_a_rollback_of_a_bad_version_ends_its_effect_replica_by_replica() -> None:
    """One at a time is down, and each that comes back is well."""
    bad = fault("change", pools=["chat-east"], version="v2", errors=0.5)
    half, world = (after(bad, sets={"image/chat-east": "v1"}, seconds=s) for s in (780, 1800))

    assert 0 < error_share(half, "chat-east") < 0.45
    assert half.ready_in("chat-east") >= 3
    assert error_share(world, "chat-east") == 0
    assert {r.restarts for r in look(world).replicas} == {0}
    assert world.workload("chat-east").present.image == "v1"


def test_a_rollback_by_template_is_the_same_as_by_image() -> None:
    """The revision that is kept."""
    bad = fault("change", pools=["chat-east"], version="v2", errors=0.5)
    first = played(QUIET).workload("chat-east").present.hash
    world = after(bad, sets={"template/chat-east": first})

    assert error_share(world, "chat-east") == 0


def test_a_rollback_of_a_good_version_changes_nothing_for_users() -> None:
    """It takes replicas down, one after the other, and the fault goes on."""
    good = fault("change", pools=["chat-east"], version="v2")
    sick = fault("errors", pool="chat-east", share=0.3, returns=True)
    still, world = played(good, sick), after(good, sick, sets={"image/chat-east": "v1"})

    assert error_share(world, "chat-east") == pytest.approx(error_share(still, "chat-east"), abs=0.01)
    assert lost(world) == pytest.approx(lost(still), rel=0.05)
    assert {p.uid for p in world.pods_of("chat-east")}.isdisjoint(p.uid for p in still.pods_of("chat-east"))


@pytest.mark.parametrize(
    ("sets", "cured"),
    [
        ({"image/chat-east": "v3"}, True),
        ({"env/chat-east/FLAG": "v3"}, True),
        ({"image/chat-east": "v4"}, False),
    ],
)
def test_a_hotfix_cures_when_it_is_the_one_that_fixes(sets: dict[str, Value], cured: bool) -> None:
    """By image or by flag; another version on top of a bad one is bad as well."""
    bad = fault("change", pools=["chat-east"], version="v2", errors=0.5, fixed_by="v3")

    assert (error_share(after(bad, sets=sets), "chat-east") == 0) == cured


def test_a_paused_rollout_stands_still_until_it_goes_on() -> None:
    """A freeze stops a bad change half way."""
    bad = fault("change", pools=["chat-east"], version="v2", errors=0.5, per_minute=1.0)
    frozen = played(bad, hands={430: {"paused/chat-east": "on"}})
    lifted = played(bad, hands={430: {"paused/chat-east": "on"}, 900: {"paused/chat-east": "off"}})

    assert [r.errors for r in look(frozen).replicas] == [0.5, 0.5, 0.0, 0.0]
    assert [r.errors for r in look(lifted).replicas] == [0.5] * 4


def test_a_frozen_autoscaler_does_not_scale() -> None:
    """And without the freeze it does."""
    of = fleet(pools=[pool("chat-east", "east", autoscaler_max=8), pool("chat-west", "west")])
    surge = fault("demand", route="chat", factor=2.6)
    free = played(surge, of=of)
    frozen = played(surge, hands={60: {"autoscale/chat-east": "off"}}, of=of)

    assert (free.ready_in("chat-east"), frozen.ready_in("chat-east")) == (8, 4)


def test_a_replaced_replica_is_well_unless_the_cause_returns() -> None:
    """What was in the old one is gone with it; what was not is in the new one too."""
    for returns in (False, True):
        world = played(fault("hang", pool="chat-east", replicas=1, returns=returns), seconds=600)
        world.hand({"pod/chat-east/chat-east-0:8000": "gone"}, "by hand")
        world.settle()
        world.advance(1200)

        assert [r.answers for r in look(world).replicas].count(False) == (1 if returns else 0)


def test_a_drained_node_gives_its_replicas_to_others_and_a_reboot_brings_it_back() -> None:
    """Cordoned, emptied, booted, ready."""
    world = played(fault("node_down", cluster="east"), seconds=600)
    world.hand({"cordon/east-n1": "on"}, "by hand")
    for pod in [p for p in world.pods_of("chat-east") if p.node == "east-n1"]:
        world.hand({f"pod/chat-east/{pod.name}": "gone"}, "by hand")
    world.settle()
    world.advance(700)
    assert error_share(world) == 0
    assert {p.node for p in world.pods_of("chat-east")} == {"east-n2"}

    world.hand({"boot/east-n1": "gone"}, "by hand")
    world.settle()
    world.advance(860)
    assert world.node("east-n1").failed
    world.advance(900)
    assert not world.node("east-n1").failed


@pytest.mark.parametrize("cures", [True, False])
def test_a_node_comes_back_only_when_a_boot_cures_it(cures: bool) -> None:
    """Where the cause stands it fails again."""
    world = after(fault("node_down", cluster="east", reboot_cures=cures), sets={"boot/east-n1": "gone"})

    assert (world.node("east-n1").failed == "") == cures


@pytest.mark.parametrize(
    ("xid", "by", "well"),
    [
        (48, {"gpu/east-n1/0": 1}, True),
        (63, {"gpu/east-n1/0": 1}, True),
        (79, {"gpu/east-n1/0": 1}, False),
        (79, {"boot/east-n1": "gone"}, True),
    ],
)
def test_a_sick_gpu_is_mended_by_what_mends_it(xid: int, by: dict[str, Value], well: bool) -> None:
    """A reset where the driver sees the GPU; a boot where it does not."""
    world = after(fault("gpu", node="east-n1", gpu=0, xid=xid), sets=by)

    assert (not world.node("east-n1").sick) == well
    assert (world.ready_in("chat-east") == 4) == well


def test_a_node_that_is_put_back_while_its_gpu_is_sick_fails_its_replicas_again() -> None:
    """And that is written down."""
    world = played(fault("gpu", node="east-n1", gpu=0, xid=48), seconds=600)
    world.hand({"cordon/east-n1": "on"}, "by hand")
    world.hand({f"pod/chat-east/{p.name}": "gone" for p in world.pods_at("east-n1", 0)}, "by hand")
    world.settle()
    world.advance(900)
    assert world.ready_in("chat-east") == 4

    world.hand({"cordon/east-n1": "off", "replicas/chat-east": 8}, "by hand")
    world.settle()
    world.advance(1200)
    assert world.ready_in("chat-east") == 7
    assert any("east-n1 is put back and still sick" in v for v in world.account.violations)


def test_traffic_that_is_moved_meets_a_cold_cache_for_a_while() -> None:
    """Work per request is a little more until the prefixes are there."""
    world = played(QUIET, hands={600: {"weight/chat/chat-east": 25}}, seconds=610)
    cold, warm = world.pools["chat-west"].cold, played(QUIET).pools["chat-west"].cold

    assert (warm, cold > 0.15) == (0, True)
    world.advance(1200)
    assert world.pools["chat-west"].cold < 0.01


@pytest.mark.parametrize(
    ("east", "west", "why"),
    [
        ({"residency": "eu"}, {"residency": "us"}, "requests of chat-east (residency eu) are served by chat-west (us)"),
        ({"tenants": ["acme"]}, {}, "requests of chat-east (tenants acme) are served by chat-west"),
        ({}, {"tenants": ["acme"]}, "requests of chat-east, which is for all, are served by chat-west (acme)"),
    ],
)
def test_requests_that_are_served_where_they_may_not_be_are_written_down(
    east: dict[str, Any], west: dict[str, Any], why: str
) -> None:
    """Once, when it begins."""
    of = fleet(pools=[pool("chat-east", "east", **east), pool("chat-west", "west", **west)])
    world = played(QUIET, hands={600: {"weight/chat/chat-east": 20}, 700: {"weight/chat/chat-east": 10}}, of=of)

    assert [v.partition(" ")[2] for v in world.account.violations] == [f"{why} (by hand)"]


def test_where_what_is_not_declared_stays_where_it_is_a_move_of_it_is_written_down() -> None:
    """The site says so; elsewhere pools that declare nothing may stand in for each other."""
    strict = incident(QUIET).model_copy(update={"site": Site(undeclared="deny")})
    found = []
    for one in (strict, incident(QUIET)):
        world = FluidWorld(one)
        world.advance(600)
        world.hand({"weight/chat/chat-east": 20}, "by hand")
        found.append([v.partition(" ")[2] for v in world.account.violations])

    why = "requests of chat-east, which declares no residency, are served by chat-west (by hand)"
    assert found == [[why], []]


def test_a_route_without_any_weight_answers_nobody_and_is_written_down() -> None:
    """404 to all."""
    world = after(QUIET, sets={"weight/chat/chat-east": 0, "weight/chat/chat-west": 0})

    assert world.routes["chat"].users.failed["weightless"] == pytest.approx(20, rel=0.01)
    assert [v.partition(" ")[2] for v in world.account.violations] == ["route chat has no weight at all (by hand)"]


def test_seconds_below_the_minimum_are_counted_by_pool() -> None:
    """Three of four out of rotation: fewer than half."""
    out: dict[str, Value] = {f"endpoint/chat-east/chat-east-{n}:8000": "out" for n in range(3)}
    world = after(QUIET, sets=out, seconds=900)

    assert world.account.below_minimum_by_pool == {"chat-east": pytest.approx(300, abs=1)}


@pytest.mark.parametrize("key", ["weight/chat/nowhere", "replicas/nowhere", "cordon/nowhere", "nonsense"])
def test_a_setting_that_is_not_there_is_refused_by_name(key: str) -> None:
    """By hand as well."""
    world = played(QUIET, seconds=1)

    with pytest.raises(ValueError, match=key):
        world.hand({key: 1}, "by hand")
