"""What worker/edge.py lays down: an edge that nothing but Interlock heals, and names of any kind that the fleet allows."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import yaml

from activities.adapters.envoy import EnvoyTraffic
from runbooks.facts import Value
from runbooks.fleet import Endpoint, Fleet, Pool, Route
from tests.adapters.engine_lab import engines
from tests.adapters.envoy_lab import Upstream, free_port, running, until
from tests.adapters.test_traffic_contract import change, permit
from worker.edge import write_edge


def fleet(*addresses: str, pool: str = "pool", route: str = "chat") -> Fleet:
    """One route, one pool."""
    endpoints = tuple(Endpoint(address=a) for a in addresses)
    pools = (Pool(name=pool, cluster="east", dialect="vllm", endpoints=endpoints, tokens_per_second=1),)
    return Fleet(routes=(Route(name=route, pools=(pool,), tiers=("batch",)),), pools=pools)


def test_no_pool_has_health_checks_outlier_detection_or_retries(tmp_path: Path) -> None:
    """With policy `observe` a fault must stay a fault."""
    path = write_edge(
        fleet("127.0.0.1:9"), tmp_path, admin_port=1, listen_port=2, weights={"chat": {"pool": 1}}, route_timeout_s=2
    )

    (cluster,) = json.loads((tmp_path / "cds.json").read_text())["resources"]
    assert not {"health_checks", "outlier_detection"} & set(cluster)
    assert cluster["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"}
    assert "retry" not in path.read_text()
    assert "timeout: 2.000s" in path.read_text()
    assert yaml.safe_load(path.read_text())["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"


def test_an_edge_that_is_started_again_keeps_its_settings_only_when_asked(tmp_path: Path) -> None:
    """`keep` leaves files and fence; without it the edge is new and fenced against nothing."""
    served = fleet("127.0.0.1:9")
    write_edge(served, tmp_path, admin_port=1, listen_port=2, weights={"chat": {"pool": 5}})
    (tmp_path / "fence.json").write_text("{}")

    write_edge(served, tmp_path, admin_port=1, listen_port=2, weights={"chat": {"pool": 6}}, keep=True)
    assert '"routing.split.chat.pool": 5' in (tmp_path / "rtds.json").read_text()
    assert (tmp_path / "fence.json").exists()

    write_edge(served, tmp_path, admin_port=1, listen_port=2, weights={"chat": {"pool": 6}})
    assert '"routing.split.chat.pool": 6' in (tmp_path / "rtds.json").read_text()
    assert not (tmp_path / "fence.json").exists()


@pytest.mark.parametrize(
    ("address", "weights", "why"),
    [
        ("localhost:80", {"chat": {"pool": 1}}, "resolves no names"),
        ("127.0.0.1", {"chat": {"pool": 1}}, "not IP:PORT"),
        ("127.0.0.1:0", {"chat": {"pool": 1}}, "port of 1 to"),
        ("[0:0::1]:80", {"chat": {"pool": 1}}, r"as Envoy does \(\[::1\]:80\)"),
        ("127.0.0.1:9", {}, "must name exactly"),
        ("127.0.0.1:9", {"chat": {"pool": 0}}, "one of them above 0"),
    ],
)
def test_what_envoy_would_choke_on_is_said_before(
    tmp_path: Path, address: str, weights: dict[str, dict[str, int]], why: str
) -> None:
    """And nothing is written."""
    with pytest.raises(ValueError, match=why):
        write_edge(fleet(address), tmp_path / "edge", admin_port=1, listen_port=2, weights=weights)
    assert not (tmp_path / "edge").exists()


def test_two_names_that_are_one_runtime_key_are_refused(tmp_path: Path) -> None:
    """Route "a" with pool "b.c" and route "a.b" with pool "c" would share one weight."""
    end = (Endpoint(address="127.0.0.1:9"),)
    pools = tuple(
        Pool(name=n, cluster="east", dialect="vllm", endpoints=end, tokens_per_second=1) for n in ("b.c", "c")
    )
    twins = Fleet(routes=(Route(name="a", pools=("b.c",)), Route(name="a.b", pools=("c",))), pools=pools)

    with pytest.raises(ValueError, match="one runtime key"):
        write_edge(twins, tmp_path, admin_port=1, listen_port=2, weights={"a": {"b.c": 1}, "a.b": {"c": 1}})


async def test_odd_names_and_the_largest_weight_work_on_a_real_envoy(tmp_path: Path) -> None:
    """Colons, dots and pluses in names; a fleet of one route needs no route header; all four families swap."""
    upstream = Upstream()
    server = await upstream.start()
    pool, route = "llm:70b.v1+x", "chat.v2"
    served = fleet(upstream.address, pool=pool, route=route)
    admin, listen = free_port(), free_port()
    path = write_edge(served, tmp_path, admin_port=admin, listen_port=listen, weights={route: {pool: 1}})
    with running(path):
        client = httpx.AsyncClient(trust_env=False)

        async def ok() -> bool:
            try:
                return (await client.get(f"http://127.0.0.1:{listen}/any/path")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ok, "Envoy serves")
        traffic = EnvoyTraffic(served, tmp_path, f"http://127.0.0.1:{admin}", client)
        steps: list[tuple[str, Value, Value]] = [
            (f"weight/{route}/{pool}", 1, 100_000),
            (f"admit/{route}/batch", 100, 1),
            (f"connections/{pool}", 0, 5),
            (f"endpoint/{pool}/{upstream.address}", "in", "out"),
        ]
        for epoch, (key, before, after) in enumerate(steps, start=1):
            wanted = change({key: before}, {key: after})
            await traffic.swap(wanted, permit(wanted, epoch=epoch))
            assert await traffic.effective([key]) == {key: after}
        await client.aclose()
    for writer in list(upstream.open):
        writer.close()
    server.close()
    await server.wait_closed()


async def test_envoy_lets_an_idle_connection_go_before_its_engine_does(tmp_path: Path) -> None:
    """Both sides are real. If the engine is the first to close, a request that Envoy sends at that moment is lost (503)."""
    with engines(1) as (engine,):
        admin, listen = free_port(), free_port()
        path = write_edge(
            fleet(engine.address), tmp_path, admin_port=admin, listen_port=listen, weights={"chat": {"pool": 1}}
        )
        async with httpx.AsyncClient(trust_env=False) as client:

            async def stat(name: str) -> int:
                name = f"cluster.pool.{name}"
                found = await client.get(
                    f"http://127.0.0.1:{admin}/stats", params={"format": "json", "filter": f"^{name}$"}
                )
                return int(next(s["value"] for s in found.json()["stats"] if s.get("name") == name))

            async def ok() -> bool:
                try:
                    return (await client.get(f"http://127.0.0.1:{listen}/v1/models")).status_code == 200
                except httpx.TransportError:
                    return False

            async def closed() -> bool:
                return await stat("upstream_cx_active") == 0

            with running(path):
                await until(ok, "Envoy serves")
                assert await stat("upstream_cx_active") == 1
                await until(closed, "one of them closes the connection")
                assert (await stat("upstream_cx_idle_timeout"), await stat("upstream_cx_destroy_remote")) == (1, 0)
