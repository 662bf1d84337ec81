"""A policy as a whole: each mistake is one sentence that names the field and the fix, and only what cannot be meant is an error."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runbooks.fleet import ControlPlane, Endpoint, Fleet, Node, Pool, Route, Workload, outside
from runbooks.library import SHIPPED, Library
from runbooks.loader import CatalogError, read
from runbooks.policy import Policy
from runbooks.policy_check import check_policy, require_sound
from runbooks.policy_limits import first_increments
from runbooks.policy_sample import sample_fleet
from tests.runbooks.clusters import FLEET as CLUSTERED

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
GOOD = {"name": "p", "groups": {"sre-oncall": ("ana", "bo", "cy")}}


def lines(library: Library, fleet: Fleet | None = None, **more: Any) -> list[str]:
    """What is said of a good policy that is changed in this."""
    return [f.line() for f in check_policy(Policy.model_validate({**GOOD, **more}), library, fleet, NOW)]


def freeze(name: str, starts: float, ends: float, **more: Any) -> dict[str, Any]:
    """In hours from now."""
    return {
        "name": name, "starts": NOW + timedelta(hours=starts), "ends": NOW + timedelta(hours=ends), "reason": "r", **more,
    }  # fmt: skip


def test_a_good_policy_has_nothing_said_of_it(library: Library) -> None:
    """On the invented fleet."""
    assert lines(library) == []


def test_the_shipped_policy_has_no_error(library: Library, policy: Policy) -> None:
    """Its group is empty on purpose: people come by their tokens, or are filled in."""
    found = check_policy(policy, library, None, NOW)

    assert [(f.severity, f.field) for f in found] == [("warning", ("groups", "sre-oncall"))]


def test_the_shipped_policy_has_no_error_on_fleets_of_other_shapes(
    library: Library, policy: Policy, fleet: Fleet
) -> None:
    """Two clusters of proxies alone; one cluster with nodes of four GPUs and a pool of one."""
    for own in (fleet, CLUSTERED):
        assert [f for f in check_policy(policy, library, own, NOW) if f.severity == "error"] == []


CASES: list[tuple[dict[str, Any], str]] = [
    (
        {"classes": {"engine.hnag": {}}},
        "error: policy: classes.engine.hnag: there is no such failure class; did you mean engine.hang?",
    ),
    (
        {"levers": {"reroute_trafic": {}}},
        "error: policy: levers.reroute_trafic: there is no such lever; did you mean reroute_traffic?",
    ),
    (
        {"levers": {"page": {}}},
        "warning: policy: levers.page: page needs no permit, so nothing reads its limits: take it out",
    ),
    (
        {"default": {"approvers": "sre-oncal"}},
        "error: policy: default.approvers: sre-oncal is not named under `groups`: add it there ([] when its people come by the "
        "groups of their tokens); did you mean sre-oncall?",
    ),
    (
        {"groups": {"sre-oncall": ()}},
        "warning: policy: groups.sre-oncall: sre-oncall names nobody: only people whose verified token says sre-oncall can "
        "approve; name them here if theirs do not",
    ),
    (
        {"classes": {"engine.hang": {"quorum": 3, "never": ("Bo",)}}},
        "error: policy: classes.engine.hang.quorum: 3 must approve and sre-oncall has 2 without Bo: name more people there, or "
        "ask for fewer",
    ),
    (
        {"classes": {"engine.hang": {"quorum": 3}}},
        "warning: policy: classes.engine.hang.quorum: all 3 of sre-oncall must approve, and whoever reported the fault may not: "
        "name one more there",
    ),
    (
        {"groups": {"sre-oncall": ("ana", "Ana ", "bo")}},
        "warning: policy: groups.sre-oncall: one person stands there twice and has one voice: keep one spelling",
    ),
    (
        {"classes": {"engine.hang": {"quorum": 2, "accept_unverified": True}}},
        "warning: policy: classes.engine.hang.accept_unverified: it never counts here, because quorum is 2: take it out",
    ),
    (
        {"classes": {"infra.gpu_fault": {"mode": "auto"}}},
        "warning: policy: classes.infra.gpu_fault.mode: auto, and yet reset_gpu of 'Drain the node, then reset the GPU' waits for "
        "a named, verified person, because it cannot be taken back: right if meant, else set levers.reset_gpu.unattended",
    ),
    (
        {"levers": {"isolate_endpoint": {"max_endpoints_down": 0}}},
        "error: policy: levers.isolate_endpoint.max_endpoints_down: 0 stops every increment of isolate_endpoint (1 endpoints of "
        "pool-a would be out; the limit is 0): raise it, or block the lever openly with max_acts_per_hour: 0",
    ),
    (
        {"levers": {"isolate_endpoint": {"max_acts_per_hour": 0}}},
        "warning: policy: levers.isolate_endpoint.max_acts_per_hour: 0 blocks isolate_endpoint everywhere: right if that is meant",
    ),
    (
        {"levers": {"shed_load": {"largest_increment": 0.001}}},
        "error: policy: levers.shed_load.largest_increment: 0.001 stops every increment of shed_load (an increment under 1 % of "
        "tier batch cannot be written): raise it, or block the lever openly with max_acts_per_hour: 0",
    ),
    (
        {"domain": {"nodes_per_hour": 0}},
        "error: policy: domain.nodes_per_hour: 0 stops every increment of rebalance_nodes (1 nodes would be taken within one hour; "
        "the domain's budget is 0): raise it, or block the lever openly with max_acts_per_hour: 0",
    ),
    (
        {"levers": {"increase_capacity": {"max_gpus": 100}}},
        "warning: policy: levers.increase_capacity.max_gpus: 100 is more than domain.gpus_per_hour (64) gives to all levers "
        "together: lower it, or raise that",
    ),
    (
        {"min_answering": 1.0},
        "warning: policy: min_answering: at least 4 of 4 must go on answering in pool-a, pool-b, so none may be out and G5 refuses "
        "isolate_endpoint, rebalance_nodes, restart_engine, rollback_change, rollout_hotfix even when all is well: lower it, or "
        "give it more endpoints",
    ),
    (
        {"freezes": [freeze("old", -9, -8)]},
        "warning: policy: freezes.0.ends: old ended at 2026-11-24 04:00: take it out",
    ),
    (
        {"freezes": [freeze("a", -1, 2), freeze("b", 1, 3, then="ask")]},
        "warning: policy: freezes.1.then: b (ask) and a (deny) hold at the same time, and then a denies: give both the same "
        "`then`, or part their times",
    ),
    (
        {"ask_on_unknown": ("G13",)},
        "warning: policy: ask_on_unknown.0: G13 asks people where it cannot know (Correlated faults go to the domain), and people "
        "cannot know either: take it out if none of them looks it up",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), CASES, ids=[said.split(": ")[2] for _, said in CASES])
def test_each_mistake_is_one_sentence(library: Library, change: dict[str, Any], said: str) -> None:
    """Field, what is wrong, the fix."""
    assert said in lines(library, **change)


def test_a_class_that_only_observes_needs_nobody(library: Library) -> None:
    """Its group and quorum are not looked at."""
    assert lines(library, classes={"engine.hang": {"mode": "observe", "approvers": "nobody", "quorum": 5}}) == []


def test_freezes_of_other_places_or_times_do_not_overlap(library: Library) -> None:
    """Only what holds at one moment in one domain is in question."""
    apart = [freeze("a", -1, 1), freeze("b", 1, 2, then="ask")]
    elsewhere = [freeze("a", -1, 1, domains=("west",)), freeze("b", -1, 2, then="ask", domains=("east",))]

    assert lines(library, freezes=apart) == lines(library, freezes=elsewhere) == []


def test_a_freeze_of_a_cluster_that_there_is_none_of_freezes_nothing(library: Library, fleet: Fleet) -> None:
    """So it is an error: whoever wrote it believes that changes are stopped."""
    found = lines(library, fleet, freezes=[freeze("a", -1, 1, domains=("wets",))])

    assert (
        "error: policy: freezes.0.domains: a names wets, and the fleet has no such cluster; did you mean west?" in found
    )


def test_a_minimum_that_no_pool_can_meet_is_an_error(library: Library) -> None:
    """Every lever is refused, and moving load to a pool as well."""
    found = lines(library, sample_fleet(), min_answering_count=5)

    assert [f.split(": ")[:3] for f in found if f.startswith("error")] == [["error", "policy", "min_answering_count"]]


def test_a_large_fleet_is_checked_by_its_shapes(library: Library, policy: Policy) -> None:
    """A hundred pools and nodes of two kinds: one target of each is walked, and the small pools are all named."""
    sizes = {f"p{n}": 1 if n % 10 == 0 else 4 for n in range(100)}
    pools = tuple(
        Pool(
            name=name, cluster="west", dialect="vllm", tokens_per_second=1.0,
            endpoints=tuple(Endpoint(address=f"{name}-{n}:1") for n in range(size + 1)),
            workload=Workload(namespace="m", deployment=name, replicas=size),
        )
        for name, size in sizes.items()
    )  # fmt: skip
    nodes = tuple(Node(name=f"n{n}", cluster="west", pools=(f"p{n}",), gpus=8) for n in range(100))
    many = Fleet(
        routes=tuple(Route(name=f"r{n}", pools=(f"p{n}", f"p{n + 1}")) for n in range(0, 100, 2)),
        pools=pools, nodes=nodes, controls=outside("west"),
    )  # fmt: skip
    cases = list(first_increments(policy, library, many, NOW))
    (small,) = [f.text for f in check_policy(policy, library, many, NOW) if f.field == ("min_answering",)]

    assert max(len(c.world.fleet.pools) for c in cases) <= 6
    assert {c.target.service for c in cases if c.target.service} == {"p0", "p1"}
    assert "at least 1 of 1 must go on answering in p0, p10, p20, p30, p40, p50, p60, p70, p80, p90" in small


def test_one_small_pool_is_named_and_stops_nobody(library: Library) -> None:
    """`small` has one replica, and one must answer; `big` may lose one."""
    found = [f for f in lines(library, CLUSTERED) if "min_answering" in f]

    assert len(found) == 1
    assert found[0].startswith("warning: policy: min_answering: at least 1 of 1 must go on answering in small, so none")


def test_a_fleet_of_single_replicas_stops_no_worker(library: Library, policy: Policy) -> None:
    """Nothing can be taken out there, which is told, and is no mistake of the policy."""
    pools = tuple(
        plain(name, "west").model_copy(update={"endpoints": (Endpoint(address=f"{name}:1"),)}) for name in "ab"
    )
    lone = Fleet(routes=(Route(name="chat", pools=("a", "b")),), pools=pools, controls=outside("west"))
    found = [f.line() for f in check_policy(policy, library, lone, NOW)]

    assert not [f for f in found if f.startswith("error")]
    assert [
        f for f in found if f.startswith("warning: policy: levers.isolate_endpoint.max_share_down: 0.5 stops every")
    ]
    assert [f for f in found if "at least 1 of 1 must go on answering in a, b, so none may be out" in f]


def test_a_step_that_can_never_be_completed_is_told(library: Library) -> None:
    """A quarter at once and a third in all: the second increment of the reroute is refused, by G2's own word."""
    found = lines(library, levers={"reroute_traffic": {"largest_share": 0.3}})

    assert [f for f in found if "stops after 1 of 2 increments (50% of chat would be moved; the limit is 30%)" in f]


