"""One object that a change writes: looked at afresh, judged, and written by compare-and-set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_errors import Json, NotFound
from activities.adapters.kube_keys import DEPLOYMENT, Key, workload_of
from activities.adapters.kube_read import APPS, AUTOSCALING, CORE
from activities.adapters.kube_settings import deployment_settings, edits, node_settings, scaler_settings
from activities.adapters.kube_values import name, notes, owned_by, version
from activities.errors import Refused
from runbooks.change import Permit
from runbooks.facts import Settings
from runbooks.fleet import Fleet, Workload

EPOCH, PERMIT = "interlock.dev/epoch", "interlock.dev/permit"


@dataclass(frozen=True)
class Look:
    """The object as it is now, None when it is not there; `settings` are those of the unit's keys that it has."""

    thing: Json | None
    settings: Settings = field(default_factory=dict)
    sets: tuple[Json, ...] = ()

    @property
    def generation(self) -> int:
        """Rises with every change of the specification, by whomever."""
        return int(self.thing["metadata"].get("generation", 0)) if self.thing is not None else 0

    def stamp(self) -> tuple[int, str]:
        """Epoch and permit of our last write. Refused: mangled, so nobody can say whether a later permit wrote it."""
        written = notes(self.thing) if self.thing is not None else {}
        epoch = written.get(EPOCH, "0")
        if not epoch.isdigit():
            raise Refused(f"the annotation {EPOCH} is {epoch!r}: set it to the domain's highest epoch")
        return int(epoch), written.get(PERMIT, "")


@dataclass(frozen=True)
class Unit:
    """`kind` is node, deployment, scale, autoscaler or pod. All its keys are written in one request."""

    kind: str
    owner: str
    keys: tuple[Key, ...]

    @property
    def role(self) -> str:
        """The manifest in docs/rbac that allows its writes."""
        return self.keys[0].role

    @property
    def stamped(self) -> bool:
        """True when what we write carries our epoch and permit: not through the scale subresource, nor by eviction."""
        return self.kind in {"node", "deployment", "autoscaler"}

    def path(self, fleet: Fleet) -> str:
        """Of the object; for an autoscaler that of its namespace's list."""
        if self.kind == "node":
            return f"{CORE}/nodes/{self.owner}"
        workload = workload_of(fleet, self.owner)
        if self.kind == "pod":
            return f"{CORE}/namespaces/{workload.namespace}/pods/{self.keys[0].name}"
        if self.kind == "autoscaler":
            return f"{AUTOSCALING}/namespaces/{workload.namespace}/horizontalpodautoscalers"
        return f"{APPS}/namespaces/{workload.namespace}/deployments/{workload.deployment}"


def units(keys: Sequence[Key]) -> list[Unit]:
    """The keys by object, in a fixed order."""
    found: dict[tuple[str, str, str], list[Key]] = {}
    for key in sorted(keys, key=lambda k: k.text):
        kind = {"cordon": "node", "boot": "node", "gpu": "node", "replicas": "scale", "autoscale": "autoscaler"}.get(
            key.family, "deployment" if key.family in DEPLOYMENT else "pod"
        )
        found.setdefault((kind, key.owner, key.name if kind == "pod" else ""), []).append(key)
    return [Unit(kind, owner, tuple(some)) for (kind, owner, _), some in sorted(found.items())]


async def look(api: KubeApi, fleet: Fleet, unit: Unit) -> Look:
    """A fresh GET. What is not there is a Look at nothing."""
    try:
        thing, has, sets = await _look(api, fleet, unit)
    except NotFound:
        return Look(None)
    wanted = {k.text for k in unit.keys}
    return Look(thing, {k: v for k, v in has.items() if k in wanted}, tuple(sets))


async def _look(api: KubeApi, fleet: Fleet, unit: Unit) -> tuple[Json | None, Settings, list[Json]]:
    path = unit.path(fleet)
    if unit.kind == "autoscaler":
        scaler = _scaler((await api.list(path)).items, workload_of(fleet, unit.owner))
        return scaler, scaler_settings(unit.owner, scaler) if scaler is not None else {}, []
    thing = await api.get(path)
    if unit.kind == "node":
        return thing, node_settings(thing), []
    if unit.kind == "pod":
        going = "deletionTimestamp" in thing["metadata"]
        return thing, {} if going else {unit.keys[0].text: thing["metadata"]["uid"]}, []
    sets: list[Json] = []
    if any(k.family == "template" for k in unit.keys):
        namespace = workload_of(fleet, unit.owner).namespace
        every = (await api.list(f"{APPS}/namespaces/{namespace}/replicasets")).items
        sets = [r for r in every if owned_by(r, thing["metadata"]["uid"])]
    return thing, deployment_settings(unit.owner, thing, sets), sets


def _scaler(scalers: Sequence[Json], workload: Workload) -> Json | None:
    for scaler in scalers:
        target = scaler["spec"]["scaleTargetRef"]
        if target.get("kind") == "Deployment" and target.get("name") == workload.deployment:
            return scaler
    return None


async def write(api: KubeApi, fleet: Fleet, unit: Unit, seen: Look, after: Settings, permit: Permit) -> None:
    """One request, good only for the object as it was seen. Conflict: it is another by now."""
    thing = seen.thing
    if thing is None:
        raise Refused(f"{unit.keys[0].text}: there is nothing to write to")
    path = unit.path(fleet)
    if unit.kind == "pod":
        namespace, uid = thing["metadata"]["namespace"], thing["metadata"]["uid"]
        await api.evict(namespace, name(thing), uid, role=unit.role, dry_run=False)
        return
    if unit.kind == "scale":
        await api.scale(path, int(after[unit.keys[0].text]), version(thing), role=unit.role)
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
    await api.patch(f"{path}/{name(thing)}" if unit.kind == "autoscaler" else path, ops, role=unit.role)
