"""The worker of one node: its own hands (resets and reboots from the node's own queue) and its own word on its GPUs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_node import Hands, NodeActuator
from activities.adapters.kube_node_object import KubeNode
from activities.adapters.node_agent import GpuReset, NodeAgent, ReadsGpus
from activities.adapters.nvml import Nvml
from activities.adapters.nvml_quiet import Quiet
from activities.adapters.nvml_thread import in_thread
from activities.adapters.redfish import Redfish, secret_file
from activities.errors import PortError, Refused
from runbooks.fleet import Fleet, Node
from runbooks.gpus import GpuHealth, recovered, worst
from worker.settings import BadSettings, NodeSettings, Settings

log = logging.getLogger("interlock.node")
MENDS = ("reset_gpu", "reboot_node", "rebalance_nodes")
"""Findings that make a GPU sick: those that a lever on the node mends. Throttling, for one, is not among them."""


class OwnHands:
    """The node's own agent, with the argv of the settings."""

    def __init__(self, agent: NodeAgent, reboot_argv: tuple[str, ...]) -> None:
        self._agent = agent
        self._reboot_argv = reboot_argv

    async def gpu(self, index: int) -> GpuHealth:
        """See `NodeAgent`."""
        return await self._agent.gpu(index)

    async def reset_gpu(self, index: int) -> GpuReset:
        """See `NodeAgent`."""
        return await self._agent.reset_gpu(index)

    async def reboot(self, *, boot: str) -> object:
        """See `NodeAgent`."""
        return await self._agent.reboot(self._reboot_argv, boot=boot)


class BmcHands:
    """A node whose own agent is gone: all that a BMC can do is restart it."""

    def __init__(self, node: str, redfish: Redfish, settings: NodeSettings) -> None:
        self._node = node
        self._redfish = redfish
        self._kind = settings.bmc_reset

    async def gpu(self, index: int) -> GpuHealth:
        """Refused: a BMC sees no GPU of a running system."""
        raise Refused(f"the BMC of {self._node} cannot read GPU {index}; only the node's own agent can")

    async def reset_gpu(self, index: int) -> GpuReset:
        """Refused."""
        raise Refused(f"the BMC of {self._node} cannot reset GPU {index}; only the node's own agent can")

    async def reboot(self, *, boot: str) -> object:
        """The order; that it was done shows in another boot id. Refused: the machine is not on, a restart is not its need."""
        power = await self._redfish.power_state()
        if power != "On":
            raise Refused(f"the BMC of {self._node} says that it is powered {power}: switch it on")
        await self._redfish.reset(self._kind)
        return boot


def node_of(fleet: Fleet, name: str) -> Node:
    """The node of the inventory. BadSettings: it has none of this name."""
    node = fleet.node(name)
    if node is None:
        known = ", ".join(n.name for n in fleet.nodes) or "none"
        raise BadSettings(f"--node {name}: the fleet has no such node; nodes are {known}")
    return node


@asynccontextmanager
async def actuator_of(
    settings: Settings, fleet: Fleet, node: Node, api: KubeApi, bmc: bool
) -> AsyncIterator[NodeActuator]:
    """What acts on the node, for as long as the block lasts; its own agent publishes the health of its GPUs meanwhile."""
    options = settings.node
    fence = f"{settings.kubernetes.fence_namespace}/interlock-fence"

    def actuator(hands: Hands) -> NodeActuator:
        return NodeActuator(fleet, node.name, hands, api, fence=fence, boot_wait_s=options.boot_wait_s)

    if bmc:
        if not node.bmc or options.bmc_token_file is None:
            raise BadSettings(
                f"--bmc needs nodes.{node.name}.bmc in the fleet and INTERLOCK_NODE__BMC_TOKEN_FILE: where and as whom"
            )
        async with httpx.AsyncClient(timeout=15, trust_env=False) as http:
            redfish = Redfish(node.bmc, options.bmc_system, http, token=secret_file(options.bmc_token_file))
            yield actuator(BmcHands(node.name, redfish, options))
        return
    quiet = Quiet(options.lock) if options.lock is not None else None
    nvml = Nvml(quiet, host_pids=options.host_pids)
    agent = NodeAgent(
        node.name,
        nvml,
        quiet=quiet,
        reset_argv=options.reset_argv,
        persistence_argv=options.persistence_argv,
        boot_id_file=options.boot_id_file,
    )
    publishing = asyncio.create_task(publish(KubeNode(api, node.name), nvml, options.publish_s))
    try:
        yield actuator(OwnHands(agent, options.reboot_argv))
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)


async def publish(node: KubeNode, nvml: ReadsGpus, every_s: float) -> None:
    """Says on the Node object what is wrong with its GPUs, until cancelled. A look that fails is not published: the last
    word grows old, and what is too old is Unknown to whoever reads it."""
    while True:
        try:
            found = await in_thread(nvml.health, 10.0, f"NVML on {node.name}")
            sick = {str(h.index): one.why for h in found if (one := worst(h)) is not None and one.lever in MENDS}
            # Nothing found is no proof of health: only a reading that is proven well is published as nothing.
            unknown = {str(h.index): why for h in found if str(h.index) not in sick and (why := recovered(h))}
            seen = min((h.observed_at for h in found), default=None)
            if seen is not None:
                await node.publish_gpu_health([str(h.index) for h in found], sick, seen, unknown)
        except PortError as error:
            log.warning("GPU health of %s is not published: %s", node.name, error)
        await asyncio.sleep(every_s)
