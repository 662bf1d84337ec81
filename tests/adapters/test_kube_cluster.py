"""What only the adapter on a real API server can get wrong: a server that stops, workers that die half-way, strange objects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.adapters.kube import KubeCluster
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import in_cluster
from activities.adapters.kube_state import HEALTH
from activities.errors import Ambiguous, Permanent, Refused, Retryable
from runbooks.change import autoscale_key, cordon_key, env_key, image_key, paused_key, replicas_key
from runbooks.facts import Settings
from tests.adapters.cluster_lab import DOMAIN, IMAGE, KubeBench, kube_bench, settled, until_read
from tests.adapters.test_cluster_contract import change, cordon, permit, refused, swapped
from tests.kube.api import STRATEGIC
from tests.kube.control_plane import ControlPlane


@pytest.fixture(scope="module")
async def running(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeBench]:
    """One cluster for the module."""
    async with kube_bench(plane, tmp_path_factory.mktemp("kube") / "lab") as bench:
        yield bench


@pytest.fixture
async def bench(running: KubeBench) -> AsyncIterator[KubeBench]:
    """Whatever was paused goes on afterwards."""
    await running.heal()
    yield running
    running.plane.resume_all()


CLOCK_BEFORE_WRITE = 3
"""The clock is asked for the picture, before the fence, and before the write."""


def annotate(bench: KubeBench, path: str, **notes: str | None) -> None:
    """As the admin; `_` stands for `-`."""
    named = {f"interlock.dev/{k.replace('_', '-')}": v for k, v in notes.items()}
    bench.plane.api.merge(path, {"metadata": {"annotations": named}})


async def test_a_server_that_stands_still_is_retryable_before_anything_is_sent_to_be_written(bench: KubeBench) -> None:
    """In bounded time, for a read, a swap and a check replica alike."""
    cluster, wanted = bench.cluster(timeout_s=0.5), cordon(bench.nodes[0])
    bench.plane.pause_component("apiserver")

    async with asyncio.timeout(10):
        with pytest.raises(Retryable):
            await cluster.read(DOMAIN)
        with pytest.raises(Retryable):
            await cluster.swap(wanted, permit(wanted))
        with pytest.raises(Retryable):
            await cluster.try_node(bench.nodes[0], "pool-a", "interlock-check-0")

    bench.plane.resume_component("apiserver")
    assert (await bench.cluster().read(DOMAIN)).settings[cordon_key(bench.nodes[0])] == "off"


async def test_a_server_that_stops_under_the_fence_leaves_the_change_undone_and_the_permit_good(
    bench: KubeBench,
) -> None:
    """Only the fence may stand: asking again is safe."""
    wanted = cordon(bench.nodes[0])

    def stop(point: str) -> None:
        if point == "after_before_read":
            bench.plane.pause_component("apiserver")

    async with asyncio.timeout(10):
        with pytest.raises(Retryable):
            await bench.cluster(timeout_s=0.5, checkpoint=stop).swap(wanted, permit(wanted))
    bench.plane.resume_component("apiserver")

    assert (await swapped(bench.cluster(), wanted)).settings[cordon_key(bench.nodes[0])] == "on"


@pytest.mark.parametrize("key", ["cordon", "replicas", "image"])
async def test_a_write_whose_answer_is_lost_is_ambiguous_and_is_made_once(bench: KubeBench, key: str) -> None:
    """The server stops with the request in its hands; whether it carries it out when it goes on is its own affair."""
    wanted = {
        "cordon": cordon(bench.nodes[0]),
        "replicas": change({replicas_key("pool-b"): 1}, {replicas_key("pool-b"): 2}),
        "image": change({image_key("pool-b"): IMAGE}, {image_key("pool-b"): "engine:v2"}),
    }[key]
    looks = 0

    def clock() -> datetime:
        nonlocal looks
        looks += 1
        if looks == CLOCK_BEFORE_WRITE:
            bench.plane.pause_component("apiserver")
        return datetime.now(UTC)

    before = bench.writes()
    async with asyncio.timeout(10):
        with pytest.raises(Ambiguous, match="may have been applied"):
            await bench.cluster(timeout_s=0.5, clock=clock).swap(wanted, permit(wanted))
    bench.plane.resume_component("apiserver")

    seen = await swapped(bench.cluster(), wanted)

    assert {k: seen.settings[k] for k in wanted.after} == wanted.after
    # A write that the store took while its request was given up is logged as failed: then none is counted.
    assert bench.writes() in (before, before + 1)


async def test_a_late_write_of_a_lower_epoch_is_a_conflict_and_no_act(bench: KubeBench) -> None:
    """It had passed the fence before a later permit wrote the same object."""
    wanted, looks = cordon(bench.nodes[0]), 0
    other = cordon(bench.nodes[0])
    later = asyncio.Event()

    def clock() -> datetime:
        nonlocal looks
        looks += 1
        if looks == CLOCK_BEFORE_WRITE:
            # What a later permit does meanwhile, by hand: the clock cannot wait.
            data = {DOMAIN: json.dumps({"epoch": 9, "permit_id": "permit-9"})}
            bench.plane.api.merge("/api/v1/namespaces/interlock/configmaps/interlock-fence", {"data": data})
            annotate(bench, f"/api/v1/nodes/{bench.nodes[0]}", epoch="9", permit="permit-9")
            later.set()
        return datetime.now(UTC)

    why = await refused(bench.cluster(clock=clock), wanted, permit(wanted))

    assert later.is_set()
    assert "epoch 9" in why
    assert (await bench.cluster().read(DOMAIN)).settings == {
        **(await bench.cluster().read(DOMAIN)).settings,
        **other.before,
    }


async def test_a_swap_that_is_cancelled_writes_nothing_afterwards(bench: KubeBench) -> None:
    """Cancelled before the write: it stays unwritten."""
    wanted, here = cordon(bench.nodes[0]), asyncio.Event()

    def point(name: str) -> None:
        if name == "after_before_read":
            here.set()

    task = asyncio.ensure_future(bench.cluster(checkpoint=point).swap(wanted, permit(wanted)))
    await here.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (await bench.cluster().read(DOMAIN)).settings[cordon_key(bench.nodes[0])] == "off"


async def test_a_variable_that_comes_from_a_secret_is_no_setting(bench: KubeBench) -> None:
    """Nor is one that is named like a secret: it would end up in a history."""
    secret = {"secretKeyRef": {"name": "s", "key": "k"}}

    def level(value: str | None, source: dict[str, Any] | None) -> None:
        spec = {"containers": [{"name": "engine", "env": [{"name": "LEVEL", "value": value, "valueFrom": source}]}]}
        body = {"spec": {"paused": True, "template": {"spec": spec}}}
        bench.plane.api.request("PATCH", bench.lab.path("pool-b"), body, STRATEGIC)

    level(None, secret)
    cluster = bench.cluster()
    try:
        settings = (await cluster.read(DOMAIN)).settings
        assert env_key("pool-b", "LEVEL") not in settings
        assert not [k for k in settings if "HF_TOKEN" in k]
        for name in ("LEVEL", "HF_TOKEN"):
            wanted = change({env_key("pool-b", name): "1"}, {env_key("pool-b", name): "2"})
            assert "plan again" in await refused(cluster, wanted, permit(wanted))
    finally:
        level("1", None)


async def test_what_somebody_else_froze_is_given_back_as_they_froze_it(bench: KubeBench) -> None:
    """Our freeze and our restore leave their freeze as it was."""
    theirs = {"scaleUp": {"selectPolicy": "Disabled"}, "scaleDown": {"selectPolicy": "Disabled"}}
    bench.plane.api.merge(bench.scaler, {"spec": {"behavior": theirs}})
    was, cluster, key = bench.behaviour(), bench.cluster(), autoscale_key("pool-a")
    assert (await cluster.read(DOMAIN)).state.workloads["pool-a"].frozen
    freeze = change({key: "on"}, {key: "off"})

    await swapped(cluster, freeze, epoch=1)
    await swapped(cluster, freeze.reversed("restore"), epoch=2)

    assert bench.behaviour() == was


async def test_an_unfreeze_without_the_note_of_before_is_refused(bench: KubeBench) -> None:
    """Nothing is guessed."""
    cluster, key = bench.cluster(), autoscale_key("pool-a")
    freeze = change({key: "on"}, {key: "off"})
    await swapped(cluster, freeze, epoch=1)
    annotate(bench, bench.scaler, behavior_before_freeze=None)
    back = freeze.reversed("restore")

    assert "plan again" in await refused(cluster, back, permit(back, epoch=2))
    assert (await cluster.read(DOMAIN)).state.workloads["pool-a"].frozen


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ('{"seen": "2026-11-24T10:00:00+00:00", "sick": {"3": "XID 79"}}', True),
        ('{"seen": "2026-11-24T10:00:00", "sick": {}}', False),
        ('{"sick": {}}', False),
        ("hello", False),
        ("", False),
    ],
)
async def test_a_node_whose_agent_cannot_be_understood_has_none(bench: KubeBench, text: str, agent: bool) -> None:
    """A time without a zone, no time, no JSON: never "nothing is wrong, seen just now"."""
    node = bench.nodes[1]
    bench.plane.api.merge(f"/api/v1/nodes/{node}", {"metadata": {"annotations": {HEALTH: text}}})

    found = (await bench.cluster().read(DOMAIN)).state.nodes[node]

    assert found.sick_gpus == ({"3": "XID 79"} if agent else {})
    assert (found.agent_seen_at is not None) == agent
    bench.plane.api.merge(f"/api/v1/nodes/{node}", {"metadata": {"annotations": {HEALTH: None}}})


@pytest.mark.parametrize("mangled", ["hello", '{"epoch": "x"}', "{}"])
async def test_a_fence_that_is_mangled_stops_everything(bench: KubeBench, mangled: str) -> None:
    """It is not "no fence"; the sentence says what to write into it."""
    bench.plane.api.merge("/api/v1/namespaces/interlock/configmaps/interlock-fence", {"data": {DOMAIN: mangled}})

    with pytest.raises(Permanent, match="HIGHEST"):
        await bench.cluster().read(DOMAIN)


async def test_an_object_whose_epoch_is_mangled_is_not_written(bench: KubeBench) -> None:
    """Nobody can say whether a later permit wrote it."""
    annotate(bench, f"/api/v1/nodes/{bench.nodes[0]}", epoch="many")
    wanted = cordon(bench.nodes[0])

    assert "interlock.dev/epoch" in await refused(bench.cluster(), wanted, permit(wanted))


async def test_a_node_that_is_gone_is_refused(bench: KubeBench) -> None:
    """The fleet lists it, the cluster does not know it."""
    listed = bench.fleet.nodes[0].model_copy(update={"name": "n-gone"})
    bench.fleet, was = bench.fleet.model_copy(update={"nodes": (*bench.fleet.nodes, listed)}), bench.fleet
    wanted = cordon("n-gone")

    why = await refused(bench.cluster(), wanted, permit(wanted))

    bench.fleet = was
    assert "plan again" in why


async def test_quota_and_stalled_rollout_are_told(bench: KubeBench) -> None:
    """GPUs that the namespace may still ask for; the controller's words when an image never starts."""
    space = bench.lab.namespace
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "gpus", "namespace": space},
        "spec": {"hard": {"requests.nvidia.com/gpu": "5"}},
    }
    bench.plane.api.apply(quota)
    cluster = bench.cluster()
    try:
        await until_read(cluster, lambda s: s.state.workloads["pool-b"].quota_gpus_left == 2, "the quota is counted")
        key = image_key("pool-b")
        seen = await swapped(cluster, change({key: IMAGE}, {key: "engine:missing"}))
        assert not seen.state.workloads["pool-b"].stalled
        seen = await until_read(cluster, lambda s: bool(s.state.workloads["pool-b"].stalled), "it stalls", 60)
        assert "ProgressDeadlineExceeded" in seen.state.workloads["pool-b"].stalled
        assert len([p for p in seen.state.of("pool-b") if p.ready]) == 1
    finally:
        bench.plane.api.delete(f"/api/v1/namespaces/{space}/resourcequotas/gpus")


