"""Each kind of fault shows the symptom that a post-mortem tells of, and goes when its time is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from activities.adapters.fluid_faults import PLAYED
from activities.adapters.fluid_look import PoolLook, pool_look
from activities.adapters.fluid_world import FluidWorld
from runbooks.incident_faults import Fault
from runbooks.levers import LEVERS
from tests.adapters.fluid_lab import QUIET, error_share, fleet, lost, played, pool


def east(world: FluidWorld) -> PoolLook:
    """A look at the first pool."""
    return pool_look(world, "chat-east")


def fault(kind: str, **more: Any) -> dict[str, Any]:
    """One fault, five minutes after the start."""
    return {"fault": kind, "at": "5m", **more}


def test_every_kind_of_fault_is_played() -> None:
    """One class for each tag of the union."""
    kinds = {model.model_fields["fault"].annotation for model in get_args(get_args(Fault)[0])}

    assert {get_args(kind)[0] for kind in kinds} == set(PLAYED)


def test_the_page_has_every_fault_and_every_lever() -> None:
    """A row each, for whoever writes incident files."""
    page = (Path(__file__).parents[2] / "docs" / "simulated-fleet.md").read_text()
    rows = {cell for line in page.splitlines() if line.startswith("| `") for cell in line.split("|")[1].split(",")}

    assert {f"`{name}`" for name in (set(PLAYED) | set(LEVERS)) - {"page"}} <= {cell.strip() for cell in rows}


def test_when_nothing_happens_nobody_fails_and_nothing_moves() -> None:
    """Half of what the fleet can serve."""
    world = played(QUIET)

    assert lost(world) == 0
    assert east(world).queue == 0
    assert world.account.served_requests == pytest.approx(36_000, abs=1)
    assert {a.over for a in world.apis.values()} == {False}


def test_a_hung_replica_fails_its_share_by_time_and_makes_no_tokens() -> None:
    """An eighth of all; it is up, which is what a health check sees."""
    world = played(fault("hang", pool="chat-east", replicas=1))
    sick = east(world).replicas[0]

    assert error_share(world) == pytest.approx(1 / 8, abs=0.02)
    assert (sick.up, sick.answers, sick.tokens_s) == (True, False, 0.0)
    assert set(world.account.failed_by_cause) == {"stuck"}


def test_a_second_fault_takes_the_next_replica_that_serves() -> None:
    """One that hangs does not."""
    one, two = fault("hang", pool="chat-east", replicas=1), fault("hang", pool="chat-east", replicas=1) | {"at": "6m"}

    assert [r.answers for r in east(played(one, two)).replicas] == [False, False, True, True]


def test_a_crashed_replica_refuses_connections_until_its_supervisor_has_started_it_again() -> None:
    """A cold start of a minute, and then it is over."""
    down, well = (played(fault("crash", pool="chat-east", replicas=1), seconds=s) for s in (330, 400))

    assert error_share(down) == pytest.approx(1 / 8, abs=0.01)
    assert (east(down).replicas[0].up, east(down).replicas[0].restarts) == (False, 1)
    assert error_share(well) == 0
    assert lost(well) == lost(played(fault("crash", pool="chat-east", replicas=1), seconds=1800))


def test_a_replica_in_a_crash_loop_crashes_again_and_again() -> None:
    """A minute of start, two minutes of service."""
    world = played(fault("crash", pool="chat-east", replicas=1, every="2m"))

    assert east(world).replicas[0].restarts == pytest.approx(1500 / 180, abs=1)


def test_a_slow_replica_gets_as_much_as_its_siblings_and_drowns() -> None:
    """At a fifth of its rate it can serve less than it is asked for: its queue fills, its siblings are idle."""
    look = east(played(fault("slow", pool="chat-east", replicas=1, factor=0.2)))

    assert look.replicas[0].queue > 5
    assert look.replicas[1].queue == 0
    assert look.latency_p99_s == 60
    assert "timeout" in look.failed_s


def test_errors_come_at_once_and_take_no_capacity() -> None:
    """Half of the pool's, a quarter of all."""
    world = played(fault("errors", pool="chat-east", share=0.5))

    assert error_share(world, "chat-east") == pytest.approx(0.5, abs=0.01)
    assert east(world).queue == 0


def test_bad_output_fails_nothing_and_shows_in_canary_prompts_alone() -> None:
    """All is answered, and answered wrongly."""
    world = played(fault("bad_output", pool="chat-east", share=0.5))

    assert lost(world) == 0
    assert world.account.wrong_answers == pytest.approx(0.25 * 20 * 1500, rel=0.01)
    assert {r.canary for r in east(world).replicas} == {False}
    assert {r.canary for r in pool_look(world, "chat-west").replicas} == {True}


def test_dead_connections_time_out_and_the_replicas_are_well() -> None:
    """A fifth of the pool's requests hang until their deadline."""
    world = played(fault("dead_connections", pool="chat-east", share=0.2))

    assert error_share(world, "chat-east") == pytest.approx(0.2, abs=0.02)
    assert all(r.answers for r in east(world).replicas)


