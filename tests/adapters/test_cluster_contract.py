"""What every Cluster implementation must do, on a real control plane with real engines, and in the simulated cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities.errors import Ambiguous, Permanent, Refused
from activities.ports import Cluster, ClusterSnapshot
from runbooks.change import (
    GONE,
    Change,
    Permit,
    autoscale_key,
    boot_key,
    cordon_key,
    env_key,
    gpu_key,
    image_key,
    paused_key,
    pod_key,
    replicas_key,
    template_key,
)
from runbooks.facts import Settings
from tests.adapters.cluster_lab import DOMAIN, IMAGE, Bench, SimulatedBench, SiteBench, kube_bench, settled, until_read

BENCHES = ("kubernetes", "simulated", "site")


@pytest.fixture(scope="module", params=BENCHES)
async def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """One for the module: a control plane takes seconds."""
    if request.param == "kubernetes":
        plane = request.getfixturevalue("plane")
        async with kube_bench(plane, tmp_path_factory.mktemp("bench") / "lab") as bench:
            yield bench
    else:
        yield SimulatedBench() if request.param == "simulated" else SiteBench()


@pytest.fixture
async def bench(running: Bench) -> Bench:
    """As it was at first: fences, epochs and settings start anew."""
    await running.heal()
    return running


def change(before: Settings, after: Settings) -> Change:
    """A whole change."""
    return Change(before=before, after=after, last=True)


def permit(for_change: Change, epoch: int = 1, **fields: Any) -> Permit:
    """A permit that is good for a minute."""
    given = {
        "id": f"permit-{epoch}",
        "domain": DOMAIN,
        "act_before": datetime.now(UTC) + timedelta(minutes=1),
        **fields,
    }
    return Permit(case="case", step_id="step", change_digest=for_change.digest, purpose="act", epoch=epoch, **given)


async def swapped(cluster: Cluster, wanted: Change, epoch: int = 1) -> ClusterSnapshot:
    """The swap under a permit of this epoch."""
    seen = await cluster.swap(wanted, permit(wanted, epoch))
    assert isinstance(seen, ClusterSnapshot)
    return seen


async def refused(cluster: Cluster, wanted: Change, by: Permit) -> str:
    """The reason why the swap is refused."""
    with pytest.raises(Refused) as error:
        await cluster.swap(wanted, by)
    return str(error.value)


def cordon(node: str) -> Change:
    """off → on."""
    return change({cordon_key(node): "off"}, {cordon_key(node): "on"})


async def test_read_gives_settings_and_state_of_the_domain_and_no_other(bench: Bench) -> None:
    """Nodes, pods and workloads as they are; nothing of pool-c, no value of a variable that is named like a secret."""
    seen = await bench.cluster().read(DOMAIN)

    pods = {pod_key(p.pool, p.name): p.uid for p in seen.state.pods.values()}
    assert len(pods) == 3
    expected: Settings = {cordon_key(n): "off" for n in bench.nodes}
    expected |= {boot_key(n): seen.state.nodes[n].boot_id for n in bench.nodes}
    for pool, replicas in (("pool-a", 2), ("pool-b", 1)):
        work = seen.state.workloads[pool]
        expected |= {
            replicas_key(pool): replicas,
            image_key(pool): IMAGE,
            env_key(pool, bench.variable[0]): bench.variable[1],
            template_key(pool): work.template,
            paused_key(pool): "off",
        }
        assert (work.desired, work.ready, work.updated, work.available) == (replicas,) * 4
        assert (work.observed, work.paused, work.gpus_per_replica, work.stalled) == (True, False, 1, "")
        assert work.revisions[-1].template == work.template
    if bench.agents:
        expected |= {gpu_key(n, str(i)): 0 for n in bench.nodes for i in range(2)}
    assert seen.settings == expected | pods | {autoscale_key("pool-a"): "on"}
    assert (seen.epoch, seen.permit_id) == (0, "")
    work = seen.state.workloads["pool-a"]
    assert (work.autoscaler, work.autoscaler_max, work.frozen, work.disruptions_allowed) == ("pool-a", 4, False, 1)
    assert sum(seen.state.nodes[n].gpus_used for n in bench.nodes) == 3
    assert all(n.ready and n.gpus == 2 and not n.cordoned for n in (seen.state.nodes[n] for n in bench.nodes))
    slots = {e.address for p in bench.fleet.pools for e in p.endpoints}
    assert all(p.ready and p.address in slots and p.node in bench.nodes for p in seen.state.pods.values())


async def test_a_domain_that_the_fleet_has_not_is_permanent(bench: Bench) -> None:
    """The sentence names those that it has."""
    with pytest.raises(Permanent, match="east"):
        await bench.cluster().read("nowhere")


async def test_effective_agrees_with_read_and_leaves_unknown_keys_out(bench: Bench) -> None:
    """Every setting, asked for one by one."""
    cluster = bench.cluster()
    settings = (await cluster.read(DOMAIN)).settings

    assert await cluster.effective([*settings, cordon_key("nobody"), "weight/chat/pool-a"]) == settings


async def test_a_cordon_is_set_under_its_permit_and_taken_back(bench: Bench) -> None:
    """The scheduler's own mark; the snapshot names the permit and its epoch."""
    cluster, node = bench.cluster(), bench.nodes[0]

    seen = await swapped(cluster, cordon(node), epoch=7)

    assert seen.state.nodes[node].cordoned
    assert seen.settings[cordon_key(node)] == "on"
    assert (seen.epoch, seen.permit_id) == (7, "permit-7")
    back = await swapped(cluster, cordon(node).reversed("undo"), epoch=8)
    assert not back.state.nodes[node].cordoned


