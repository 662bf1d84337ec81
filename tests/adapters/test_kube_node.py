"""A node's own acts on a real API server: its agent resets a GPU (NVIDIA's own interface, a stand-in behind it) or reboots."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activities.adapters.kube_access import may
from activities.adapters.kube_node import NodeActuator
from activities.adapters.kube_node_object import KubeNode
from activities.adapters.node_agent import GpuReset, NodeAgent
from activities.adapters.nvml import Nvml
from activities.errors import Ambiguous, Permanent, Refused
from runbooks.change import GONE, Change, boot_key, gpu_key
from runbooks.gpus import GpuHealth
from tests.adapters.cluster_lab import DOMAIN, KubeBench, kube_bench, until_read
from tests.adapters.test_cluster_contract import change, permit
from tests.kube.control_plane import ControlPlane
from tests.nvml.standin import Node, build


@pytest.fixture(scope="module")
async def running(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[KubeBench]:
    """One cluster for the module."""
    async with kube_bench(plane, tmp_path_factory.mktemp("node") / "lab") as bench:
        yield bench


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in of NVML, resident in this process."""
    path = build(tmp_path_factory.mktemp("nvml"))
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    return path


@pytest.fixture
async def bench(running: KubeBench) -> KubeBench:
    """One node is drained: cordoned, and no replica on it."""
    await running.heal()
    return running


@pytest.fixture
async def drained(bench: KubeBench) -> str:
    """It has published its GPUs, index 0 is sick."""
    cluster = bench.cluster()
    node = bench.nodes[0]
    bench.lab.cordon(node)
    for pod in (await cluster.read(DOMAIN)).state.on(node):
        bench.plane.api.delete(f"/api/v1/namespaces/{bench.lab.namespace}/pods/{pod.name}", gracePeriodSeconds=0)
    await until_read(
        cluster,
        lambda s: not s.state.on(node) and all(w.ready == w.desired for w in s.state.workloads.values()),
        "drained",
    )
    notes = {f"interlock.dev/gpu-{i}-resets": None for i in (0, 1)}
    bench.plane.api.merge(f"/api/v1/nodes/{node}", {"metadata": {"annotations": notes}})
    await KubeNode(bench.api("interlock-node-agent"), node).publish_gpu_health(["0", "1"], {"0": "XID 79"}, AT)
    return node


