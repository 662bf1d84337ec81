"""Counts acts where they are done: the API server's audit log, in short words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from activities.adapters.kube_settings import RESETS
from activities.adapters.kube_unit import EPOCH
from tests.kube.audit import Write

ACTORS = ("system:serviceaccount:interlock:interlock", "system:serviceaccount:interlock:interlock-node-agent")


def of_lane(writes: Iterable[Write], namespace: str, lane: str) -> list[Write]:
    """What Interlock has really written in one lane, its fence included, in order."""
    found = []
    for write in writes:
        if write.user in ACTORS and write.applied:
            mine = write.namespace == namespace or (write.resource == "nodes" and write.name.startswith(f"{lane}-"))
            if mine or (write.resource == "configmaps" and _mark(write, lane) is not None):
                found.append(write)
    return found


def said(writes: Iterable[Write]) -> tuple[str, ...]:
    """Each act in words, sorted, without the fence."""
    return tuple(sorted(text for write in writes for text in _said(write)))


def epochs(writes: Iterable[Write], lane: str) -> str:
    """What was written under another epoch than the fence's at that moment, or a fence that went down. Else empty."""
    fence, wrong = 0, []
    for write in writes:
        if write.resource == "configmaps":
            mark = _mark(write, lane) or 0
            wrong += [f"the fence went from {fence} to {mark}"] if mark < fence else []
            fence = mark
        elif (epoch := _epoch(write)) is not None and epoch != fence:
            wrong.append(f"{_said(write)} at epoch {epoch}, the fence at {fence}")
    return "; ".join(wrong)


def evicted(writes: Iterable[Write]) -> list[str]:
    """Uids of evicted pods, one for each eviction."""
    return [w.body["deleteOptions"]["preconditions"]["uid"] for w in writes if w.subresource == "eviction"]


def _said(write: Write) -> list[str]:
    pool = write.name.split("-")[0]
    match write.resource, write.subresource, write.verb:
        case "pods", "eviction", _:
            return [f"evict {pool}"]
        case "pods", _, "create":
            return ["try"]
        case "pods", _, "delete":
            return ["end try"]
        case "deployments", "scale", _:
            return [f"replicas {write.name} {write.body['spec']['replicas']}"]
        case "nodes", _, _:
            return _node(write)
        case "deployments", _, _:
            return _deployment(write)
        case "horizontalpodautoscalers", _, _:
            return [f"autoscale {write.name} {'off' if 'Disabled' in json.dumps(write.body) else 'on'}"]
        case "configmaps", _, _:
            return []
        case _:
            return [f"{write.verb} {write.resource}/{write.subresource} {write.name}"]


def _node(write: Write) -> list[str]:
    number, ops = write.name.rpartition("-")[2], _ops(write)
    if "/spec/unschedulable" in ops:
        return [f"cordon {number} {'on' if ops['/spec/unschedulable'] else 'off'}"]
    before, after = RESETS.split("{}")
    notes = ops.get("/metadata/annotations", {})
    return [f"resets {number} {v}" for k, v in notes.items() if k.startswith(before) and k.endswith(after)]


def _deployment(write: Write) -> list[str]:
    words = []
    for path, value in _ops(write).items():
        if path == "/spec/paused":
            words.append(f"paused {write.name} {'on' if value else 'off'}")
        elif path == "/spec/template":
            words.append(f"template {write.name}")
        elif path.endswith("/image"):
            words.append(f"image {write.name} {value}")
    return words


def _ops(write: Write) -> dict[str, Any]:
    return {op["path"]: op.get("value") for op in write.body}


def _epoch(write: Write) -> int | None:
    if not isinstance(write.body, list):
        return None
    text = _ops(write).get("/metadata/annotations", {}).get(EPOCH)
    return int(text) if text is not None else None


def _mark(write: Write, lane: str) -> int | None:
    """Epoch that a write of the fence gives to this lane's domain; None when it names another."""
    text = _ops(write).get("/data", {}).get(lane)
    return json.loads(text)["epoch"] if text is not None else None