async def test_the_same_permit_again_writes_nothing(bench: Bench) -> None:
    """A retry after the answer was lost."""
    cluster, wanted = bench.cluster(), cordon(bench.nodes[0])
    await cluster.swap(wanted, permit(wanted))
    before = bench.writes()

    again = await bench.cluster().swap(wanted, permit(wanted))

    assert again.settings[cordon_key(bench.nodes[0])] == "on"
    assert bench.writes() == before


async def test_a_lower_epoch_is_refused_and_so_is_another_permit_of_the_same(bench: Bench) -> None:
    """A late attempt cannot undo what came after it, on whatever object."""
    cluster, (one, two, _) = bench.cluster(), bench.nodes
    await swapped(cluster, cordon(one), epoch=5)

    assert "epoch 5" in await refused(cluster, cordon(two), permit(cordon(two), epoch=4))
    assert "permit-5" in await refused(cluster, cordon(two), permit(cordon(two), epoch=5, id="other"))
    assert (await cluster.read(DOMAIN)).settings[cordon_key(two)] == "off"


async def test_a_before_state_that_is_not_there_is_refused(bench: Bench) -> None:
    """Somebody else has cordoned it: what they did is not ours to take over."""
    cluster, node = bench.cluster(), bench.nodes[0]
    bench.by_hand(cordon_key(node), "on")

    assert "plan again" in await refused(cluster, cordon(node), permit(cordon(node)))
    assert (await cluster.read(DOMAIN)).epoch == 0


async def test_what_was_changed_after_our_act_is_not_acted_on_again(bench: Bench) -> None:
    """An operator has uncordoned what this permit cordoned: the same permit never acts twice."""
    cluster, node = bench.cluster(), bench.nodes[0]
    await cluster.swap(cordon(node), permit(cordon(node)))
    bench.by_hand(cordon_key(node), "off")

    assert "never acts twice" in await refused(cluster, cordon(node), permit(cordon(node)))
    assert (await cluster.read(DOMAIN)).settings[cordon_key(node)] == "off"


async def test_an_expired_permit_is_refused(bench: Bench) -> None:
    """By the adapter's own clock, and nothing is written."""
    wanted = cordon(bench.nodes[0])
    late = permit(wanted, act_before=datetime.now(UTC) - timedelta(seconds=1))

    assert "expired" in await refused(bench.cluster(), wanted, late)
    assert (await bench.cluster().read(DOMAIN)).epoch == 0