def test_demand_over_capacity_fills_queues_until_requests_time_out() -> None:
    """Three times as much, and the fleet can serve twice as much."""
    world = played(fault("demand", route="chat", factor=3))

    assert east(world).queue > 100
    assert east(world).latency_p99_s == 60
    assert error_share(world) > 0.3


def test_demand_ramps() -> None:
    """Half way up after half of the time."""
    world = played(fault("demand", route="chat", factor=1.5, ramp="10m"), seconds=600)

    assert world.routes["chat"].users.offered == pytest.approx(25, abs=0.2)


def test_longer_requests_fill_the_cache_and_the_engines_refuse() -> None:
    """A cache for nine thousand tokens: five long requests, and 64 slots."""
    small = {"kv_tokens": 40_000}
    narrow = fleet(pools=[pool("chat-east", "east", **small), pool("chat-west", "west", **small)])
    world = played(fault("long_requests", route="chat", factor=10), of=narrow)

    assert east(world).kv_used == pytest.approx(1.0, abs=0.05)
    assert east(world).failed_s["exhausted"] > 0
    assert east(world).client_errors_s > 0


def test_client_errors_are_4xx_and_no_error_rate_counts_them() -> None:
    """Malformed stays malformed: nobody sends it again."""
    world = played(fault("client_errors", pool="chat-east", share=0.3))

    assert east(world).client_errors_s / east(world).ended_s == pytest.approx(0.3, abs=0.01)
    assert error_share(world) == 0
    assert world.routes["chat"].again == 0


def test_a_pool_that_traffic_sticks_to_is_hotter_than_its_sibling() -> None:
    """Whatever the weights say."""
    asked = {
        name: pool_look(played(fault("imbalance", pool="chat-east", share=0.8)), name).asked_s
        for name in ("chat-east", "chat-west")
    }

    assert asked["chat-east"] == pytest.approx(18, abs=0.2)
    assert asked["chat-west"] == pytest.approx(2, abs=0.2)


def test_a_replica_that_traffic_sticks_to_drowns_beside_idle_siblings() -> None:
    """Four fifths of a pool's traffic on one of four."""
    look = east(played(fault("imbalance", pool="chat-east", share=0.8, replica=True)))

    assert look.replicas[0].queue > 50
    assert look.replicas[1].queue == 0


def test_replicas_of_a_node_that_is_down_are_gone_until_they_are_placed_elsewhere() -> None:
    """After the toleration of five minutes and a cold start."""
    down, moved = (played(fault("node_down", cluster="east"), seconds=s) for s in (400, 700))

    assert east(down).errors_s > 0
    assert not east(down).replicas[0].up
    assert error_share(moved) == 0
    assert {r.node for r in east(moved).replicas} == {"east-n2"}


@pytest.mark.parametrize(
    ("xid", "sick", "serves"),
    [(48, True, False), (79, True, False), (31, False, True), (63, True, True), (92, False, True)],
)
def test_an_xid_ends_the_process_on_its_gpu_or_does_not(xid: int, sick: bool, serves: bool) -> None:
    """48 and 79 leave a GPU on which nothing comes up; 31 ends one process; 63 wants a reset; 92 only tells."""
    world = played(fault("gpu", node="east-n1", gpu=0, xid=xid))
    replica = east(world).replicas[0]

    assert bool(world.node("east-n1").sick) == sick
    assert replica.up == serves
    assert (replica.restarts > 0) == (xid not in (63, 92))
    assert world.node("east-n1").lost == ({0} if xid == 79 else set())


def test_nodes_that_lose_their_network_are_not_ready_and_nobody_reaches_their_replicas() -> None:
    """Half of them, until it is over; then all is as it was, with the same replicas."""
    during, after = (played(fault("network", cluster="east", share=0.5, ends="9m"), seconds=s) for s in (500, 560))

    assert [n for n in during.nodes_of("east") if during.node(n).failed] == ["east-n1"]
    assert error_share(during, "chat-east") == pytest.approx(0.5, abs=0.05)
    assert error_share(after) == 0
    assert {r.restarts for r in east(after).replicas} == {0}


def test_a_cluster_that_is_gone_serves_nobody_and_places_nothing() -> None:
    """Its half of the requests fails, for as long as weights send them there."""
    world = played(fault("cluster_gone", cluster="east"), seconds=3000)

    assert error_share(world, "chat-east") == 1
    assert world.apis["east"].gone
    assert world.ready_in("chat-east") == 0
    assert world.account.below_minimum_by_pool["chat-east"] == pytest.approx(2700, abs=5)


def test_an_overloaded_api_brings_nothing_up_and_serving_goes_on() -> None:
    """Replicas that serve serve; one that crashes stays down."""
    busy = fault("api_load", cluster="east", load=100)
    world = played(busy, fault("crash", pool="chat-east", replicas=1) | {"at": "6m"})

    assert world.apis["east"].over
    assert [r.up for r in east(world).replicas] == [False, True, True, True]
    assert lost(played(busy)) == 0


def test_serving_that_needs_the_api_fails_with_it() -> None:
    """DNS in the cluster."""
    world = played(fault("api_load", cluster="east", load=100, serving_needs_it=0.4))

    assert error_share(world, "chat-east") == pytest.approx(0.4, abs=0.01)


