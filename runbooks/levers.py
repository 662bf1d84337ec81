"""Every lever as a typed, rendered Step: a closed union. A new lever starts here, and mypy then names what is missing."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, assert_never

from pydantic import Field

from runbooks.base import Model, Name, Seconds, Share, Time


class Kind(StrEnum):
    """What back to normal means for a lever."""

    RESTORABLE = "restorable"
    PERMANENT = "permanent"
    IRREVERSIBLE = "irreversible"
    HARMLESS = "harmless"


class RerouteTraffic(Model):
    """Moves weight of a route away from one pool, in increments, to pools that have room for it."""

    lever: Literal["reroute_traffic"] = "reroute_traffic"
    route: Name
    away_from: Name
    keep: Share = Field(default=0.0, description="Share of the route's weight that stays on the pool in the end.")
    increment: Share = Field(default=0.25, gt=0, description="Largest share of the route moved before the next verify.")


class IsolateEndpoint(Model):
    """Takes one replica's endpoint out of rotation and closes its connections."""

    lever: Literal["isolate_endpoint"] = "isolate_endpoint"
    pool: Name
    endpoint: Name


class RecycleConnections(Model):
    """Drops upstream connections of a pool and tightens keep-alive (our reading of *connection liveness*)."""

    lever: Literal["recycle_connections"] = "recycle_connections"
    pool: Name
    max_connection_s: Seconds = Field(default=10.0, ge=1, description="Longest life of an upstream connection, s.")


class ShedLoad(Model):
    """Lowers the limit of one tier so that it cannot starve others (our reading of *per-endpoint isolation*)."""

    lever: Literal["shed_load"] = "shed_load"
    route: Name
    tier: Name
    admit: Share = Field(default=0.0, description="Share of the tier's requests still admitted in the end.")
    increment: Share = Field(default=0.5, gt=0, description="Largest share refused more before the next verify.")
    makes_room_for: Name | None = Field(
        default=None,
        description="Pool of the route whose load must fit in the others: no more is refused than that takes. None: no such end.",
    )


class RebalanceNodes(Model):
    """Cordons a node and evicts its replicas one by one, each proven to serve elsewhere before the next."""

    lever: Literal["rebalance_nodes"] = "rebalance_nodes"
    node: Name


class RestartEngine(Model):
    """Replaces replicas one at a time by eviction; each successor must produce a token before the next goes."""

    lever: Literal["restart_engine"] = "restart_engine"
    pool: Name
    endpoint: Name | None = Field(default=None, description="Only the replica at this address; empty: all of the pool.")
    older_than: Time = Field(description="Replicas that began later are restarted already.")


class IncreaseCapacity(Model):
    """Raises a pool's replicas where quota, free GPUs and dependencies have room, and waits until they serve."""

    lever: Literal["increase_capacity"] = "increase_capacity"
    pool: Name
    by: int = Field(default=1, ge=1, le=100, description="Replicas more, in all.")
    at_once: int = Field(default=1, ge=1, le=20, description="Replicas per increment.")


class RolloutHotfix(Model):
    """Brings an image or settings to pools in rings. The first ring, the canary, includes the largest pool."""

    lever: Literal["rollout_hotfix"] = "rollout_hotfix"
    rings: tuple[tuple[Name, ...], ...] = Field(min_length=1, description="Pools, ring after ring.")
    image: str = Field(default="", description="Image of the engine's container. Empty: stays.")
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment variables that the template has already."
    )


class RollbackChange(Model):
    """Back to the revision before the change that is marked within the window before the fault."""

    lever: Literal["rollback_change"] = "rollback_change"
    pool: Name
    fault_began: Time
    window_s: Seconds = Field(default=3600.0, gt=0, description="A change longer before the fault is not its cause, s.")


class FreezeChanges(Model):
    """Pauses rollouts and autoscalers of a cluster; never the case's own rollback."""

    lever: Literal["freeze_changes"] = "freeze_changes"
    cluster: Name


class ResetGpu(Model):
    """Resets one GPU by the node's own agent: only on a drained node, with no process on it."""

    lever: Literal["reset_gpu"] = "reset_gpu"
    node: Name
    gpu: Name


class RebootNode(Model):
    """Reboots a drained node, once, by its own agent or its BMC; read back by a changed boot id."""

    lever: Literal["reboot_node"] = "reboot_node"
    node: Name