async def test_a_permit_that_expires_between_look_and_write_is_refused(bench: Bench) -> None:
    """The clock is asked just before the write, not at the door."""
    wanted, passed = cordon(bench.nodes[0]), timedelta()

    def clock() -> datetime:
        return datetime.now(UTC) + passed

    def sleep(point: str) -> None:
        nonlocal passed
        passed = timedelta(minutes=2) if point == "after_before_read" else passed

    cluster = bench.cluster(clock=clock, checkpoint=sleep)

    assert "expired" in await refused(cluster, wanted, permit(wanted))
    assert (await bench.cluster().read(DOMAIN)).settings[cordon_key(bench.nodes[0])] == "off"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({"cordon/N": "off"}, {"cordon/N": "maybe"}, "neither"),
        ({"cordon/nobody": "off"}, {"cordon/nobody": "on"}, "no such setting"),
        ({"replicas/pool-c": 1}, {"replicas/pool-c": 2}, "west"),
        ({"replicas/pool-a": 2}, {"replicas/pool-a": -1}, "no count"),
        ({"boot/N": "x"}, {"boot/N": GONE}, "agent"),
        ({"pod/pool-a/x": "u"}, {"pod/pool-a/x": "v"}, "evicted"),
        ({"image/pool-a": IMAGE, "template/pool-a": "x"}, {"image/pool-a": "i", "template/pool-a": "y"}, "two changes"),
        ({"paused/pool-a": "off"}, {}, "same settings"),
    ],
)
async def test_a_change_that_makes_no_sense_is_refused(
    bench: Bench, before: Settings, after: Settings, why: str
) -> None:
    """Before anything is asked of the world."""

    def named(settings: Settings) -> Settings:
        return {k.replace("/N", f"/{bench.nodes[0]}"): v for k, v in settings.items()}

    wanted = change(named(before), named(after))

    assert why in await refused(bench.cluster(), wanted, permit(wanted))


async def test_an_eviction_that_the_budget_does_not_allow_is_refused_by_its_name(bench: Bench) -> None:
    """pool-b has one replica and its budget keeps one; the pod stays and the fence is as it was."""
    cluster = bench.cluster()
    [pod] = (await cluster.read(DOMAIN)).state.of("pool-b")
    wanted = change({pod_key("pool-b", pod.name): pod.uid}, {pod_key("pool-b", pod.name): GONE})

    assert "pool-b" in await refused(cluster, wanted, permit(wanted))
    assert [p.uid for p in (await cluster.read(DOMAIN)).state.of("pool-b")] == [pod.uid]


async def test_an_evicted_replica_comes_back_elsewhere(bench: Bench) -> None:
    """Off a cordoned node: another pod on another node, and the same permit again evicts nobody else."""
    cluster = bench.cluster()
    pod = (await cluster.read(DOMAIN)).state.of("pool-a")[0]
    assert pod.node is not None
    await swapped(cluster, cordon(pod.node), epoch=1)
    wanted = change({pod_key("pool-a", pod.name): pod.uid}, {pod_key("pool-a", pod.name): GONE})

    seen = await swapped(cluster, wanted, epoch=2)

    assert pod_key("pool-a", pod.name) not in seen.settings
    writes = bench.writes()
    after = await settled(cluster)
    assert pod.node not in {p.node for p in after.state.of("pool-a")}
    await swapped(cluster, wanted, epoch=2)
    assert bench.writes() == writes
    assert {p.uid for p in (await cluster.read(DOMAIN)).state.of("pool-a")} == {p.uid for p in after.state.of("pool-a")}


async def test_a_pod_that_is_gone_already_was_not_evicted_by_us(bench: Bench) -> None:
    """The permit never got as far as the fence: plan again."""
    cluster = bench.cluster()
    wanted = change({pod_key("pool-a", "pool-a-xyz"): "uid"}, {pod_key("pool-a", "pool-a-xyz"): GONE})

    assert "plan again" in await refused(cluster, wanted, permit(wanted))


async def test_replicas_are_raised_and_lowered(bench: Bench) -> None:
    """By the count alone; all of them serve."""
    cluster = bench.cluster()
    more = change({replicas_key("pool-b"): 1}, {replicas_key("pool-b"): 2})

    await swapped(cluster, more, epoch=1)
    await settled(cluster, b=2)
    await swapped(cluster, more, epoch=1)
    await swapped(cluster, more.reversed("restore"), epoch=2)

    assert len((await settled(cluster)).state.of("pool-b")) == 1


