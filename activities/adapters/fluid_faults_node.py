"""Faults of nodes, GPUs and whole clusters. What a reboot or a reset cures is in the file; else only time does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from activities.adapters.fluid_cause import Cause
from activities.adapters.fluid_levels import Levels
from runbooks.incident_faults import ClusterGone, Gpu, Network, NodeDown

if TYPE_CHECKING:
    from activities.adapters.fluid_hands import Hands

HARMLESS = frozenset({43, 92, 154})
"""XIDs that end no process: the driver only tells of them."""
PENDING = frozenset({63})
"""XIDs that end no process, and leave something to do: a row of memory is replaced at the next reset."""
APPLICATION = frozenset({13, 31, 45, 68, 69, 94})
"""XIDs that end the process on the GPU, and leave the GPU well."""
OFF_THE_BUS = frozenset({79})
"""XIDs after which the driver does not see the GPU any more: only a boot brings it back."""


class NodesDown(Cause[NodeDown]):
    """The first nodes of a cluster that are well are not ready any more."""

    nodes: tuple[str, ...] = ()

    def begin(self, world: Hands) -> None:
        """See `Cause`."""
        self.nodes = tuple(world.well_nodes(self.spec.cluster)[: self.spec.nodes])
        for node in self.nodes:
            world.fail_node(node, self, "NodeStatusUnknown: its kubelet has stopped to post its status")

    def end(self, world: Hands) -> None:
        """See `Cause`."""
        for node in self.nodes:
            world.heal_node(node, self)
        self.nodes = ()

    def rebooted(self, world: Hands, node: str) -> None:
        """See `Cause`."""
        if node in self.nodes and self.spec.reboot_cures:
            self.nodes = tuple(n for n in self.nodes if n != node)
            world.heal_node(node, self)

    def still_on(self, node: str) -> bool:
        """See `Cause`."""
        return node in self.nodes


class NetworkLost(Cause[Network]):
    """Many nodes at once: their replicas go on and nobody reaches them."""

    nodes: tuple[str, ...] = ()

    def begin(self, world: Hands) -> None:
        """See `Cause`."""
        every = world.well_nodes(self.spec.cluster)
        self.nodes = tuple(every[: math.ceil(self.spec.share * len(world.nodes_of(self.spec.cluster)))])
        for node in self.nodes:
            world.fail_node(node, self, "NodeStatusUnknown: the node cannot be reached")

    def end(self, world: Hands) -> None:
        """See `Cause`."""
        for node in self.nodes:
            world.heal_node(node, self)
        self.nodes = ()

    def still_on(self, node: str) -> bool:
        """See `Cause`."""
        return node in self.nodes


class Gone(Cause[ClusterGone]):
    """Nothing of the cluster can be reached, its API included, and nothing is placed in it."""

    def begin(self, world: Hands) -> None:
        """See `Cause`."""
        for node in world.nodes_of(self.spec.cluster):
            world.fail_node(node, self, "NodeStatusUnknown: the cluster is gone")

    def end(self, world: Hands) -> None:
        """See `Cause`."""
        for node in world.nodes_of(self.spec.cluster):
            world.heal_node(node, self)

    def level(self, levels: Levels) -> None:
        """See `Cause`."""
        levels.gone.add(self.spec.cluster)

    def still_on(self, node: str) -> bool:
        """See `Cause`."""
        return node.rpartition("-n")[0] == self.spec.cluster


class GpuFault(Cause[Gpu]):
    """One GPU: for most codes the process on it ends, and none comes up on it until it is mended."""

    sick = False

    def begin(self, world: Hands) -> None:
        """See `Cause`."""
        if self.spec.xid in HARMLESS:
            return
        self.sick = self.spec.xid not in APPLICATION
        for pod in world.pods_at(self.spec.node, self.spec.gpu) if self.spec.xid not in PENDING else ():
            world.crash(pod)
        if self.sick:
            node = world.node(self.spec.node)
            why = ": a row remap is pending" if self.spec.xid in PENDING else ""
            node.sick[self.spec.gpu] = f"XID {self.spec.xid}{why}"
            if self.spec.xid in OFF_THE_BUS:
                node.lost.add(self.spec.gpu)
            world.touch_node(self.spec.node)
            self.follow(world)

    def follow(self, world: Hands) -> None:
        """Whatever is put on it does not come up."""
        if self.sick and self.spec.xid not in PENDING:
            for pod in world.pods_at(self.spec.node, self.spec.gpu):
                world.hold(pod, self)

    def end(self, world: Hands) -> None:
        """See `Cause`."""
        self._cure(world)

    def reset(self, world: Hands, node: str, gpu: int) -> None:
        """See `Cause`."""
        here = (node, gpu) == (self.spec.node, self.spec.gpu)
        if here and self.spec.reset_cures and self.spec.xid not in OFF_THE_BUS:
            self._cure(world)

    def rebooted(self, world: Hands, node: str) -> None:
        """A boot resets every GPU of its node, and brings back one that is off the bus."""
        if node == self.spec.node and (self.spec.reset_cures or self.spec.xid in OFF_THE_BUS):
            self._cure(world)

    def still_on(self, node: str) -> bool:
        """See `Cause`."""
        return self.sick and node == self.spec.node

    def _cure(self, world: Hands) -> None:
        if not self.sick:
            return
        self.sick = False
        node = world.node(self.spec.node)
        node.sick.pop(self.spec.gpu, None)
        node.lost.discard(self.spec.gpu)
        world.release(self)
        world.touch_node(self.spec.node)
