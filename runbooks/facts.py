"""Facts are Known or Unknown. A missing measurement can never look like a good one."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import Field

from runbooks.base import Heard, Model, Share, Time
from runbooks.cluster import ClusterState

T = TypeVar("T")


class Known(Model, Generic[T]):
    """A value, and when it was true."""

    state: Literal["known"] = "known"
    value: T
    observed_at: Time


class Unknown(Model):
    """Why it is not known. Denies wherever a gate needs it."""

    state: Literal["unknown"] = "unknown"
    why: str


Value = int | float | bool | str
Settings = dict[str, Value]
"""Actuator settings by key, e.g. {"weight/chat/pool-a": 50, "endpoint/pool-a/127.0.0.1:9": "in"}. See runbooks/change.py."""


class PoolState(Model):
    """One model pool as the proxy and the real-generation probe see it. Counts are endpoints, rates tokens/s."""

    pool: str
    endpoints: int = Field(ge=0)
    in_rotation: int = Field(ge=0)
    answering: int | None = Field(description="In rotation AND gave a token just now; None: could not be probed.")
    capacity_tps: float = Field(ge=0, description="Tokens/s that the answering endpoints can serve.")
    load_tps: float | None = Field(description="Tokens/s asked of it now; None: not measured.")
    queue: float | None = None
    kv_used: Share | None = None
    failing: Share | None = Field(
        default=None,
        description="Share of its requests that fail, by the proxy; None: it was asked for none, or not measured.",
    )
    residency: str = ""
    tenants: tuple[str, ...] = ()


class FaultNow(Model):
    """Is the fault still there at this moment, by measuring again rather than by the alert's word?"""

    holds: bool
    detail: str
    absent: bool = Field(default=False, description="Nobody is there any more, by the cluster's own word.")


class StandingReceipt(Heard):
    """A change that is in force: counts towards blast radius and minimum healthy until it is undone or restored."""

    receipt_id: str
    case: str
    lever: str
    target_id: str
    endpoints_down: dict[str, int] = Field(default_factory=dict, description="Endpoints taken out, by pool.")
    share_moved: dict[str, float] = Field(
        default_factory=dict, description="Share of a route's traffic moved, by route."
    )
    reserved_tps: dict[str, float] = Field(
        default_factory=dict, description="Load promised to receiving pools, tokens/s."
    )
    nodes: tuple[str, ...] = Field(default=(), description="Nodes taken out of scheduling.")
    gpus: int = 0
    since: Time
    under_way: bool = Field(default=False, description="More increments of its step follow, in places that they need.")
    settings: tuple[str, ...] = Field(
        default=(), description="What it has set and would put back: of two changes to one setting neither could be."
    )


class Spent(Heard):
    """What acts have taken in the last hour, in serving units, over all levers."""

    endpoints: dict[str, int] = Field(default_factory=dict, description="Taken out or replaced, by pool.")
    nodes: int = 0
    gpus: int = 0
    share: float = Field(default=0.0, description="Whole routes' worth of traffic moved or refused.")


class GuardView(Heard):
    """What the Guard of the domain says: read with the facts, and checked again by `acquire`."""

    domain: str
    halted: str | None = None
    halted_since: Time | None = None
    resumed_at: Time | None = Field(
        default=None, description="End of the last halt or breaker: plans before it are void."
    )
    breaker: str | None = Field(default=None, description="Why it tripped; only a person resets it.")
    dirty: str | None = None
    holder: str | None = None
    held_since: Time | None = None
    queue: int = 0
    correlated: str | None = Field(default=None, description="Why the faults of this domain are one, while they are.")
    asked: tuple[str, ...] = Field(default=(), description="Ids of the sick targets that asked within the window.")
    last_change_at: Time | None = None
    standing: tuple[StandingReceipt, ...] = ()
    acts_last_hour: int = 0
    spent: Spent = Spent()
    attempts: dict[str, tuple[Time, ...]] = Field(
        default_factory=dict, description="First increments by `lever|target|class`, of the last day."
    )
    ineffective: dict[str, Time] = Field(
        default_factory=dict,
        description="`lever|target|class` that did not help, and until when it is not tried again.",
    )
    shadow: dict[str, int] = Field(
        default_factory=dict, description="What observe mode would have done in the last hour, by lever."
    )


class Rejoin(Model):
    """One check of a cordoned node under load: real generations by a replica that was put there for it."""

    node: str
    ok: bool
    generations: int = Field(ge=0, description="Tokens came this often.")
    failed: int = Field(ge=0)
    why: str
    observed_at: Time


class ControlNow(Model):
    """How the control plane that a lever works through answers at this moment."""

    kind: Literal["traffic", "cluster", "node"]
    answered_in_s: float = Field(ge=0)


class Approval(Model):
    """People's leave, as attested: bound to one envelope digest, with an end."""

    digest: str
    approvers: tuple[str, ...]
    verified: bool
    expires_at: Time


class Facts(Model):
    """Everything that the gates may look at. `now` is the judge's clock."""

    now: Time
    evidence_at: Known[Time] | Unknown = Field(description="Time of the newest evidence that the fault exists.")
    fault: Known[FaultNow] | Unknown
    before: Known[Settings] | Unknown = Field(
        description="Before-state of exactly the settings that the step would change."
    )
    pools: Known[dict[str, PoolState]] | Unknown
    guard: Known[GuardView] | Unknown
    verifier: Known[dict[str, float | None]] | Unknown = Field(
        description="First reading of each indicator that verify will use; None for a generation, asked while verifying."
    )
    skew_s: Known[float] | Unknown = Field(
        description="Detector clock minus ours, seconds; positive: the detector is ahead."
    )
    cluster: Known[ClusterState] | Unknown | None = Field(
        default=None, description="Nodes, pods and workloads; None: the step does not touch a cluster."
    )
    dependencies: Known[dict[str, float]] | Unknown | None = Field(
        default=None,
        description="Headroom of what the growing pool leans on, by name; None: it leans on nothing named.",
    )
    control: Known[ControlNow] | Unknown = Field(
        description="The control plane that the lever works through, asked just now."
    )
    error_budget: Known[float] | Unknown | None = Field(
        default=None, description="Share of the route's error budget that is left; None: no budget is declared for it."
    )
    rejoin: Rejoin | None = Field(default=None, description="How a node did under load before it may take pods again.")
    approval: Approval | None = None

    @property
    def oldest(self) -> Time:
        """The oldest moment that this picture rests on: `now` when nothing else is known."""
        seen = [
            f.observed_at
            for f in (
                self.fault,
                self.before,
                self.pools,
                self.guard,
                self.verifier,
                self.cluster,
                self.dependencies,
                self.control,
            )
            if isinstance(f, Known)
        ]
        return min([self.now, *seen])
