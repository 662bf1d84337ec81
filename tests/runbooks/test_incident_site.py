"""The inventory that an incident file stands for."""

from __future__ import annotations

import pytest

from runbooks.fleet import Fleet
from runbooks.incident_fleet import PoolSpec, RouteSpec
from runbooks.incident_site import api_of, asked_of_site, budget_query, fleet_of, headroom_query, weights_of
from tests.adapters.fluid_lab import fleet, incident, pool


def test_names_are_those_that_the_file_promises() -> None:
    """Replicas, nodes and what they lean on."""
    found = fleet_of(incident())

    assert [n.name for n in found.nodes] == ["east-n1", "east-n2", "west-n1", "west-n2"]
    assert found.pools[0].endpoints[0].address == "chat-east-0:8000"
    assert len(found.pools[0].endpoints) == 12  # twice four, and four
    assert found.pools[0].size == 4
    assert found.routes[0].tiers == ("batch", "paid")


def test_it_is_a_fleet_like_any_other() -> None:
    """Written and read again it is the same."""
    found = fleet_of(incident())

    assert Fleet.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("replicas", "written", "weights"),
    [
        ((4, 4), {}, (50, 50)),
        ((1, 2), {}, (33, 67)),
        ((4, 4), {"chat-east": 80, "chat-west": 20}, (80, 20)),
        ((4, 4), {"chat-east": 100}, (100, 0)),
    ],
)
def test_weights_follow_what_the_pools_can_serve_unless_they_are_written(
    replicas: tuple[int, int], written: dict[str, int], weights: tuple[int, int]
) -> None:
    """A hundred in all."""
    names = ("chat-east", "chat-west")
    pools = {n: PoolSpec.model_validate(pool(n, "east", r)) for n, r in zip(names, replicas, strict=True)}
    route = RouteSpec.model_validate({"name": "chat", "pools": names, "weights": written, "requests_per_second": 1.0})

    assert weights_of(route, pools) == dict(zip(names, weights, strict=True))


def test_the_sites_own_queries_are_understood_and_no_others() -> None:
    """By whoever answers them."""
    assert asked_of_site(headroom_query("db")) == ("headroom", "db")
    assert asked_of_site(budget_query("chat")) == ("error_budget", "chat")
    assert asked_of_site("up") is None


def test_controls_are_declared_for_every_cluster_and_kind() -> None:
    """What nobody has declared is not moved."""
    inside = [
        {"name": "east", "nodes": 2, "traffic_runs_on": ["east"], "cluster_runs_on": ["west"]},
        {"name": "west", "nodes": 2},
    ]
    found = fleet_of(incident(of=fleet(clusters=inside)))
    declared = {(c.cluster, c.kind): c.runs_on for c in found.controls}

    assert declared[("east", "traffic")] == ("east",)
    assert declared[("east", "cluster")] == ("west",)
    assert {k for k, on in declared.items() if not on} == {
        ("east", "node"), ("west", "traffic"), ("west", "cluster"), ("west", "node"),
    }  # fmt: skip


def test_each_pool_leans_on_the_api_of_its_cluster() -> None:
    """As on a database: by headroom in replicas."""
    found = fleet_of(incident())

    assert {d.name for d in found.dependencies} == {api_of("east"), api_of("west")}
    assert [p.workload.depends_on for p in found.pools if p.workload] == [(api_of("east"),), (api_of("west"),)]
