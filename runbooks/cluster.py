"""What a cluster's control plane says: nodes, pods and workloads, in the words that levers and gates use. Pure data."""

from __future__ import annotations

from pydantic import Field

from runbooks.base import Model, Name, Time


class NodeState(Model):
    """One node. `gpus` can be given to pods, `gpus_used` are asked for by pods bound to it."""

    name: Name
    ready: bool
    cordoned: bool
    gpus: int = Field(ge=0)
    gpus_used: int = Field(ge=0)
    boot_id: str = ""
    reason: str = Field(default="", description="Why it is not ready, by the node's own condition.")
    sick_gpus: dict[str, str] = Field(
        default_factory=dict, description="GPU index → what its node agent found wrong. Empty: nothing, or no agent."
    )
    unknown_gpus: dict[str, str] = Field(
        default_factory=dict, description="GPU index → why its node agent could not tell how it is."
    )
    counted_gpus: tuple[str, ...] = Field(default=(), description="Indices of the GPUs that its node agent sees.")
    agent_seen_at: Time | None = Field(default=None, description="When its node agent last published GPU health.")


class PodState(Model):
    """One replica. `address` is host:port, as endpoints of the fleet are named; None before it has one."""

    name: Name
    uid: str
    pool: Name
    node: str | None
    ready: bool
    deleting: bool
    address: str | None
    created_at: Time
    template: str = Field(description="pod-template-hash of the revision that it runs.")
    waiting: str = Field(default="", description="Why it does not run: the scheduler's or the kubelet's words.")
    unschedulable: bool = False


class Revision(Model):
    """One earlier or present pod template of a workload."""

    template: str = Field(description="pod-template-hash.")
    number: int
    created_at: Time
    image: str


class WorkloadState(Model):
    """One pool's Deployment. Counts are replicas."""

    pool: Name
    desired: int
    ready: int
    updated: int = Field(description="Replicas of the present template.")
    available: int
    observed: bool = Field(description="The controller has seen the newest specification.")
    paused: bool
    template: str
    revisions: tuple[Revision, ...] = Field(description="Oldest first, the present one last.")
    gpus_per_replica: int = Field(ge=0)
    image: str
    stalled: str = Field(default="", description="The controller's words when progress has ended by its deadline.")
    autoscaler: str = Field(default="", description="Name of the HorizontalPodAutoscaler that scales it.")
    autoscaler_max: int | None = None
    frozen: bool = Field(default=False, description="The autoscaler may not scale, in either direction.")
    max_unavailable: int = Field(
        ge=0, description="Replicas that a rolling update may take down; all of them: Recreate."
    )
    disruptions_allowed: int | None = Field(default=None, description="By its disruption budget; None: it has none.")
    quota_gpus_left: int | None = Field(
        default=None, description="GPUs its namespace may still ask for; None: no quota."
    )


class ClusterState(Model):
    """The whole domain at one moment."""

    nodes: dict[str, NodeState] = Field(default_factory=dict)
    pods: dict[str, PodState] = Field(default_factory=dict, description="By name; those of the fleet's pools only.")
    workloads: dict[str, WorkloadState] = Field(default_factory=dict, description="By pool.")
    left_out: int = Field(
        default=0, ge=0, description="Nodes and pods that this copy of a large cluster does not tell."
    )

    def on(self, node: str) -> tuple[PodState, ...]:
        """Replicas on a node that are not on their way out, oldest first."""
        found = [p for p in self.pods.values() if p.node == node and not p.deleting]
        return tuple(sorted(found, key=lambda p: (p.created_at, p.name)))

    def of(self, pool: str) -> tuple[PodState, ...]:
        """Replicas of a pool that are not on their way out, oldest first."""
        found = [p for p in self.pods.values() if p.pool == pool and not p.deleting]
        return tuple(sorted(found, key=lambda p: (p.created_at, p.name)))

    def room_for(self, gpus: int, without: str = "") -> int:
        """How many replicas of `gpus` GPUs each fit, node by node: a replica never spans two nodes."""
        usable = [n for n in self.nodes.values() if n.ready and not n.cordoned and n.name != without]
        if gpus == 0:
            return len(usable) * 1000
        return sum(max(0, n.gpus - n.gpus_used) // gpus for n in usable)