class Page(Model):
    """Tells people, deduplicated. Needs no permit and no approval."""

    lever: Literal["page"] = "page"
    summary: str = Field(min_length=1, max_length=500)


ProxyStep = RerouteTraffic | IsolateEndpoint | RecycleConnections | ShedLoad
ClusterStep = RebalanceNodes | RestartEngine | IncreaseCapacity | RolloutHotfix | RollbackChange | FreezeChanges
NodeStep = ResetGpu | RebootNode
ActingStep = Annotated[ProxyStep | ClusterStep | NodeStep, Field(discriminator="lever")]
Step = Annotated[ProxyStep | ClusterStep | NodeStep | Page, Field(discriminator="lever")]
LEVERS: tuple[str, ...] = (
    "reroute_traffic",
    "isolate_endpoint",
    "recycle_connections",
    "shed_load",
    "rebalance_nodes",
    "restart_engine",
    "increase_capacity",
    "rollout_hotfix",
    "rollback_change",
    "freeze_changes",
    "reset_gpu",
    "reboot_node",
    "page",
)


def kind(step: Step) -> Kind:
    """Whether the step can be restored, must stand, or cannot be taken back."""
    match step:
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad():
            return Kind.RESTORABLE
        case RebalanceNodes() | IncreaseCapacity() | FreezeChanges():
            return Kind.RESTORABLE
        case RolloutHotfix() | RollbackChange():
            return Kind.PERMANENT
        case RestartEngine() | ResetGpu() | RebootNode():
            return Kind.IRREVERSIBLE
        case Page():
            return Kind.HARMLESS
    assert_never(step)


def takes_back_whole(step: Step) -> bool:
    """True when an increment that did harm condemns the whole step: all of it is undone, not only the last part.

    Half a drain keeps a node from serving for nothing; a version that is bad in one ring is bad in the others; and whoever
    is refused without a proof that it helps the others is refused for nothing.
    """
    match step:
        case ShedLoad() | RebalanceNodes() | RolloutHotfix() | RollbackChange() | FreezeChanges():
            return True
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | IncreaseCapacity():
            return False
        case RestartEngine() | ResetGpu() | RebootNode() | Page():
            return False
    assert_never(step)


def is_change(step: Step) -> bool:
    """True for a lever that brings something new. Taking load from a sick part, giving room to it, replacing what is
    broken by the same, and going back to what stood before are mitigations, which no freeze and no spent error budget stops (G15)."""
    match step:
        case RolloutHotfix():
            return True
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad() | RebalanceNodes():
            return False
        case RestartEngine() | ResetGpu() | RebootNode() | IncreaseCapacity() | RollbackChange() | FreezeChanges():
            return False
        case Page():
            return False
    assert_never(step)


def rejoins(step: Step) -> str:
    """The node that must prove itself under load before the step is restored; empty when there is none."""
    return step.node if isinstance(step, RebalanceNodes) else ""


def direction(step: Step) -> str:
    """What the approval covers, in one phrase: a change the other way is outside of the envelope."""
    match step:
        case RerouteTraffic():
            return f"moves traffic of route {step.route} away from {step.away_from}"
        case IsolateEndpoint():
            return f"takes {step.endpoint} out of rotation in {step.pool}"
        case RecycleConnections():
            return f"closes the connections of {step.pool} and bounds their life"
        case ShedLoad():
            return f"refuses requests of tier {step.tier} on route {step.route}"
        case RebalanceNodes():
            return f"cordons node {step.node} and moves its replicas elsewhere, one by one"
        case RestartEngine():
            return f"replaces {step.endpoint or 'the replicas'} of {step.pool}, one at a time"
        case IncreaseCapacity():
            return f"adds up to {step.by} replica(s) to {step.pool}"
        case RolloutHotfix():
            what = [*([f"image {step.image}"] if step.image else []), *(f"{k}={v}" for k, v in step.env.items())]
            return f"brings {', '.join(what)} to {' then '.join(' and '.join(ring) for ring in step.rings)}"
        case RollbackChange():
            return f"takes {step.pool} back to the revision before its last change"
        case FreezeChanges():
            return f"pauses rollouts and autoscalers of {step.cluster}"
        case ResetGpu():
            return f"resets GPU {step.gpu} of {step.node}"
        case RebootNode():
            return f"reboots {step.node}"
        case Page():
            return "tells people"
    assert_never(step)
