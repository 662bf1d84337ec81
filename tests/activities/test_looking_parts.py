"""Engines held against their siblings, and what a cluster's state says of a target."""

from __future__ import annotations

from datetime import timedelta

from activities.looking_cluster import of_cluster
from activities.looking_engines import Load, of_generations, of_loads
from activities.ports import Generation
from runbooks.detection import Target
from tests.runbooks import clusters as c

LATE = "no token within 2.0 s"


def said(ok: bool, why: str = "", seconds: float = 0.1) -> Generation:
    """One generation."""
    return Generation(ok=ok, tokens=int(ok), seconds=seconds, why=why, observed_at=c.NOW)


def test_an_engine_hangs_when_its_deadline_passed_and_another_answered() -> None:
    """All silent may be the network; refused and broken are something else."""
    asked = {
        "a": said(False, LATE, 2),
        "b": said(True),
        "c": said(False, "HTTP 500"),
        "d": said(False, "connection refused"),
    }

    found = of_generations(asked, list(asked), {})

    assert found == {"replicas_serving": 0.25, "endpoints_hung": 1.0, "probe_slowest_s": 0.1}
    assert of_generations({"a": said(False, LATE, 2)}, ["a"], {}) == {"replicas_serving": 0.0}
    assert of_generations({}, [], {}) == {}


def test_an_engine_whose_tokens_move_is_busy_and_not_hung() -> None:
    """Its own counter says so."""
    asked = {"a": said(False, LATE, 2), "b": said(True)}

    assert of_generations(asked, ["a"], {"a": Load(8, 50)})["endpoints_hung"] == 0.0
    assert of_generations(asked, ["a"], {"a": Load(8, 0)})["endpoints_hung"] == 1.0


def test_slow_is_less_of_the_siblings_speed_with_no_less_work() -> None:
    """An idle engine makes few tokens and is well."""
    busy = {"a": Load(4, 100), "b": Load(4, 105), "c": Load(4, 40)}

    assert of_loads(busy, ["a", "b", "c"]) == {"slow_endpoints": 1.0, "hot_endpoints": 0.0}
    assert of_loads({**busy, "c": Load(1, 40)}, ["c"])["slow_endpoints"] == 0.0
    assert of_loads(busy, ["a"])["slow_endpoints"] == 0.0


def test_hot_is_far_more_work_at_the_siblings_speed() -> None:
    """It does what it can: the others could do more."""
    loads = {"a": Load(1, 90), "b": Load(1, 90), "c": Load(2, 100), "d": Load(20, 100)}

    assert of_loads(loads, list(loads)) == {"slow_endpoints": 0.0, "hot_endpoints": 1.0}


def test_a_handful_of_requests_that_met_at_one_engine_is_chance() -> None:
    """A look is one moment. Measured: three engines with five requests among them, some of which were looks of other cases."""
    met = {"a": Load(5, 90), "b": Load(0, 90), "c": Load(0, 90)}
    hot = {"a": Load(12, 90), "b": Load(1, 90), "c": Load(1, 90)}

    assert of_loads(met, list(met))["hot_endpoints"] == 0.0
    assert of_loads(hot, list(hot))["hot_endpoints"] == 1.0


def test_one_engine_has_no_siblings() -> None:
    """Nothing is said rather than nothing found."""
    assert of_loads({"a": Load(4, 1)}, ["a"]) == {}


BIG = Target(cluster="west", service="big")


def test_a_change_within_the_hour_is_told_with_how_far_it_has_come() -> None:
    """Older ones are not, nor is the first version of all."""
    new = c.work("big", 3, template="v2", revisions=(c.revision("v1", 1, 600), c.revision("v2", 2, 7)))
    pods = (c.pod("big-0"), c.pod("big-1", "n2"), c.pod("big-2", "n2", template="v2"))
    old = c.work("big", 3, template="v2", revisions=(c.revision("v1", 1, 600), c.revision("v2", 2, 61)))

    seen = of_cluster(c.state(pods=pods, big=new), BIG, c.FLEET, c.NOW)

    assert (seen["minutes_since_change"], seen["change_unfinished"]) == (7.0, True)
    assert "minutes_since_change" not in of_cluster(c.state(pods=pods, big=old), BIG, c.FLEET, c.NOW)
    assert "minutes_since_change" not in of_cluster(c.state(), BIG, c.FLEET, c.NOW)