async def test_a_node_that_fails_says_why(bench: KubeBench) -> None:
    """Its condition's own words; it takes no pods."""
    node = bench.nodes[2]
    bench.lab.kubelet.fail_node(node, "GpuFault", "XID 79")
    cluster = bench.cluster()
    try:
        seen = await until_read(cluster, lambda s: not s.state.nodes[node].ready, "it is not ready")
        assert seen.state.nodes[node].reason == "GpuFault: XID 79"
    finally:
        bench.lab.kubelet.heal_node(node)
        await until_read(cluster, lambda s: s.state.nodes[node].ready, "it is healed")
        await settled(cluster)


async def test_an_operator_who_pauses_half_of_a_freeze_makes_it_ambiguous(bench: KubeBench) -> None:
    """A part stands by our permit, a part is somebody else's now: a person must look."""
    keys: Settings = {paused_key("pool-a"): "on", paused_key("pool-b"): "on"}
    freeze = change(dict.fromkeys(keys, "off"), keys)
    cluster = bench.cluster()
    await swapped(cluster, freeze)
    bench.by_hand(paused_key("pool-b"), "off")

    with pytest.raises(Ambiguous, match="somebody changed it"):
        await cluster.swap(freeze, permit(freeze, act_before=datetime.now(UTC) + timedelta(minutes=1)))