async def test_a_count_that_somebody_took_back_is_not_raised_again_by_the_same_permit(bench: Bench) -> None:
    """The scale carries no annotation: the generation tells that it has been changed since."""
    cluster = bench.cluster()
    more = change({replicas_key("pool-b"): 1}, {replicas_key("pool-b"): 2})
    await swapped(cluster, more)
    bench.by_hand(replicas_key("pool-b"), 1)

    assert "never acts twice" in await refused(cluster, more, permit(more))


async def test_replicas_that_find_no_gpu_say_so(bench: Bench) -> None:
    """Three nodes of two GPUs take six replicas; the seventh waits with the scheduler's words."""
    cluster = bench.cluster()
    await swapped(cluster, change({replicas_key("pool-b"): 1}, {replicas_key("pool-b"): 5}))

    def waits(seen: ClusterSnapshot) -> bool:
        return any("Insufficient nvidia.com/gpu" in p.waiting and p.unschedulable for p in seen.state.of("pool-b"))

    seen = await until_read(cluster, waits, "one waits")
    assert seen.state.room_for(1) == 0
    assert seen.state.workloads["pool-b"].desired == 5


async def test_an_image_and_a_variable_roll_out_and_back(bench: Bench) -> None:
    """One change of one template; the second revision is that of before, by its hash."""
    cluster = bench.cluster()
    first = (await cluster.read(DOMAIN)).state.workloads["pool-a"]
    keys = image_key("pool-a"), env_key("pool-a", bench.variable[0])
    was = IMAGE, bench.variable[1]
    hotfix = change(dict(zip(keys, was, strict=True)), dict(zip(keys, ("engine:v2", "2"), strict=True)))

    await swapped(cluster, hotfix, epoch=1)
    seen = await settled(cluster)

    work = seen.state.workloads["pool-a"]
    assert (work.image, seen.settings[keys[1]]) == ("engine:v2", "2")
    assert [r.template for r in work.revisions][-2:] == [first.template, work.template]
    assert work.revisions[-2].image == IMAGE
    back = change({template_key("pool-a"): work.template}, {template_key("pool-a"): first.template})
    assert (await swapped(cluster, back, epoch=2)).settings[template_key("pool-a")] == first.template
    seen = await settled(cluster)
    assert {p.template for p in seen.state.of("pool-a")} == {first.template}
    assert seen.settings[keys[1]] == bench.variable[1]


async def test_a_template_that_nobody_kept_is_refused(bench: Bench) -> None:
    """There is nothing to go back to."""
    cluster = bench.cluster()
    now = (await cluster.read(DOMAIN)).settings[template_key("pool-a")]
    wanted = change({template_key("pool-a"): now}, {template_key("pool-a"): "5f5f5f"})

    assert "5f5f5f" in await refused(cluster, wanted, permit(wanted))


async def test_a_ring_writes_several_pools(bench: Bench) -> None:
    """All or, when one is not as planned, none."""
    cluster = bench.cluster()
    ring = change(
        {image_key(p): IMAGE for p in ("pool-a", "pool-b")}, {image_key(p): "engine:v3" for p in ("pool-a", "pool-b")}
    )
    bench.by_hand(image_key("pool-b"), "engine:v9")
    assert "plan again" in await refused(cluster, ring, permit(ring))
    assert (await cluster.read(DOMAIN)).settings[image_key("pool-a")] == IMAGE
    bench.by_hand(image_key("pool-b"), IMAGE)

    seen = await swapped(cluster, ring)

    assert {seen.settings[image_key(p)] for p in ("pool-a", "pool-b")} == {"engine:v3"}


async def test_a_freeze_is_lifted_exactly(bench: Bench) -> None:
    """Rollouts and autoscalers stand still, an image that is set meanwhile waits, and all is given back as it was."""
    cluster = bench.cluster()
    was = bench.behaviour()
    keys: Settings = {paused_key("pool-a"): "on", paused_key("pool-b"): "on", autoscale_key("pool-a"): "off"}
    freeze = change({k: "off" if v == "on" else "on" for k, v in keys.items()}, keys)

    seen = await swapped(cluster, freeze, epoch=1)

    work = seen.state.workloads["pool-a"]
    assert work.frozen
    assert work.paused
    assert bench.behaviour() != was
    back = await swapped(cluster, freeze.reversed("restore"), epoch=2)
    assert not back.state.workloads["pool-a"].frozen
    assert bench.behaviour() == was
    assert {k: back.settings[k] for k in keys} == freeze.before


