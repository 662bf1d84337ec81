"""The simulated cluster under a virtual clock: hours in no time, and every event at its own moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from activities.adapters.simulated_cluster import SimSpec, SimulatedCluster
from activities.errors import Refused
from activities.ports import ClusterSnapshot
from runbooks.change import image_key, replicas_key
from tests.adapters.cluster_lab import DOMAIN, IMAGE, fleet_of
from tests.adapters.test_cluster_contract import change, permit

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Time:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        """Seconds later."""
        self.now += timedelta(seconds=seconds)


def simulated(time: Time, slots: int = 6, nodes: int = 3) -> SimulatedCluster:
    """Two pools on three nodes of two GPUs; a replica serves after 30 s."""
    names = tuple(f"n-{i}" for i in range(nodes))
    fleet = fleet_of(names, "sim", lambda p: tuple(f"{p}:{8000 + i}" for i in range(slots)))
    pools = {"pool-a": SimSpec(IMAGE, min_available=1), "pool-b": SimSpec(IMAGE, min_available=1)}
    broken = frozenset({"engine:broken"})
    return SimulatedCluster(fleet, DOMAIN, pools, clock=time, start_s=30, broken_images=broken)


def ready(seen: ClusterSnapshot, pool: str = "pool-a") -> int:
    """Replicas that serve."""
    return seen.state.workloads[pool].ready


async def test_replicas_serve_when_their_time_has_come_and_not_before() -> None:
    """Nothing waits."""
    time = Time()
    cluster = simulated(time)
    time.pass_(29)
    assert ready(await cluster.read(DOMAIN)) == 0
    time.pass_(1)
    assert ready(await cluster.read(DOMAIN)) == 2


async def test_a_rollout_never_has_a_replica_less_at_any_moment() -> None:
    """Looked at every second of it, or once an hour later: the end is the same."""
    often, seldom = Time(), Time()
    ends = []
    for time, step in ((often, 1), (seldom, 3600)):
        cluster = simulated(time)
        time.pass_(60)
        await cluster.read(DOMAIN)
        wanted = change({image_key("pool-a"): IMAGE}, {image_key("pool-a"): "engine:v2"})
        await cluster.swap(wanted, permit(wanted, act_before=time.now + timedelta(seconds=5)))
        for _ in range(3600 // step):
            time.pass_(step)
            assert ready(await cluster.read(DOMAIN)) >= 2
        state = (await cluster.read(DOMAIN)).state
        ends.append({(p.template, p.node, p.created_at) for p in state.of("pool-a")})
        assert state.workloads["pool-a"].updated == len(state.of("pool-a")) == 2
    assert ends[0] == ends[1]


async def test_a_broken_image_stands_still_with_the_old_replicas_serving() -> None:
    """As long as it takes."""
    time = Time()
    cluster = simulated(time)
    time.pass_(60)
    wanted = change({image_key("pool-a"): IMAGE}, {image_key("pool-a"): "engine:broken"})
    await cluster.swap(wanted, permit(wanted, act_before=time.now + timedelta(seconds=5)))
    time.pass_(3600)
    seen = await cluster.read(DOMAIN)

    assert (ready(seen), seen.state.workloads["pool-a"].updated) == (2, 1)


async def test_replicas_of_a_node_that_fails_come_back_elsewhere() -> None:
    """After the toleration; what is on its way out there stays until the node is back."""
    time = Time()
    cluster = simulated(time)
    time.pass_(60)
    pod = (await cluster.read(DOMAIN)).state.of("pool-a")[0]
    assert pod.node is not None
    cluster.fail(pod.node, "KubeletNotReady: no word")
    seen = await cluster.read(DOMAIN)
    assert (ready(seen), seen.state.nodes[pod.node].reason) == (1, "KubeletNotReady: no word")
    time.pass_(33)
    seen = await cluster.read(DOMAIN)
    assert ready(seen) == 2
    assert seen.state.pods[pod.name].deleting
    assert pod.node not in {p.node for p in seen.state.of("pool-a")}
    cluster.heal(pod.node)
    time.pass_(1)
    assert pod.name not in (await cluster.read(DOMAIN)).state.pods


async def test_no_replica_gets_an_address_that_the_fleet_does_not_list() -> None:
    """A pool that has grown to its last address grows no further."""
    time = Time()
    cluster = simulated(time, slots=3)
    wanted = change({replicas_key("pool-a"): 2}, {replicas_key("pool-a"): 4})
    await cluster.swap(wanted, permit(wanted, act_before=time.now + timedelta(seconds=5)))
    time.pass_(100)

    assert len((await cluster.read(DOMAIN)).state.of("pool-a")) == 3


async def test_a_check_needs_a_gpu_that_is_free() -> None:
    """As a kubelet would say."""
    time = Time()
    cluster = simulated(time, nodes=2)
    time.pass_(60)
    seen = await cluster.read(DOMAIN)
    full = max(seen.state.nodes.values(), key=lambda n: n.gpus_used)
    assert full.gpus_used == full.gpus

    with pytest.raises(Refused, match="free for a check"):
        await cluster.try_node(full.name, "pool-a", "interlock-check-1")