def test_replicas_on_a_lost_node_and_engines_that_ended_are_counted() -> None:
    """Of an endpoint's case only its own."""
    nodes = (c.node("n1"), c.node("n2", ready=False))
    pods = (
        c.pod("big-0", ready=False, waiting="CrashLoopBackOff: back-off 40s"),
        c.pod("big-1", "n2", ready=False),
        c.pod("big-2", None, ready=False, unschedulable=True, waiting="Unschedulable: 0/2 nodes"),
    )
    state = c.state(nodes=nodes, pods=pods)

    seen = of_cluster(state, BIG, c.FLEET, c.NOW)
    one = of_cluster(state, BIG.model_copy(update={"endpoint": "big-0:8000"}), c.FLEET, c.NOW)

    assert (seen["on_lost_nodes"], seen["crash_loops"], seen["unschedulable"]) == (1.0, 1.0, 1.0)
    assert (one["on_lost_nodes"], one["crash_loops"]) == (0.0, 1.0)
    assert (seen["nodes_not_ready"], seen["nodes_not_ready_share"]) == (1.0, 0.5)


def test_nodes_that_a_cluster_lost_say_nothing_of_a_pool_that_has_no_replica_on_them() -> None:
    """Its wrong answers are not the network's fault, whatever else is on fire: they say so of the cluster itself."""
    state = c.state(nodes=(c.node("n1"), c.node("n2", ready=False), c.node("n3", ready=False)), pods=(c.pod("big-0"),))

    assert "nodes_not_ready" not in of_cluster(state, BIG, c.FLEET, c.NOW)
    assert of_cluster(state, Target(cluster="west"), c.FLEET, c.NOW)["nodes_not_ready"] == 2.0


def test_gpus_of_a_pool_are_those_under_replicas_that_do_not_serve() -> None:
    """One that is sick elsewhere under a large pool is not what ails it."""
    sick = c.node("n2", sick_gpus={"1": "XID 48"}, counted_gpus=("0", "1", "2"))
    state = c.state(nodes=(c.node("n1", counted_gpus=("0", "1", "2", "3")), sick))

    well = of_cluster(state, BIG, c.FLEET, c.NOW)
    seen = of_cluster(state, BIG, c.FLEET, c.NOW, silent=("big-1:8000",))
    one = of_cluster(state, BIG.model_copy(update={"endpoint": "big-1:8000"}), c.FLEET, c.NOW)

    assert (well["gpus_sick_here"], well["gpus_off_bus_here"]) == (0.0, 0.0)
    assert (seen["gpus_sick_here"], seen["gpus_off_bus_here"]) == (1.0, 1.0)
    assert (one["gpus_sick_here"], one["gpus_off_bus_here"]) == (1.0, 1.0)


def test_gpus_are_not_told_at_all_where_an_agent_is_silent() -> None:
    """A part of the nodes would look better than all of them are."""
    sick = c.node("n2", sick_gpus={"1": "XID 48"}, agent_seen_at=c.NOW - timedelta(seconds=61))
    state = c.state(nodes=(c.node("n1"), sick))

    assert "gpus_sick_here" not in of_cluster(state, BIG, c.FLEET, c.NOW, silent=("big-1:8000",))


def test_of_a_gpu_only_its_own_word_counts() -> None:
    """Another one of its node is another case."""
    sick = c.node("n2", sick_gpus={"1": "XID 48"}, counted_gpus=("0", "1", "2", "3"))
    state = c.state(nodes=(c.node("n1"), sick))

    def of(gpu: str) -> object:
        return of_cluster(state, Target(cluster="west", node="n2", gpu=gpu), c.FLEET, c.NOW)["gpus_sick_here"]

    assert (of("0"), of("1")) == (0.0, 1.0)


def test_a_node_says_whether_it_is_ready_and_one_that_is_not_there_says_nothing() -> None:
    """Nought would be a claim."""
    state = c.state(nodes=(c.node("n1"), c.node("n2", ready=False)))

    assert of_cluster(state, Target(cluster="west", node="n2"), c.FLEET, c.NOW)["node_ready"] == 0.0
    assert "nodes_not_ready" not in of_cluster(state, Target(cluster="west", node="n2"), c.FLEET, c.NOW)
    assert "node_ready" not in of_cluster(state, Target(cluster="west", node="n9"), c.FLEET, c.NOW)
