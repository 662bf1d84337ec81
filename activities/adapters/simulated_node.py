"""The hands of one node of the fluid model: a GPU reset, a reboot, by the rules of the real node actuator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from activities.adapters.kube_keys import NODE_AGENT, Key
from activities.adapters.kube_rules import checked, fenced, in_time
from activities.adapters.simulated_view import View
from activities.errors import Ambiguous, Permanent, Refused, Retryable
from activities.ports import Snapshot
from runbooks.change import Change, Permit, boot_key, gpu_key
from runbooks.facts import Settings


class SimulatedNode:
    """An act counts at once: the boot id changes with the order, and the node is ready when it is up again."""

    def __init__(self, name: str, view: View, clock: Callable[[], datetime], present: Callable[[], None]) -> None:
        self._name, self._view, self._clock, self._present = name, view, clock, present
        self._world = view.world
        self._home = view.world.home_of(name)
        self._cluster = view.world.clusters[self._home]

    async def read(self, domain: str) -> Snapshot:
        """Boot and resets of this node. Permanent: the node is not of this domain. Retryable: its cluster does not answer."""
        self._answers(domain)
        mark = await self._cluster.mark(domain)
        return Snapshot(
            settings=self._settings(),
            observed_at=self._clock(),
            epoch=mark.epoch if mark is not None else 0,
            permit_id=mark.permit_id if mark is not None else "",
        )

    async def effective(self, keys: Sequence[str]) -> Settings:
        """The same, by key."""
        self._answers(self._home)
        found = self._settings()
        return {k: found[k] for k in keys if k in found}

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """One reset, or one reboot, at most once per permit. Refused: see the port; also a node that is not drained.

        Ambiguous: this permit has made it before, and it does not show.
        """
        keys = checked(self._world.fleet, change, permit, NODE_AGENT)
        if len(keys) > 1 or keys[0].owner != self._name:
            raise Refused(f"the agent of {self._name} makes one act of its own node at a time")
        self._answers(permit.domain)
        key, again = keys[0], fenced(await self._cluster.mark(permit.domain), permit)
        found = self._settings().get(key.text)
        if again and found is not None and change.done(key.text, found):
            return await self.read(permit.domain)
        if again:
            raise Ambiguous(f"{key.text}: this permit may have acted before, and it does not show")
        self._may(key, change, found)
        in_time(permit, self._clock())
        await self._cluster.enter(permit, {})
        if key.family == "boot":
            self._world.reboot(self._name)
        else:
            self._world.reset_gpu(self._name, int(key.name))
        self._world.wrote(dict(change.after), permit.id, f"permit {permit.id}")
        self._world.settle()
        if key.family == "gpu" and int(key.name) in self._world.node(self._name).sick:
            raise Permanent(f"GPU {key.name} of {self._name}: the reset did not help: it still has what it had")
        return await self.read(permit.domain)

    def _may(self, key: Key, change: Change, found: object) -> None:
        node, before = self._world.node(self._name), change.before[key.text]
        if found != before:
            raise Refused(f"{key.text} is {found!r}, and the plan rests on {before!r}: plan again")
        if not node.cordoned:
            raise Refused(f"{self._name} is not cordoned: a replica could be put on it meanwhile")
        pods = self._cluster.world.pods.values()
        left = sorted(p.name for p in pods if p.node == self._name and (not node.failed or p.deleted_at is None))
        if left:
            raise Refused(f"{self._name} still has {', '.join(left)}: drain it first")
        if key.family == "gpu":
            if node.failed:
                raise Retryable(f"the agent of {self._name} does not answer: {node.failed}")
            if int(key.name) in node.lost:
                raise Refused(f"GPU {key.name} of {self._name} is off the bus: only a reboot of the node reaches it")
            if int(key.name) not in node.sick:
                raise Refused(f"{key.text}: its driver wants no reset, so none was made")

    def _settings(self) -> Settings:
        node = self._world.node(self._name)
        found: Settings = {boot_key(self._name): node.boot_id}
        return found | {gpu_key(self._name, str(i)): node.resets.get(i, 0) for i in range(node.gpus)}

    def _answers(self, domain: str) -> None:
        self._present()
        if domain != self._home:
            raise Permanent(f"the fleet has no node {self._name} in domain {domain!r}")
        if why := self._view.sick(domain):
            raise Retryable(f"{self._name}: no answer within 4 s ({why})")