def plain(name: str, cluster: str, **more: Any) -> Pool:
    ends = tuple(Endpoint(address=f"{name}-{n}:1") for n in range(3))
    return Pool(name=name, cluster=cluster, dialect="vllm", endpoints=ends, tokens_per_second=1.0, **more)


def test_a_cluster_without_controls_is_an_error_with_the_yaml_to_add(library: Library) -> None:
    """G11 would refuse every lever there, and nobody would see it before the first incident."""
    fleet = Fleet(
        routes=(Route(name="chat", pools=("a", "b"), error_budget="x"),), pools=(plain("a", "west"), plain("b", "east")),
        controls=outside("east"),
    )  # fmt: skip
    found = lines(library, fleet)

    assert found == [
        "error: fleet: controls: G11 refuses every lever in west, because nothing says what it runs on; add `controls: "
        "[{cluster: west, kind: traffic, runs_on: []}]`, with the ids in runs_on of what it needs to work"
    ]


def test_a_missing_kind_of_control_is_a_warning(library: Library) -> None:
    """Traffic can be moved, nodes cannot."""
    some = (ControlPlane(cluster="west", kind="traffic"), ControlPlane(cluster="west", kind="cluster"))
    found = [f for f in lines(library, CLUSTERED.model_copy(update={"controls": some})) if "G11" in f]

    assert found[0].startswith("warning: fleet: controls: G11 refuses every lever through the node control in west")


