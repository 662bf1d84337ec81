"""Where a lever of a node's own agent is halted: a node of a real control plane, its own worker, and its commands.

The node is cordoned and empty. GPUs are files behind NVML's own interface, as in `tests/crash_kube`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from activities.adapters.kube import KubeCluster
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import from_kubeconfig
from activities.adapters.kube_node import NodeActuator
from activities.adapters.kube_node_object import KubeNode
from activities.adapters.node_agent import NodeAgent
from activities.adapters.node_agent_run import Ran, run_argv
from activities.adapters.nvml import Nvml
from activities.adapters.webhook import LogNotify
from activities.ports import Snapshot
from runbooks.change import Change, Permit, Receipt
from runbooks.detection import Detection
from runbooks.record import CaseRecord
from tests import lab as labs
from tests.crash_kube.cases import library, policy
from tests.crash_kube.hands import WANTS_RESET, ordered
from tests.crash_kube.lane import DEAD_PORT, Lane
from tests.nvml.standin import Node
from tests.scenarios.halting import Player, Slow, asks
from tests.scenarios.held import HeldJournal
from tests.scenarios.sites import Write
from worker.node import OwnHands, publish
from worker.wiring import Parts, running_node_worker

REBOOT = ("systemctl", "reboot")


class SlowNode(NodeActuator):
    """The shipped actuator, whose next act may be kept waiting before it begins."""

    slow: Slow

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """See Actuator."""
        await self.slow.before(permit)
        return await super().swap(change, permit)


class Commands:
    """What runs the agent's commands, and notes each that acts. The act has then begun, and goes on until `ends`."""

    def __init__(self, lane: Lane, log: list[Write]) -> None:
        self._lane, self._log = lane, log
        self.begun, self._end = asyncio.Event(), asyncio.Event()

    async def __call__(self, argv: Sequence[str], within_s: float) -> Ran:
        """A reset is made at once, and its command takes its time. A reboot is ordered, and the machine takes its time."""
        reboots = tuple(argv) == REBOOT
        if not reboots and "--gpu-reset" not in argv:
            return await run_argv(argv, within_s)
        self._log.append(Write(datetime.now(UTC), "act", " ".join(argv)))
        if reboots:
            argv = ("sh", "-c", 'echo reboot >> "$0"', str(self._lane.folder / "reboots"))
        ran = await run_argv(argv, within_s)
        self.begun.set()
        if not reboots:
            await self._end.wait()
        return ran

    async def ends(self) -> None:
        """The command returns; the machine goes down and comes back as another boot."""
        self._end.set()
        if ordered(self._lane.folder):
            boot_id = await asyncio.to_thread(self._lane.cluster.kubelet.reboot_node, self._lane.node)
            (self._lane.folder / "boot_id").write_text(boot_id)


class NodeStand:
    """See Stand."""

    def __init__(self, lane: Lane, gpus: Node) -> None:
        self.name, self.lever, self.client = lane.name, lane.story.lever, lane.client
        self.lane, self.gpus = lane, gpus
        self.slow = Slow()
        self.commands = Commands(lane, self.slow.log)
        self.journal = HeldJournal(f"sqlite:///{lane.folder / 'journal.db'}")

    @asynccontextmanager
    async def worker(self, harmful: bool) -> AsyncIterator[None]:
        """The worker that decides, and the node's own, each under its own account."""
        lane = self.lane
        async with AsyncExitStack() as stack:
            mine, own = [
                await stack.enter_async_context(KubeApi(from_kubeconfig(lane.kubeconfigs[account])))
                for account in ("interlock", "interlock-node-agent")
            ]
            nvml, smi = Nvml(host_pids=True), str(self.gpus.smi)
            agent = NodeAgent(
                lane.node, nvml, run=self.commands, reset_argv=(smi, "--gpu-reset", "-i", "{index}"),
                persistence_argv=(smi, "-pm", "{mode}", "-i", "{index}"), boot_id_file=lane.folder / "boot_id",
            )  # fmt: skip
            actuator = SlowNode(lane.fleet, lane.node, OwnHands(agent, REBOOT), own)
            actuator.slow = self.slow
            telling = asyncio.create_task(publish(KubeNode(own, lane.node), nvml, 0.5))
            stack.callback(telling.cancel)
            parts = Parts(
                client=self.client, fleet=lane.fleet, policy=asks(policy()), library=library(lane.story),
                journal=self.journal, notify=LogNotify(lane.folder / "pages.jsonl"), claim_key=labs.CLAIM_KEY,
                envoy_folder=lane.folder / "edge", envoy_admin=DEAD_PORT, route_urls={}, watch_period_s=1.0,
                probe_timeout_s=0.9, task_queue=self.name, cluster=KubeCluster(lane.fleet, mine),
            )  # fmt: skip
            await stack.enter_async_context(running_node_worker(self.client, lane.node, actuator, self.journal))
            await stack.enter_async_context(labs.running_worker(parts))
            yield

    def alert(self) -> Detection:
        """See Stand."""
        now = datetime.now(UTC)
        return Detection(
            alert=self.lane.story.alert, target=self.lane.target, severity="critical", started_at=now,
            observed_at=now, detector="lab",
        )  # fmt: skip

    async def fail(self) -> None:
        """The driver wants a reset; and the lamp, by which the fault is measured, is dark."""
        self.gpus.set(0, recovery=WANTS_RESET)
        await self.lane.fail()

    async def heal(self) -> None:
        """See Stand."""
        await asyncio.to_thread(self.lane.cluster.kubelet.heal_node, self.lane.lamp)


class NodePlayer(Player):
    """Halts once more: when the node has begun what cannot be taken back, and nobody knows yet."""

    stand: NodeStand

    async def _acts(self) -> None:
        async def begun() -> bool:
            return self.stand.commands.begun.is_set()

        await self._until(begun, "its command has been given")
        await self.halt("begun")
        await self.stand.commands.ends()

    async def receipts(self) -> list[Receipt]:
        """What the closed case's record says that was done."""
        (record,) = await self.stand.journal.cases()
        return [r for step in CaseRecord.model_validate_json(record).steps for r in step.receipts]