async def test_a_freeze_that_stops_half_way_is_ambiguous_and_goes_on_under_the_same_permit(bench: Bench) -> None:
    """The permit of the second attempt is good for the rest; what is done is not done again."""
    keys: Settings = {paused_key("pool-a"): "on", paused_key("pool-b"): "on", autoscale_key("pool-a"): "off"}
    freeze = change({k: "off" if v == "on" else "on" for k, v in keys.items()}, keys)
    passed, allowed = timedelta(), permit(freeze)

    def clock() -> datetime:
        return datetime.now(UTC) + passed

    def sleep(point: str) -> None:
        nonlocal passed
        passed = timedelta(minutes=2) if point == "after_write" else passed

    with pytest.raises(Ambiguous, match="expired"):
        await bench.cluster(clock=clock, checkpoint=sleep).swap(freeze, allowed)
    half = bench.writes()

    seen = await bench.cluster().swap(freeze, allowed)

    assert {k: seen.settings[k] for k in keys} == keys
    assert bench.writes() == half + 2


async def test_two_operators_change_the_same_object(bench: Bench) -> None:
    """An operator scales and changes the image while we look: the write is a conflict, judged anew, and refused."""
    wanted = change({image_key("pool-a"): IMAGE}, {image_key("pool-a"): "engine:v2"})

    def meddle(point: str) -> None:
        if point == "after_before_read":
            bench.by_hand(image_key("pool-a"), "engine:v9")

    cluster = bench.cluster(checkpoint=meddle)

    assert "engine:v9" in await refused(cluster, wanted, permit(wanted))
    assert (await bench.cluster().read(DOMAIN)).settings[image_key("pool-a")] == "engine:v9"


async def test_a_change_of_another_field_meanwhile_is_no_obstacle(bench: Bench) -> None:
    """The version is another, and what the plan rests on is not: written on the second try, and theirs stays."""
    wanted = change({image_key("pool-a"): IMAGE}, {image_key("pool-a"): "engine:v2"})

    def meddle(point: str) -> None:
        if point == "after_before_read":
            bench.by_hand(replicas_key("pool-a"), 3)

    seen = await bench.cluster(checkpoint=meddle).swap(wanted, permit(wanted))

    assert (seen.settings[image_key("pool-a")], seen.settings[replicas_key("pool-a")]) == ("engine:v2", 3)


async def test_one_replica_is_tried_on_a_cordoned_node_and_taken_away(bench: Bench) -> None:
    """Once per name; it is no replica of the pool, and its GPU is counted."""
    cluster = bench.cluster()
    seen = await cluster.read(DOMAIN)
    node = min(bench.nodes, key=lambda n: seen.state.nodes[n].gpus_used)
    used = seen.state.nodes[node].gpus_used
    await swapped(cluster, cordon(node))

    address = None
    for _ in range(400):
        if (address := await cluster.try_node(node, "pool-a", "interlock-check-1")) is not None:
            break
        await asyncio.sleep(0.05)

    assert address is not None
    assert address.rpartition(":")[2].isdigit()
    seen = await cluster.read(DOMAIN)
    assert seen.state.nodes[node].gpus_used == used + 1
    assert len(seen.state.pods) == 3
    await cluster.end_try("pool-a", "interlock-check-1")
    await cluster.end_try("pool-a", "interlock-check-1")
    await until_read(cluster, lambda s: s.state.nodes[node].gpus_used == used, "it is gone")


async def test_end_try_takes_no_replica_of_the_pool_away(bench: Bench) -> None:
    """Whatever name it is given."""
    cluster = bench.cluster()
    pod = (await cluster.read(DOMAIN)).state.of("pool-a")[0]

    with pytest.raises(Refused):
        await cluster.end_try("pool-a", pod.name)

    assert pod.name in (await cluster.read(DOMAIN)).state.pods