def test_residency_that_no_pool_has_and_a_missing_error_budget_are_told(library: Library) -> None:
    """A misspelt label allows nothing; without a query G15 is blind."""
    fleet = Fleet(
        routes=(Route(name="chat", pools=("a", "b")),),
        pools=(plain("a", "west", residency="eu"), plain("b", "west", residency="us")),
        controls=outside("west"),
    )
    found = lines(library, fleet, placement={"residency": {"eu": ("su",)}})

    assert [f.split(": ", 2)[2] for f in found] == [
        "placement.residency.eu: no pool of the fleet has residency su, so this allows nothing; there are eu, us",
        "routes.0.error_budget: 1 of 1 route(s) have no error budget query (chat), so G15 lets changes through while users "
        "already suffer: give PromQL of the share that is left",
    ]


def test_a_worker_must_not_start_with_errors(library: Library) -> None:
    """All of them are in the error; warnings come back to be logged."""
    bad = Policy.model_validate({**GOOD, "classes": {"x": {}}, "levers": {"y": {}}, "ask_on_unknown": ("G3",)})
    with pytest.raises(CatalogError) as error:
        require_sound(bad, library, sample_fleet(), NOW)

    assert [p.split(":")[1] for p in error.value.problems] == [" classes.x", " levers.y"]
    warned = Policy.model_validate({**GOOD, "ask_on_unknown": ("G3",)})
    told = require_sound(warned, library, sample_fleet(), NOW)
    assert [w.split(":")[1] for w in told] == [" ask_on_unknown.0", " routes.0.error_budget"]


def test_a_finding_names_the_line_of_its_file(library: Library, policy: Policy) -> None:
    """As people jump to it."""
    document = read(Path(SHIPPED / "policy.yaml"))
    line = check_policy(policy, library, None, NOW)[0].line(document)
    at = int(line.split(":")[2])

    assert "sre-oncall: []" in document.path.read_text().splitlines()[at - 1]
