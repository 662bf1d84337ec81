"""What a node's agent says about its GPUs on its own Node object: found wrong, and how often each was reset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_errors import Conflict, Json
from activities.adapters.kube_read import CORE
from activities.adapters.kube_settings import RESETS
from activities.adapters.kube_state import HEALTH, GpuHealth
from activities.adapters.kube_values import notes, version
from activities.errors import Refused

ROLE = "node_agent.yaml"
TRIES = 6
"""The kubelet writes the same object every few seconds."""


class KubeNode:
    """One Node object, as its own agent writes it: annotations and nothing else."""

    def __init__(self, api: KubeApi, node: str) -> None:
        self._api = api
        self.name = node
        self.path = f"{CORE}/nodes/{node}"

    async def read(self) -> Json:
        """The object as it is now."""
        return await self._api.get(self.path, ROLE)

    async def publish_gpu_health(
        self, gpus: Sequence[str], sick: Mapping[str, str], seen: datetime, unknown: Mapping[str, str] | None = None
    ) -> None:
        """`gpus` are the indices of all GPUs, `sick` those with what was found wrong, `unknown` those of which it could not
        be told, `seen` the time of the look.

        The first time the count of resets of each GPU begins at 0: from then on somebody is there who can reset it.
        """
        for last in [False] * (TRIES - 1) + [True]:
            node = await self.read()
            begun = {RESETS.format(g): "0" for g in gpus} | notes(node)
            if begun == notes(node) or await self._annotate(node, begun, last):
                break
        # Applied and not compared: the newest look counts, and nobody else owns this annotation.
        health = GpuHealth(seen=seen, sick=dict(sick), unknown=dict(unknown or {}), gpus=tuple(gpus)).model_dump_json()
        about = {"name": self.name, "annotations": {HEALTH: health}}
        whole = {"apiVersion": "v1", "kind": "Node", "metadata": about}
        await self._api.apply(self.path, whole, role=ROLE, force=True)

    async def count_reset(self, gpu: str, before: int) -> None:
        """One reset more than `before`. Refused: somebody has counted meanwhile."""
        key = RESETS.format(gpu)
        for last in [False] * (TRIES - 1) + [True]:
            node = await self.read()
            now = notes(node).get(key, "")
            if now != str(before):
                raise Refused(f"gpu/{self.name}/{gpu} is {now or 'not published'}, and the plan rests on {before}")
            if await self._annotate(node, notes(node) | {key: str(before + 1)}, last):
                return

    async def _annotate(self, node: Json, fresh: dict[str, str], last: bool) -> bool:
        """False: somebody has written since, look again."""
        try:
            await self._api.patch(
                self.path,
                [
                    {"op": "replace", "path": "/metadata/resourceVersion", "value": version(node)},
                    {"op": "add", "path": "/metadata/annotations", "value": fresh},
                ],
                role=ROLE,
            )
        except Conflict:
            if last:
                raise
            return False
        return True
