"""Looks at one object of the API server and writes it by compare-and-set: what a swap needs to be done on Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_errors import Json, NotFound
from activities.adapters.kube_fence import KubeFence
from activities.adapters.kube_keys import workload_of
from activities.adapters.kube_read import APPS, AUTOSCALING, CORE
from activities.adapters.kube_rules import Mark
from activities.adapters.kube_settings import deployment_settings, edits, node_settings, scaler_settings
from activities.adapters.kube_unit import EPOCH, PERMIT, Look, Unit
from activities.adapters.kube_values import name, notes, owned_by, version
from activities.errors import Refused
from runbooks.change import Permit
from runbooks.facts import Settings
from runbooks.fleet import Fleet, Workload


class KubeStore:
    """`activities.adapters.kube_swap.Store` on one API server."""

    def __init__(self, api: KubeApi, fleet: Fleet, fence: KubeFence) -> None:
        self._api = api
        self._fleet = fleet
        self.fence = fence

    async def mark(self, domain: str) -> Mark | None:
        """Who went through the fence last."""
        return await self.fence.mark(domain)

    async def enter(self, permit: Permit, marks: dict[str, int]) -> Mark:
        """Raises the fence."""
        return await self.fence.enter(permit, marks)

    async def hold(self, permit: Permit) -> None:
        """Refused: a later permit has gone through since."""
        await self.fence.hold(permit)

    async def look(self, unit: Unit) -> Look:
        """A fresh GET. What is not there is a Look at nothing."""
        try:
            thing, has, sets = await self._look(unit)
        except NotFound:
            return Look()
        if thing is None:
            return Look()
        wanted = {k.text for k in unit.keys}
        found = {k: v for k, v in has.items() if k in wanted}
        return Look(found, notes(thing), int(thing["metadata"].get("generation", 0)), thing, tuple(sets))

    async def rehearse(self, unit: Unit, seen: Look) -> None:
        """Asks whether a pod may be evicted now. OverBudget: it may not."""
        if unit.kind == "pod" and seen.thing is not None:
            about = seen.thing["metadata"]
            await self._api.evict(about["namespace"], about["name"], about["uid"], role=unit.role, dry_run=True)

    async def write(self, unit: Unit, seen: Look, after: Settings, permit: Permit) -> None:
        """One request, good only for the object as it was seen. Conflict: it is another by now."""
        thing = seen.thing
        if thing is None:
            raise Refused(f"{unit.keys[0].text}: there is nothing to write to")
        path = self._path(unit)
        if unit.kind == "pod":
            namespace, uid = thing["metadata"]["namespace"], thing["metadata"]["uid"]
            await self._api.evict(namespace, name(thing), uid, role=unit.role, dry_run=False)
            return
        if unit.kind == "scale":
            await self._api.scale(path, int(after[unit.keys[0].text]), version(thing), role=unit.role)
            return
        ops: list[Json] = [{"op": "replace", "path": "/metadata/resourceVersion", "value": version(thing)}]
        written = {**notes(thing), EPOCH: str(permit.epoch), PERMIT: permit.id}
        for key in unit.keys:
            more, marks = edits(key, after[key.text], thing, list(seen.sets))
            ops += more
            written |= {k: v for k, v in marks.items() if v is not None}
            for gone in (k for k, v in marks.items() if v is None):
                written.pop(gone, None)
        ops.append({"op": "add", "path": "/metadata/annotations", "value": written})
        await self._api.patch(f"{path}/{name(thing)}" if unit.kind == "autoscaler" else path, ops, role=unit.role)

    def _path(self, unit: Unit) -> str:
        """Of the object; for an autoscaler that of its namespace's list."""
        if unit.kind == "node":
            return f"{CORE}/nodes/{unit.owner}"
        workload = workload_of(self._fleet, unit.owner)
        if unit.kind == "pod":
            return f"{CORE}/namespaces/{workload.namespace}/pods/{unit.keys[0].name}"
        if unit.kind == "autoscaler":
            return f"{AUTOSCALING}/namespaces/{workload.namespace}/horizontalpodautoscalers"
        return f"{APPS}/namespaces/{workload.namespace}/deployments/{workload.deployment}"

    async def _look(self, unit: Unit) -> tuple[Json | None, Settings, list[Json]]:
        path = self._path(unit)
        if unit.kind == "autoscaler":
            scaler = _scaler((await self._api.list(path)).items, workload_of(self._fleet, unit.owner))
            return scaler, scaler_settings(unit.owner, scaler) if scaler is not None else {}, []
        thing = await self._api.get(path)
        if unit.kind == "node":
            return thing, node_settings(thing), []
        if unit.kind == "pod":
            going = "deletionTimestamp" in thing["metadata"]
            return thing, {} if going else {unit.keys[0].text: thing["metadata"]["uid"]}, []
        sets: list[Json] = []
        if any(k.family == "template" for k in unit.keys):
            namespace = workload_of(self._fleet, unit.owner).namespace
            every = (await self._api.list(f"{APPS}/namespaces/{namespace}/replicasets")).items
            sets = [r for r in every if owned_by(r, thing["metadata"]["uid"])]
        return thing, deployment_settings(unit.owner, thing, sets), sets


def _scaler(scalers: Sequence[Json], workload: Workload) -> Json | None:
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]
        if target.get("kind") == "Deployment" and target.get("name") == workload.deployment:
            return scaler
    return None