async def test_end_try_of_a_stranger_is_refused_and_try_node_does_not_take_one_over(bench: KubeBench) -> None:
    """The name is taken by a pod that is not ours."""
    pod = (await bench.cluster().read(DOMAIN)).state.of("pool-b")[0]

    with pytest.raises(Refused, match="is there already"):
        await bench.cluster().try_node(bench.nodes[0], "pool-b", pod.name)


async def test_a_pod_of_the_cluster_reaches_it_by_the_files_that_every_pod_has(
    bench: KubeBench, tmp_path: Path
) -> None:
    """Authority and token as the kubelet lays them down; the token is taken up anew when it is renewed."""
    (tmp_path / "ca.crt").write_bytes(bench.plane.ca_file.read_bytes())
    (tmp_path / "token").write_text("an old one")
    port = int(bench.plane.url.rpartition(":")[2])
    async with KubeApi(in_cluster("127.0.0.1", port, tmp_path)) as api:
        with pytest.raises(Permanent, match="401"):
            await KubeCluster(bench.fleet, api).read(DOMAIN)
        (tmp_path / "token").write_text(bench.plane.service_account_token("interlock", "interlock"))

        assert (await KubeCluster(bench.fleet, api).read(DOMAIN)).state.nodes.keys() >= set(bench.nodes)


async def test_each_domain_has_its_own_api_server(bench: KubeBench) -> None:
    """One without any is Permanent, by name; its settings are never asked of another."""
    cluster = KubeCluster(bench.fleet, {DOMAIN: bench.api()})

    assert (await cluster.read(DOMAIN)).state.workloads.keys() == {"pool-a", "pool-b"}
    with pytest.raises(Permanent, match="'west'"):
        await cluster.read("west")
    with pytest.raises(Permanent, match="'west'"):
        await cluster.effective([replicas_key("pool-c")])
