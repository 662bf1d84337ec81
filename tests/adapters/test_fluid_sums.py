"""Nobody gets lost in the model, it plays alike each time, and neither long steps nor large fleets change what it says."""

from __future__ import annotations

import time
from typing import Any

import pytest

from activities.adapters.fluid_world import FluidWorld
from tests.adapters.fluid_lab import QUIET, error_share, fleet, incident, lost, played, pool

SOME: tuple[dict[str, Any], ...] = (
    {"fault": "demand", "at": "3m", "route": "chat", "factor": 2.5, "ramp": "4m", "ends": "30m"},
    {"fault": "hang", "at": "5m", "pool": "chat-east", "replicas": 1, "ends": "22m"},
    {"fault": "crash", "at": "8m", "pool": "chat-west", "replicas": 2, "every": "3m"},
    {"fault": "dead_connections", "at": "9m", "pool": "chat-west", "share": 0.1},
    {"fault": "upstream", "at": "10m", "route": "chat", "share": 0.1, "ends": "15m"},
    {"fault": "change", "at": "12m", "pools": ["chat-east"], "version": "v2", "client_errors": 0.05},
)
HANDS: dict[float, dict[str, int | str]] = {
    700: {"admit/chat/batch": 40},
    900: {"weight/chat/chat-east": 30},
    1000: {"endpoint/chat-east/chat-east-0:8000": "out"},
    1100: {"replicas/chat-west": 7},
    1500: {"image/chat-east": "v1"},
}


@pytest.mark.parametrize("seconds", [310, 777, 1234, 3000])
def test_every_request_is_served_failed_refused_or_under_way(seconds: float) -> None:
    """Whatever happens, at any moment."""
    world = played(*SOME, seconds=seconds, hands={at: s for at, s in HANDS.items() if at < seconds})
    account = world.account
    refused = sum(account.refused_requests.values())

    ended = account.served_requests + account.failed_requests + refused
    assert account.offered_requests == pytest.approx(ended + world.under_way, rel=1e-9)
    assert account.failed_requests == pytest.approx(sum(account.failed_by_cause.values()))


def test_the_series_adds_up_to_the_totals() -> None:
    """Its rates are means over its rows."""
    world = played(*SOME, seconds=3000, hands=HANDS)
    account, rows = world.account, world.account.series
    spans = [row.t_s - before for row, before in zip(rows, [0.0, *(r.t_s for r in rows)], strict=False)]
    failed = sum(span * sum(row.routes["chat"].failed.values()) for row, span in zip(rows, spans, strict=True))

    assert failed == pytest.approx(account.failed_requests, rel=0.01)
    assert max(spans) <= 31


def test_the_same_file_plays_alike_each_time() -> None:
    """To the last digit."""
    one, other = (played(*SOME, seconds=3000, hands=HANDS) for _ in range(2))

    assert one.account == other.account


def test_what_it_says_hardly_hangs_on_how_often_it_is_asked() -> None:
    """Looked at twice a second or every ten minutes: the same within a few hundredths."""
    often, seldom = FluidWorld(incident(*SOME)), FluidWorld(incident(*SOME))
    for half_second in range(6000):
        often.advance(half_second / 2)
    for ten_minutes in range(1, 6):
        seldom.advance(600 * ten_minutes)

    assert lost(often) == pytest.approx(lost(seldom), rel=0.03)


def test_retries_add_load_and_are_bounded() -> None:
    """Clients that ask ten times make a pool's errors everybody's; each user counts once."""
    sick: dict[str, Any] = {"fault": "errors", "at": "5m", "pool": "chat-east", "share": 1.0}
    worlds = {}
    for retries in (0, 1, 10):
        route = {"name": "chat", "pools": ["chat-east", "chat-west"], "requests_per_second": 20.0, "retries": retries}
        worlds[retries] = played(sick, of=fleet(routes=[route]))
    attempts = {n: w.routes["chat"].attempts for n, w in worlds.items()}

    assert attempts[0] == pytest.approx(20, rel=0.01)
    assert attempts[0] < attempts[1] < attempts[10] < 20 * 11
    assert lost(worlds[10]) < lost(worlds[0])
    assert worlds[10].account.offered_requests == worlds[0].account.offered_requests


def test_a_retry_storm_keeps_a_pool_down_that_could_serve_without_it() -> None:
    """The surge is over after ten minutes; those who ask again and again are not."""
    surge: dict[str, Any] = {"fault": "demand", "at": "5m", "route": "chat", "factor": 4, "ends": "15m"}

    def later(retries: float) -> float:
        asks = {"requests_per_second": 30.0, "retries": retries}
        route = {"name": "chat", "pools": ["chat-east", "chat-west"], **asks}
        return error_share(played(surge, seconds=1000, of=fleet(routes=[route])))

    assert later(10) > 2 * later(0)


def test_a_play_of_two_hours_and_ten_pools_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    """Told, and not timed: it is finished, whatever the machine does meanwhile."""
    pools = [pool(f"p{i}", ("east", "west")[i % 2], 8) for i in range(10)]
    routes = [{"name": f"r{i}", "pools": [f"p{2 * i}", f"p{2 * i + 1}"], "requests_per_second": 40.0} for i in range(5)]
    of = {"clusters": [{"name": c, "nodes": 8} for c in ("east", "west")], "pools": pools, "routes": routes}
    faults = [
        {"fault": "hang", "at": "10m", "pool": "p0", "replicas": 2},
        {"fault": "crash", "at": "10m", "pool": "p2", "replicas": 2, "every": "2m"},
        {"fault": "demand", "at": "20m", "route": "r2", "factor": 3},
    ]
    began = time.process_time()
    world = FluidWorld(incident(*faults, of=of))
    for quarter in range(480):
        world.advance(15.0 * quarter)
    took = time.process_time() - began

    with capsys.disabled():
        print(f"\ntwo hours of ten pools: {took:.2f} s of CPU")
    assert world.t == pytest.approx(7185)


def test_a_fleet_of_thousands_is_built_and_played() -> None:
    """Half a thousand nodes, two thousand replicas; a twentieth of the nodes fails."""
    of = {
        "clusters": [{"name": "east", "nodes": 500, "api": {"capacity": 2000}}],
        "pools": [pool("chat-east", "east", 2000)],
        "routes": [{"name": "chat", "pools": ["chat-east"], "requests_per_second": 5000.0}],
    }
    world = FluidWorld(incident({"fault": "node_down", "at": "1m", "cluster": "east", "nodes": 25}, of=of))
    world.advance(600)

    assert world.ready_in("chat-east") == 2000
    assert 0 < lost(world) < 0.2 * world.account.offered_requests


def test_nothing_moves_in_a_fleet_at_rest() -> None:
    """Long steps: ten hours are few hundred of them."""
    world = FluidWorld(incident(QUIET, lasts="10h"))
    world.advance(36_000)

    assert len(world.account.series) < 1300
    assert world.under_way == pytest.approx(0, abs=1e-6)
