"""The settings that only a node's own agent can change: a GPU reset, a reboot. Fenced like every write to the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Protocol

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_errors import Json
from activities.adapters.kube_fence import KubeFence
from activities.adapters.kube_keys import NODE_AGENT, Key, workloads
from activities.adapters.kube_node_object import ROLE, KubeNode
from activities.adapters.kube_read import APPS, CORE, RUNNING
from activities.adapters.kube_rules import checked, fenced, in_time
from activities.adapters.kube_settings import node_settings
from activities.adapters.kube_state import GPU
from activities.adapters.kube_try import CHECK
from activities.adapters.kube_values import asked, condition, labels, name, owned_by, version
from activities.adapters.node_agent import GpuReset
from activities.adapters.reading import Clock, utc_now
from activities.checkpoint import Checkpoint, no_checkpoint
from activities.errors import Ambiguous, Permanent, PortError, Refused, Retryable
from activities.ports import Snapshot
from runbooks.change import Change, Permit, boot_key
from runbooks.facts import Settings
from runbooks.fleet import Fleet, Workload
from runbooks.gpus import GpuHealth, recovered


class Hands(Protocol):
    """The part of `NodeAgent` that acts."""

    async def gpu(self, index: int) -> GpuHealth:
        """One reading of one GPU."""
        ...

    async def reset_gpu(self, index: int) -> GpuReset:
        """Resets a GPU on which nothing runs and whose driver wants it, and reads it back."""
        ...

    async def reboot(self, *, boot: str) -> object:
        """Gives the order to end this boot."""
        ...


class NodeActuator:
    """`activities.ports.Actuator` for `boot/NODE` and `gpu/NODE/INDEX` of one node, run beside that node's agent.

    Both acts are made at most once per permit: when it cannot be told whether one was made, it is not made again.
    `boot_wait_s` is how long the next boot is waited for, s. Checkpoints as in `KubeCluster`.
    """

    def __init__(
        self,
        fleet: Fleet,
        node: str,
        agent: Hands,
        api: KubeApi,
        *,
        clock: Clock = utc_now,
        checkpoint: Checkpoint = no_checkpoint,
        fence: str = "interlock/interlock-fence",
        gpu: str = GPU,
        boot_wait_s: float = 20.0,
    ) -> None:
        self._fleet = fleet
        self._agent = agent
        self._api = api
        self._node = KubeNode(api, node)
        self._clock = clock
        self._checkpoint = checkpoint
        self._fence = KubeFence(api, *fence.split("/", 1))
        self._gpu = gpu
        self._boot_wait_s = boot_wait_s

    async def read(self, domain: str) -> Snapshot:
        """Boot and resets of this node, as its Node object says. Permanent: the node is not of this domain."""
        self._in(domain)
        observed_at = self._clock()
        mark = await self._fence.mark(domain)
        return Snapshot(
            settings=_own(await self._node.read()),
            observed_at=observed_at,
            epoch=mark.epoch if mark is not None else 0,
            permit_id=mark.permit_id if mark is not None else "",
        )

    async def effective(self, keys: Sequence[str]) -> Settings:
        """The same, asked for afresh."""
        found = _own(await self._node.read())
        return {k: found[k] for k in keys if k in found}

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """One reset, or one reboot. Refused: see the port; also a node that is not cordoned and drained.

        Ambiguous: it was asked for by this permit before, or just now, and does not show.
        """
        keys = checked(self._fleet, change, permit, NODE_AGENT)
        if len(keys) > 1 or keys[0].owner != self._node.name:
            raise Refused(f"the agent of {self._node.name} makes one act of its own node at a time")
        key, again = keys[0], fenced(await self._fence.mark(permit.domain), permit)
        self._in(permit.domain)
        node = await self._node.read()
        self._checkpoint("after_before_read")
        found = _own(node).get(key.text)
        if not again:
            await self._drained(node, permit.domain)
            await self._act(key, change, permit, _own(node))
        elif found is None or not change.done(key.text, found):
            await self._unsure(key, change)
        self._checkpoint("before_read_back")
        if key.family == "boot":
            await self._other_boot(str(change.before[key.text]))
        return await self.read(permit.domain)

    async def _act(self, key: Key, change: Change, permit: Permit, found: Settings) -> None:
        before = change.before[key.text]
        if found.get(key.text) != before:
            raise Refused(f"{key.text} is {found.get(key.text)!r}, and the plan rests on {before!r}: plan again")
        if key.family == "gpu" and not (key.name.isdigit() and change.done(key.text, int(before) + 1)):
            raise Refused(f"{key.text}: one reset is counted as one more, from {before!r} to {int(before) + 1}")
        in_time(permit, self._clock())
        await self._fence.enter(permit, {})
        in_time(permit, self._clock())
        if key.family == "boot":
            await self._agent.reboot(boot=str(before))
            self._checkpoint("after_write")
            return
        if not (await self._agent.reset_gpu(int(key.name))).acted:
            raise Refused(f"{key.text}: its driver wants no reset, so none was made")
        self._checkpoint("after_write")
        try:
            await self._node.count_reset(key.name, int(before))
        except PortError as error:
            raise Ambiguous(f"{key.text}: it was reset, and that could not be counted: {error}") from error

    async def _unsure(self, key: Key, change: Change) -> None:
        """This permit came as far as the act before, and it does not show. It is never made a second time."""
        if key.family == "boot":
            raise Ambiguous(f"{self._node.name} was asked to reboot and has not come back as another boot yet")
        health = await self._agent.gpu(int(key.name))
        if why := recovered(health):
            raise Ambiguous(f"{key.text}: this permit may have reset it before, and it is not well: {why}")
        try:
            await self._node.count_reset(key.name, int(change.before[key.text]))
        except Refused as error:
            # Counted meanwhile, by the attempt before this one or by somebody else: Refused would say that nothing was done.
            raise Ambiguous(f"{key.text}: this permit may have reset it before, and {error}") from error

    async def _drained(self, node: Json, domain: str) -> None:
        on = name(node)
        if not node["spec"].get("unschedulable"):
            raise Refused(f"{on} is not cordoned: a replica could be put on it meanwhile")
        where = {"fieldSelector": f"spec.nodeName={on},{RUNNING}"}
        pods = (await self._api.list(f"{CORE}/pods", where, ROLE)).items
        sets = [
            one
            for space in sorted({w.namespace for w in workloads(self._fleet, domain).values()})
            for one in (await self._api.list(f"{APPS}/namespaces/{space}/replicasets", role=ROLE)).items
        ]
        mine = [s["metadata"]["uid"] for s in sets if _of_fleet(s, workloads(self._fleet, domain).values())]
        alive = condition(node, "Ready").get("status") == "True"
        left = [
            name(pod)
            for pod in pods
            # On a dead node nobody ends what is on its way out; on a live one it may still hold the GPU.
            if (alive or "deletionTimestamp" not in pod["metadata"])
            and (asked(pod["spec"], self._gpu) or CHECK in labels(pod) or any(owned_by(pod, uid) for uid in mine))
        ]
        if left:
            raise Refused(f"{on} still has {', '.join(sorted(left))}: drain it first")

    async def _other_boot(self, before: str) -> None:
        """Waits until the API server hears of another boot."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._boot_wait_s
        only = {"fieldSelector": f"metadata.name={self._node.name}"}
        key = boot_key(self._node.name)
        while True:
            try:
                node = await self._node.read()
                if _own(node).get(key) not in (None, before):
                    return
                since = {**only, "resourceVersion": version(node)}
                events = self._api.watch(f"{CORE}/nodes", since, max(0.1, end - loop.time()), ROLE)
                async for event in events:
                    if event["type"] == "MODIFIED" and _own(event["object"]).get(key) not in (None, before):
                        return
            except Retryable:
                # The node goes down, and so may what we ask through; the deadline bounds it.
                await asyncio.sleep(0.2)
            if loop.time() >= end:
                raise Ambiguous(
                    f"{self._node.name} was asked to reboot and has not come back as another boot yet "
                    f"(waited {self._boot_wait_s:g} s)"
                )

    def _in(self, domain: str) -> None:
        node = self._fleet.node(self._node.name)
        if node is None or node.cluster != domain:
            raise Permanent(f"the fleet has no node {self._node.name} in domain {domain!r}")


def _own(node: Json) -> Settings:
    return {k: v for k, v in node_settings(node).items() if k.partition("/")[0] in NODE_AGENT}


def _of_fleet(replicaset: Json, mine: Iterable[Workload]) -> bool:
    owners = replicaset["metadata"].get("ownerReferences") or []
    names = [o["name"] for o in owners if o.get("kind") == "Deployment"]
    return any(w.namespace == replicaset["metadata"]["namespace"] and w.deployment in names for w in mine)