def test_a_full_dependency_fails_what_it_serves_and_keeps_replicas_from_starting() -> None:
    """A third more is asked of it than it can do: a quarter of the requests fails."""
    data = {"name": "db", "capacity": 100, "load": 50, "serves": True}
    leaning = [pool("chat-east", "east", depends_on=["db"]), pool("chat-west", "west")]
    of = fleet(pools=leaning, dependencies=[data])
    full = fault("dependency", name="db", load=83.3)
    world = played(full, fault("crash", pool="chat-east", replicas=1) | {"at": "6m"}, of=of)

    assert error_share(played(full, of=of), "chat-east") == pytest.approx(0.25, abs=0.01)
    assert [r.up for r in east(world).replicas] == [False, True, True, True]


def test_what_fails_upstream_never_reaches_the_engines() -> None:
    """They idle, and their own error rate shows nothing."""
    world = played(fault("upstream", route="chat", share=0.5))

    assert world.routes["chat"].users.failed["upstream"] == pytest.approx(10, abs=0.01)
    assert east(world).asked_s == pytest.approx(5, abs=0.01)
    assert error_share(world) == 0


def test_a_change_rolls_replica_by_replica_and_has_its_effect_where_it_runs() -> None:
    """One a minute: after two and a half minutes two of four answer with errors."""
    half = played(fault("change", pools=["chat-east"], version="v2", errors=0.5, per_minute=1.0), seconds=450)

    assert [r.errors for r in east(half).replicas] == [0.5, 0.5, 0.0, 0.0]
    assert all(r.up for r in east(half).replicas)
    assert half.workload("chat-east").present.image == "v2"


@pytest.mark.parametrize(
    ("effect", "shows"),
    [
        ({"client_errors": 0.5}, lambda look: look.client_errors_s > 1),
        ({"slow_factor": 0.2}, lambda look: look.queue > 10),
        ({"bad_output": 0.5}, lambda look: look.replicas[0].canary is False),
        ({"hangs": 0.5}, lambda look: [r.answers for r in look.replicas] == [True, False, True, False]),
        ({"never_ready": True}, lambda look: not any(r.up for r in look.replicas)),
        ({"kv_factor": 60.0}, lambda look: look.kv_used > 0.9),
    ],
)
def test_a_bad_change_shows_what_it_does(effect: dict[str, Any], shows: Any) -> None:
    """Each effect by its own symptom."""
    assert shows(east(played(fault("change", pools=["chat-east"], version="v2", **effect))))


def test_a_change_hurts_only_on_the_hardware_that_shows_it() -> None:
    """It rolls over both, and errors come from one."""
    world = played(fault("change", pools=["chat-east", "chat-west"], version="v2", errors=0.5, only_on=["west"]))

    assert (error_share(world, "chat-east"), error_share(world, "chat-west") > 0.4) == (0, True)


def test_a_version_that_is_built_on_a_bad_one_is_bad_as_well() -> None:
    """Somebody rolls forward, without the fix."""
    world = played(
        fault("change", pools=["chat-east"], version="v2", errors=0.5),
        fault("change", pools=["chat-east"], version="v3") | {"at": "10m"},
    )

    assert error_share(world, "chat-east") == pytest.approx(0.5, abs=0.01)


def test_what_others_set_by_hand_is_set() -> None:
    """In every run of the incident, and not counted as an act of this one."""
    world = played(fault("by_hand", by="a script", sets={"weight/chat/chat-east": 0, "cordon/east-n1": "on"}))

    assert world.edge.weights["chat"]["chat-east"] == 0
    assert world.node("east-n1").cordoned
    assert world.account.writes == []


@pytest.mark.parametrize(
    "some",
    [
        fault("hang", pool="chat-east", replicas=1),
        fault("slow", pool="chat-east", factor=0.2),
        fault("errors", pool="chat-east", share=0.5),
        fault("dead_connections", pool="chat-east", share=0.5),
        fault("demand", route="chat", factor=3),
        fault("long_requests", route="chat", factor=3),
        fault("imbalance", pool="chat-east", share=0.9, replica=True),
        fault("node_down", cluster="east"),
        fault("gpu", node="east-n1", gpu=0, xid=48),
        fault("network", cluster="east", share=1.0),
        fault("cluster_gone", cluster="east"),
        fault("api_load", cluster="east", load=100, serving_needs_it=1.0),
        fault("upstream", route="chat", share=0.5),
        fault("change", pools=["chat-east"], version="v2", errors=0.5),
        fault("change", pools=["chat-east"], version="v2", never_ready=True),
    ],
    ids=lambda f: str(f["fault"]),
)
def test_a_fault_that_ends_by_itself_leaves_a_well_fleet(some: dict[str, Any]) -> None:
    """Ten minutes after its end nobody fails any more."""
    world = played(some | {"ends": "15m"}, seconds=1500)
    then = lost(world)
    world.advance(1800)

    assert then > 0
    assert lost(world) - then < 1
    assert world.under_way < 1