@pytest.fixture
def gpus(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """GPU 0 wants a reset."""
    folder = tmp_path / "gpus"
    folder.mkdir()
    monkeypatch.setenv("NVML_STANDIN", str(folder))
    node = Node(folder)
    node.set(0, recovery=1)
    return node


AT = datetime(2026, 11, 24, 10, tzinfo=UTC)


class Machine:
    """The agent's hands: GPUs by NVML, the reboot by the lab's kubelet. `boots` False: the order is lost."""

    def __init__(self, bench: KubeBench, node: str, gpus: Node | None = None, boots: bool = True) -> None:
        argv = (str(gpus.smi), "--gpu-reset", "-i", "{index}") if gpus else (sys.executable, "-c", "")
        self.agent = NodeAgent(node, Nvml(host_pids=True), reset_argv=argv, settle_s=0.3)
        self.bench, self.node, self.boots = bench, node, boots
        self.orders = 0

    async def gpu(self, index: int) -> GpuHealth:
        return await self.agent.gpu(index)

    async def reset_gpu(self, index: int) -> GpuReset:
        return await self.agent.reset_gpu(index)

    async def reboot(self, *, boot: str) -> None:
        self.orders += 1
        if self.boots:
            self.bench.lab.kubelet.reboot_node(self.node, down_s=0.1)


def actuator(bench: KubeBench, node: str, hands: Machine, **options: Any) -> NodeActuator:
    """Under the account of node agents."""
    given = {"boot_wait_s": 10.0, **options}
    return NodeActuator(bench.fleet, node, hands, bench.api("interlock-node-agent"), **given)


async def boot(bench: KubeBench, node: str) -> Change:
    """From the present boot to whatever comes."""
    key = boot_key(node)
    return change({key: (await bench.cluster().effective([key]))[key]}, {key: GONE})


def reset(node: str, before: int = 0) -> Change:
    """One more."""
    return change({gpu_key(node, "0"): before}, {gpu_key(node, "0"): before + 1})


class Killed(BaseException):
    """The process ends here."""


def dies_at(point: str) -> Callable[[str], None]:
    """A checkpoint that ends the attempt."""

    def check(name: str) -> None:
        if name == point:
            raise Killed

    return check


async def test_what_the_agent_publishes_is_what_the_cluster_says(bench: KubeBench, drained: str) -> None:
    """Sick GPUs, when they were looked at, and that somebody is there who can reset them; a count is never begun anew."""
    seen = await bench.cluster().read(DOMAIN)
    state = seen.state.nodes[drained]

    assert (state.sick_gpus, state.agent_seen_at) == ({"0": "XID 79"}, AT)
    assert {k: v for k, v in seen.settings.items() if k.startswith("gpu/")} == {
        gpu_key(drained, "0"): 0,
        gpu_key(drained, "1"): 0,
    }
    node = KubeNode(bench.api("interlock-node-agent"), drained)
    await node.count_reset("0", 0)
    await node.publish_gpu_health(["0", "1"], {}, AT, {"1": "it does not answer"})
    seen = await bench.cluster().read(DOMAIN)
    assert seen.settings[gpu_key(drained, "0")] == 1
    assert seen.state.nodes[drained].sick_gpus == {}
    assert seen.state.nodes[drained].unknown_gpus == {"1": "it does not answer"}
    with pytest.raises(Refused, match="rests on 0"):
        await node.count_reset("0", 0)


async def test_a_gpu_is_reset_once_and_counted(bench: KubeBench, drained: str, gpus: Node) -> None:
    """The same permit again does nothing; the next one needs the new count."""
    acting = actuator(bench, drained, Machine(bench, drained, gpus))
    wanted = reset(drained)

    seen = await acting.swap(wanted, permit(wanted))
    again = await acting.swap(wanted, permit(wanted))

    assert seen.settings[gpu_key(drained, "0")] == again.settings[gpu_key(drained, "0")] == 1
    assert gpus.resets == ["0"]
    assert (seen.epoch, seen.permit_id) == (1, "permit-1")
    with pytest.raises(Refused, match="plan again"):
        await acting.swap(wanted, permit(wanted, epoch=2))
    with pytest.raises(Refused, match="fenced"):
        await acting.swap(wanted, permit(wanted, epoch=1, id="another"))


async def test_a_reset_that_was_made_and_not_counted_is_counted_and_not_made_again(
    bench: KubeBench, drained: str, gpus: Node
) -> None:
    """The agent died between the two; the GPU is well, which is how it can tell."""
    hands, wanted = Machine(bench, drained, gpus), reset(drained)
    with pytest.raises(Killed):
        await actuator(bench, drained, hands, checkpoint=dies_at("after_write")).swap(wanted, permit(wanted))

    seen = await actuator(bench, drained, hands).swap(wanted, permit(wanted))

    assert seen.settings[gpu_key(drained, "0")] == 1
    assert gpus.resets == ["0"]


async def test_two_attempts_that_count_the_same_reset_do_not_call_it_refused(
    bench: KubeBench, drained: str, gpus: Node
) -> None:
    """Refused would say that nothing was done. The one before counts while this one still looks."""
    hands, wanted = Machine(bench, drained, gpus), reset(drained)
    with pytest.raises(Killed):
        await actuator(bench, drained, hands, checkpoint=dies_at("after_write")).swap(wanted, permit(wanted))

    class Slow(Machine):
        async def gpu(self, index: int) -> GpuHealth:
            await KubeNode(self.bench.api("interlock-node-agent"), self.node).count_reset(str(index), 0)
            return await super().gpu(index)

    with pytest.raises(Ambiguous, match="may have reset it before"):
        await actuator(bench, drained, Slow(bench, drained, gpus)).swap(wanted, permit(wanted))

    assert gpus.resets == ["0"]


async def test_a_reset_that_nobody_can_vouch_for_is_ambiguous(bench: KubeBench, drained: str, gpus: Node) -> None:
    """The GPU is as sick as before: it is not reset a second time under the same permit."""
    hands, wanted = Machine(bench, drained, gpus), reset(drained)
    with pytest.raises(Killed):
        await actuator(bench, drained, hands, checkpoint=dies_at("after_write")).swap(wanted, permit(wanted))
    gpus.set(0, recovery=1)

    with pytest.raises(Ambiguous, match="not well"):
        await actuator(bench, drained, hands).swap(wanted, permit(wanted))

    assert gpus.resets == ["0"]


async def test_a_node_that_is_not_drained_is_left_alone(bench: KubeBench, drained: str, gpus: Node) -> None:
    """Not cordoned, or with a replica, or with a check replica on it."""
    acting = actuator(bench, drained, hands := Machine(bench, drained, gpus))
    cluster = bench.cluster()
    for wanted in (reset(drained), await boot(bench, drained)):
        bench.lab.cordon(drained, False)
        with pytest.raises(Refused, match="not cordoned"):
            await acting.swap(wanted, permit(wanted))
        bench.lab.cordon(drained)
        await cluster.try_node(drained, "pool-a", "interlock-check-9")
        with pytest.raises(Refused, match="interlock-check-9"):
            await acting.swap(wanted, permit(wanted))
        await cluster.end_try("pool-a", "interlock-check-9")
        await until_read(cluster, lambda s: s.state.nodes[drained].gpus_used == 0, "the check is gone")
    state = (await cluster.read(DOMAIN)).state
    other = next(n for n in bench.nodes if n != drained and state.on(n))
    bench.lab.cordon(other)
    wanted = await boot(bench, other)
    with pytest.raises(Refused, match="drain it first"):
        await actuator(bench, other, hands).swap(wanted, permit(wanted))

    assert (gpus.resets, hands.orders) == ([], 0)
    assert (await cluster.read(DOMAIN)).epoch == 0


async def test_a_reboot_is_done_when_another_boot_shows(bench: KubeBench, drained: str, gpus: Node) -> None:
    """Once per permit, whatever comes of the attempt."""
    hands, wanted = Machine(bench, drained), await boot(bench, drained)

    seen = await actuator(bench, drained, hands).swap(wanted, permit(wanted))
    await actuator(bench, drained, hands).swap(wanted, permit(wanted))

    assert seen.settings[boot_key(drained)] != wanted.before[boot_key(drained)]
    assert hands.orders == 1
    with pytest.raises(Refused, match="plan again"):
        await actuator(bench, drained, hands).swap(wanted, permit(wanted, epoch=2))


async def test_the_agent_dies_with_its_node_and_the_retry_finds_the_other_boot(
    bench: KubeBench, drained: str, gpus: Node
) -> None:
    """What it was to see, it never saw."""
    hands, wanted = Machine(bench, drained), await boot(bench, drained)
    with pytest.raises(Killed):
        await actuator(bench, drained, hands, checkpoint=dies_at("after_write")).swap(wanted, permit(wanted))

    seen = await actuator(bench, drained, hands).swap(wanted, permit(wanted))

    assert seen.settings[boot_key(drained)] != wanted.before[boot_key(drained)]
    assert hands.orders == 1


async def test_a_reboot_that_does_not_show_is_ambiguous_and_not_ordered_again(
    bench: KubeBench, drained: str, gpus: Node
) -> None:
    """In bounded time; a person must look."""
    hands, wanted = Machine(bench, drained, boots=False), await boot(bench, drained)

    for _ in range(2):
        with pytest.raises(Ambiguous, match="has not come back as another boot yet"):
            await actuator(bench, drained, hands, boot_wait_s=0.5).swap(wanted, permit(wanted))

    assert hands.orders == 1


async def test_an_expired_permit_orders_nothing(bench: KubeBench, drained: str, gpus: Node) -> None:
    """Neither reset nor reboot."""
    hands = Machine(bench, drained, gpus)
    for wanted in (reset(drained), await boot(bench, drained)):
        late = permit(wanted, act_before=datetime.now(UTC) - timedelta(seconds=1))
        with pytest.raises(Refused, match="expired"):
            await actuator(bench, drained, hands).swap(wanted, late)

    assert (gpus.resets, hands.orders) == ([], 0)


async def test_an_agent_acts_on_its_own_node_only(bench: KubeBench, drained: str, gpus: Node) -> None:
    """And on no setting that is the control plane's."""
    acting = actuator(bench, drained, Machine(bench, drained, gpus))
    other = reset(bench.nodes[1])
    with pytest.raises(Refused, match="its own node"):
        await acting.swap(other, permit(other))
    cordon = change({f"cordon/{drained}": "on"}, {f"cordon/{drained}": "off"})
    with pytest.raises(Refused, match="no such setting"):
        await acting.swap(cordon, permit(cordon))
    with pytest.raises(Permanent, match="no node"):
        await acting.read("west")
    assert await acting.effective([gpu_key(drained, "1"), f"cordon/{drained}"]) == {gpu_key(drained, "1"): 0}
    assert not await may(bench.api("interlock-node-agent"), "delete", "pods", namespace=bench.lab.namespace)
