"""What a detector says about a target at a time. Never "signal": that word is Temporal's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Time, digest


class TargetKind(StrEnum):
    """The levels of the target tree, from the widest to the narrowest."""

    CLUSTER = "cluster"
    SERVICE = "service"
    ENDPOINT = "endpoint"
    NODE = "node"
    GPU = "gpu"


class Target(Model):
    """What a detection is about. `service` is a model pool; an endpoint is in a service and (when known) on a node."""

    cluster: Name
    service: Name | None = None
    endpoint: Name | None = None
    node: Name | None = None
    gpu: Name | None = None

    @model_validator(mode="after")
    def _parents(self) -> Target:
        if self.endpoint is not None and self.service is None:
            raise ValueError("target.service is missing: an endpoint needs the service (model pool) that it serves in")
        if self.gpu is not None and self.node is None:
            raise ValueError("target.node is missing: a gpu needs the node that it sits in")
        return self

    @property
    def kind(self) -> TargetKind:
        """The narrowest level that is named."""
        if self.gpu is not None:
            return TargetKind.GPU
        if self.endpoint is not None:
            return TargetKind.ENDPOINT
        if self.node is not None:
            return TargetKind.NODE
        return TargetKind.SERVICE if self.service is not None else TargetKind.CLUSTER

    @property
    def id(self) -> str:
        """`cluster/service/pool-a/endpoint/…`: stable, readable, the tail of the workflow id."""
        parts = [self.cluster]
        if self.kind in (TargetKind.SERVICE, TargetKind.ENDPOINT):
            parts += ["service", self.service or ""]
        if self.kind is TargetKind.ENDPOINT:
            parts += ["endpoint", self.endpoint or ""]
        if self.kind in (TargetKind.NODE, TargetKind.GPU):
            parts += ["node", self.node or ""]
        if self.kind is TargetKind.GPU:
            parts += ["gpu", self.gpu or ""]
        return "/".join(parts)

    @classmethod
    def of(cls, target_id: str) -> Target:
        """The target of an id as `id` writes it. ValueError: it is none."""
        cluster, *rest = target_id.split("/")
        named = dict(zip(rest[::2], rest[1::2], strict=True))
        return cls.model_validate({"cluster": cluster, **named})

    @property
    def domain(self) -> str:
        """The unit of change control that this target lies in: its cluster."""
        return self.cluster

    def related(self, other: Target) -> bool:
        """True when one is the other, or its ancestor or descendant in the target tree."""
        mine, theirs = self.model_dump(exclude_none=True), other.model_dump(exclude_none=True)
        if self.kind is TargetKind.ENDPOINT and other.kind is TargetKind.ENDPOINT:
            return self.id == other.id
        small, large = (mine, theirs) if len(mine) <= len(theirs) else (theirs, mine)
        return all(large.get(k) == v for k, v in small.items())


class Severity(StrEnum):
    """How grave the detector calls it. A graver detection makes a running case plan again."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for info, 2 for critical."""
        return list(Severity).index(self)


class Detection(Model):
    """One statement of one detector. Native JSON of the intake and of a direct workflow start has this shape."""

    alert: Name = Field(description="The alert's name, e.g. EngineHang.")
    target: Target
    status: Literal["firing", "resolved"] = "firing"
    severity: Severity = Severity.WARNING
    labels: dict[str, str] = Field(default_factory=dict, max_length=64)
    evidence: dict[str, float | bool | str] = Field(
        default_factory=dict, max_length=64, description="What was measured, by name; classify reads it."
    )
    started_at: Time = Field(description="When the fault began, by the detector's clock.")
    observed_at: Time = Field(description="When the newest evidence was measured, by the detector's clock.")
    detector: str = Field(
        default="native", max_length=100, description="Who says so: alertmanager, generation-probe, …"
    )
    reported_by: str = Field(
        default="",
        max_length=300,
        description="Who reported it or asked for the change. He does not approve it (four eyes); it grants nothing.",
    )
    automatic: bool = Field(default=True, description="False when a person reported it.")
    fingerprint: str = Field(default="", max_length=128, description="Same fault, same value. Empty: derived.")
    received_at: Time | None = Field(default=None, description="When the intake took it in, by the intake's clock.")

    @property
    def seen_at(self) -> datetime:
        """When its evidence was measured, as far as that can be: never after it came in. A detector whose clock runs ahead
        would else outvote its own resolution until that time has come."""
        return self.observed_at if self.received_at is None else min(self.observed_at, self.received_at)

    @property
    def key(self) -> str:
        """The fingerprint, or one derived from alert, target and labels."""
        return self.fingerprint or digest({"a": self.alert, "t": self.target.id, "l": self.labels})

    @property
    def workflow_id(self) -> str:
        """One Remediation per target."""
        return workflow_id(self.target)


CORRELATED = "CorrelatedFaults"
"""Alert name under which a member's detections join the case of its domain (G13)."""


def batches(detections: Sequence[Detection], most: int = 300_000) -> Iterator[tuple[Detection, ...]]:
    """Parts of so many characters: a payload of more than two megabytes ends the workflow that sends it, unheard."""
    part: list[Detection] = []
    size = 0
    for one in detections:
        length = len(one.model_dump_json())
        if part and size + length > most:
            yield tuple(part)
            part, size = [], 0
        part.append(one)
        size += length
    if part:
        yield tuple(part)


def member(detection: Detection, wide: Target, requester: str = "") -> Detection:
    """A detection as the domain's case takes it in: the same fault, told by its target. Twice the same, once counted.

    `requester`: who asked for the case, when the detection does not say who reported it.
    """
    return detection.model_copy(
        update={
            "reported_by": detection.reported_by or requester,
            "alert": CORRELATED,
            "target": wide,
            "labels": {
                "member": detection.target.id,
                "member_alert": detection.alert,
                "member_kind": detection.target.kind.value,
            },
            "fingerprint": digest({"member": detection.target.id, "key": detection.key}),
        }
    )


def workflow_id(target: Target) -> str:
    """The id of the one Remediation workflow of a target."""
    return f"remediate:{target.id}"


def summary_of(target: Target) -> str:
    """What the Temporal UI shows as a case's summary, at most 400 bytes. The UI reads it as Markdown: names of strangers
    must not become images or links."""
    plain = re.sub(r"[^A-Za-z0-9 .:/-]", "?", target.id)
    return f"Remediation of {target.kind.value} {plain}"[:200]


def guard_id(domain: str) -> str:
    """The id of the one Guard workflow of a domain."""
    return f"guard:{domain}"


TASK_QUEUE = "interlock"


def guard_queue(queue: str = TASK_QUEUE) -> str:
    """The Guards' own task queue. A case that waits in a local activity keeps its slot of the worker: two hundred that wait
    for a Guard's answer must not keep that Guard from its slot."""
    return f"{queue}-guard"


def node_queue(node: str) -> str:
    """The task queue of one node's agent."""
    return f"{TASK_QUEUE}-node-{node}"
