"""Each setting's value in the object that holds it, and the JSON patch that makes it another. Pure."""

from __future__ import annotations

import json
from copy import deepcopy

from activities.adapters.kube_errors import Json
from activities.adapters.kube_keys import Key
from activities.adapters.kube_read import Picture
from activities.adapters.kube_values import HASH, bare, labels, name, notes
from activities.adapters.kube_workload import autoscaler_of, find, frozen, replicasets, template_hash
from activities.errors import Refused
from runbooks import change
from runbooks.cluster import ClusterState
from runbooks.facts import Settings, Value
from runbooks.fleet import Fleet, Workload
from runbooks.redact import redacted

BEFORE_FREEZE = "interlock.dev/behavior-before-freeze"
"""Annotation of an autoscaler that we froze: its `spec.behavior` as it was, JSON, null for none."""
RESETS = "interlock.dev/gpu-{}-resets"
"""Annotation of a Node: how often its agent has reset this GPU."""
_ENGINE = "/spec/template/spec/containers/0"


def node_settings(node: Json) -> Settings:
    """cordon, boot and gpu of one node."""
    on = name(node)
    found: Settings = {change.cordon_key(on): "on" if node["spec"].get("unschedulable") else "off"}
    if boot := ((node.get("status") or {}).get("nodeInfo") or {}).get("bootID"):
        found[change.boot_key(on)] = boot
    before, after = RESETS.split("{}")
    for key, text in notes(node).items():
        index = key.removeprefix(before).removesuffix(after)
        if key == RESETS.format(index) and text.isdigit():
            found[change.gpu_key(on, index)] = int(text)
    return found


def deployment_settings(pool: str, deployment: Json, sets: list[Json]) -> Settings:
    """replicas, image, env, template and paused of one pool. The engine is the first container."""
    spec = deployment["spec"]
    engine = spec["template"]["spec"]["containers"][0]
    found: Settings = {
        change.replicas_key(pool): spec.get("replicas", 1),
        change.image_key(pool): engine["image"],
        change.paused_key(pool): "on" if spec.get("paused") else "off",
    }
    for variable in engine.get("env") or []:
        given = {variable["name"]: variable.get("value", "")}
        # What a secret is named like never goes into a history.
        if "valueFrom" not in variable and redacted(given) == given:
            found[change.env_key(pool, variable["name"])] = given[variable["name"]]
    if present := template_hash(deployment, sets):
        found[change.template_key(pool)] = present
    return found


def scaler_settings(pool: str, scaler: Json) -> Settings:
    """ "off" only where we froze it: what somebody else froze is not ours to give back."""
    ours = frozen(scaler) and BEFORE_FREEZE in notes(scaler)
    return {change.autoscale_key(pool): "off" if ours else "on"}


def settings(
    picture: Picture, seen: ClusterState, workloads: dict[str, Workload], fleet: Fleet, domain: str
) -> Settings:
    """All settings of the fleet's nodes and pools in this domain."""
    listed = {n.name for n in fleet.nodes if n.cluster == domain}
    found: Settings = {}
    for node in picture.nodes:
        if name(node) in listed:
            found |= node_settings(node)
    for pool, workload in workloads.items():
        deployment = find(picture.deployments, workload.namespace, workload.deployment)
        if deployment is not None:
            found |= deployment_settings(pool, deployment, replicasets(picture, deployment))
            scaler = autoscaler_of(picture, deployment)
            found |= scaler_settings(pool, scaler) if scaler is not None else {}
    for pod in seen.pods.values():
        if not pod.deleting:
            found[change.pod_key(pod.pool, pod.name)] = pod.uid
    return found


def edits(key: Key, value: Value, thing: Json, sets: list[Json]) -> tuple[list[Json], dict[str, str | None]]:
    """JSON patch of the object, and annotations to set (None: to take away). Refused: it cannot be made so."""
    match key.family:
        case "cordon":
            return [_add("/spec/unschedulable", value == "on")], {}
        case "paused":
            return [_add("/spec/paused", value == "on")], {}
        case "image":
            return [_add(f"{_ENGINE}/image", value)], {}
        case "env":
            return [_add(f"{_ENGINE}/env/{_variable(key, thing)}/value", value)], {}
        case "template":
            return [_add("/spec/template", _template(key, str(value), sets))], {}
        case "autoscale":
            return _scaling(key, value, thing)
        case other:
            raise Refused(f"{key.text}: {other} is not written by a patch")


def _add(path: str, value: object) -> Json:
    """In a JSON patch, "add" of a member that is there replaces it."""
    return {"op": "add", "path": path, "value": value}


def _variable(key: Key, thing: Json) -> int:
    for index, variable in enumerate(thing["spec"]["template"]["spec"]["containers"][0].get("env") or []):
        if variable["name"] == key.name and "valueFrom" not in variable:
            return index
    raise Refused(f"{key.text}: the template has no plain variable of this name")


def _template(key: Key, wanted: str, sets: list[Json]) -> Json:
    for one in sets:
        if labels(one).get(HASH) == wanted:
            return bare(one["spec"]["template"])
    raise Refused(f"{key.text}: revision {wanted} is no longer kept (revisionHistoryLimit), so nothing to go back to")


def _scaling(key: Key, value: Value, scaler: Json) -> tuple[list[Json], dict[str, str | None]]:
    now = scaler["spec"].get("behavior")
    if value == "off":
        still = deepcopy(now) if now else {}
        for way in ("scaleUp", "scaleDown"):
            still[way] = {**(still.get(way) or {}), "selectPolicy": "Disabled"}
        return [_add("/spec/behavior", still)], {BEFORE_FREEZE: json.dumps(now)}
    try:
        before = json.loads(notes(scaler)[BEFORE_FREEZE])
    except (KeyError, ValueError) as error:
        raise Refused(f"{key.text}: what it was before the freeze is not written on it any more") from error
    undo = _add("/spec/behavior", before) if before is not None else {"op": "remove", "path": "/spec/behavior"}
    return [undo], {BEFORE_FREEZE: None}
