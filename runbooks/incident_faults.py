"""What can go wrong in an incident file, each kind with its own fields. What each does is in docs/simulated-fleet.md.

A fault lasts until `ends`, or until a lever truly removes its cause: a replica that hangs is gone once it is replaced, a bad
change once it is taken back, dead connections once they are closed. Nothing else ends it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from runbooks.base import Model, Name, Share
from runbooks.incident_time import At, Span


class _Fault(Model):
    at: At = Field(description="When it begins.")
    ends: At | None = Field(
        default=None, description="When it goes away by itself. None: when the play ends, people mend it."
    )


class _OfReplicas(_Fault):
    """Of the pool's first replicas that serve when it begins."""

    pool: Name
    replicas: int | None = Field(default=None, ge=1, description="How many. None: all of the pool.")
    returns: bool = Field(
        default=False, description="True: the cause is not in the replica, a new one in its place has it as well."
    )


class Hang(_OfReplicas):
    """The engine accepts requests and makes no tokens; /health and /v1/models still answer 200."""

    fault: Literal["hang"]


class Crash(_OfReplicas):
    """The engine's process ends. The supervisor starts it again, which takes a cold start; `every`: and it ends again."""

    fault: Literal["crash"]
    every: Span | None = Field(default=None, description="It crashes again so long after it served. None: once.")


class Slow(_OfReplicas):
    """It serves fewer tokens/s: `factor` of what it should."""

    fault: Literal["slow"]
    factor: float = Field(gt=0, lt=1, description="0.5: half of its tokens/s.")


class Errors(_OfReplicas):
    """It answers with a server error (HTTP 500) at once."""

    fault: Literal["errors"]
    share: Share = Field(gt=0, description="Of its requests.")


class BadOutput(_OfReplicas):
    """Status 200 with wrong or empty text. No error rate shows it; canary prompts do, where a site has them."""

    fault: Literal["bad_output"]
    share: Share = Field(default=1.0, gt=0, description="Of its answers.")


class DeadConnections(_Fault):
    """Half-open connections to a pool: requests on them time out. Closing the pool's connections cures it."""

    fault: Literal["dead_connections"]
    pool: Name
    share: Share = Field(gt=0, description="Of the pool's requests.")


class Demand(_Fault):
    """Users ask for more (or less) of a route."""

    fault: Literal["demand"]
    route: Name
    factor: float = Field(gt=0, le=100, description="Times the normal requests/s.")
    ramp: Span = Field(default=0.0, description="Time until it is fully there.")


class LongRequests(_Fault):
    """Requests of a route need more tokens of KV cache and of generation each."""

    fault: Literal["long_requests"]
    route: Name
    factor: float = Field(gt=1, le=100, description="Times the normal tokens.")


class ClientErrors(_Fault):
    """A share of a pool's requests is refused as malformed (HTTP 400 or 422): clients and engine do not fit together."""

    fault: Literal["client_errors"]
    pool: Name
    share: Share = Field(gt=0, description="Of its requests.")
    status: Literal[400, 415, 422, 429] = Field(default=400, description="The HTTP status that clients get.")


class Imbalance(_Fault):
    """A share of a route's traffic sticks to one pool whatever the weights say, or to one replica of it."""

    fault: Literal["imbalance"]
    pool: Name
    share: Share = Field(gt=0, description="Of the route's traffic; with `replica`, of the pool's.")
    replica: bool = Field(default=False, description="True: it sticks to one replica of the pool.")


class NodeDown(_Fault):
    """Nodes are not ready: their replicas are gone until they are placed elsewhere."""

    fault: Literal["node_down"]
    cluster: Name
    nodes: int = Field(default=1, ge=1, description="How many, the first of the cluster that are well.")
    reboot_cures: bool = Field(default=True, description="True: a reboot brings a node back well.")


class Gpu(_Fault):
    """One GPU of a node reports an XID. The replica on it fails for codes that end its process."""

    fault: Literal["gpu"]
    node: Name
    gpu: int = Field(default=0, ge=0, le=15, description="Its index.")
    xid: int = Field(ge=1, le=200, description="NVIDIA's number of the error.")
    reset_cures: bool = Field(default=True, description="True: a reset of the GPU brings it back well.")


class Network(_Fault):
    """Many nodes of a cluster lose their network together. Their replicas go on and nobody reaches them."""

    fault: Literal["network"]
    cluster: Name
    share: Share = Field(gt=0, description="Of the cluster's nodes.")


class ClusterGone(_Fault):
    """A whole cluster or zone is gone, and no GPU can be had in it."""

    fault: Literal["cluster_gone"]
    cluster: Name


class ApiLoad(_Fault):
    """Load on a cluster's Kubernetes API beside its own; with `capacity_factor`, less of it. It may carry its DNS as well."""

    fault: Literal["api_load"]
    cluster: Name
    load: float = Field(default=0.0, ge=0, description="In the unit of the cluster's api.")
    capacity_factor: float = Field(default=1.0, ge=0, le=1, description="Of its capacity that is left.")
    serving_needs_it: Share = Field(
        default=0.0,
        description="Share of the cluster's requests that fail while its API does not answer (DNS, discovery).",
    )


class DependencyDown(_Fault):
    """A dependency has less capacity, or more load from elsewhere."""

    fault: Literal["dependency"]
    name: Name
    load: float = Field(default=0.0, ge=0, description="More load from elsewhere, in its own unit.")
    capacity_factor: float = Field(default=1.0, ge=0, le=1, description="Of its capacity that is left.")


class Upstream(_Fault):
    """CDN, DNS, authentication or a cloud before the fleet: requests never reach it, and its GPUs idle."""

    fault: Literal["upstream"]
    route: Name
    share: Share = Field(gt=0, description="Of the route's requests that fail before they arrive.")
    stalls: bool = Field(default=False, description="True: they stall until clients give up (499), with no 5xx.")


class Change(_Fault):
    """A new version or flag rolls over pools, `per_minute` replicas each. Bad when one of the fields below says so.

    A rollback (or a rollout of `fixed_by`) takes its effect away, replica by replica. A good one, which changes nothing, is
    for incidents in which somebody blames it.
    """

    fault: Literal["change"]
    pools: tuple[Name, ...] = Field(min_length=1, description="That it rolls over.")
    version: Name = Field(description="What it brings.")
    per_minute: float = Field(default=4.0, gt=0, description="Replicas replaced per minute and pool.")
    errors: Share = Field(default=0.0, description="Share of requests that it answers with HTTP 500.")
    client_errors: Share = Field(default=0.0, description="Share of requests that it refuses as malformed (HTTP 400).")
    slow_factor: float = Field(default=1.0, gt=0, le=1, description="Of the tokens/s that the old version serves.")
    bad_output: Share = Field(default=0.0, description="Share of its answers that are wrong, with status 200.")
    hangs: Share = Field(default=0.0, description="Share of its replicas that stop making tokens.")
    never_ready: bool = Field(default=False, description="Its replicas do not come up.")
    kv_factor: float = Field(default=1.0, ge=1, description="KV cache that a request takes, times this.")
    only_on: tuple[Name, ...] = Field(default=(), description="Clusters whose hardware shows the effect. Empty: all.")
    fixed_by: Name | None = Field(default=None, description="A version that does not have the effect (hotfix).")

    @property
    def good(self) -> bool:
        """True when it changes nothing for users."""
        return self.slow_factor == self.kv_factor == 1 and not (
            self.errors or self.client_errors or self.bad_output or self.hangs or self.never_ready
        )


class Blind(_Fault):
    """What Interlock measures of a part is missing, or stands still at its last value (`stale`)."""

    fault: Literal["blind"]
    what: Literal["metrics", "probes", "cluster", "all"] = Field(
        description="Rates and queues, real generations, what the Kubernetes API says, or all of it."
    )
    of: Name = Field(description="A cluster, a pool or a route.")
    stale: bool = Field(default=False, description="True: the last value stays. False: there is none.")


class ByHand(_Fault):
    """Somebody or some other automation sets actuator settings: `weight/ROUTE/POOL: 0`, `endpoint/POOL/ADDRESS: out`,
    `admit/ROUTE/TIER: 50`, `connections/POOL: 10`, `cordon/NODE: "on"`, `replicas/POOL: 4`, `paused/POOL: "on"`,
    `autoscale/POOL: "off"`.

    It happens in every run of the incident, whatever Interlock does.
    """

    fault: Literal["by_hand"]
    by: str = Field(min_length=1, max_length=200, description="Who or what.")
    sets: dict[str, int | str] = Field(min_length=1, description="Setting → value.")

    @model_validator(mode="after")
    def _once(self) -> ByHand:
        if self.ends is not None:
            raise ValueError("ends: a setting stays as it is; write another by_hand that sets it back")
        return self


Fault = Annotated[
    Hang
    | Crash
    | Slow
    | Errors
    | BadOutput
    | DeadConnections
    | Demand
    | LongRequests
    | ClientErrors
    | Imbalance
    | NodeDown
    | Gpu
    | Network
    | ClusterGone
    | ApiLoad
    | DependencyDown
    | Upstream
    | Change
    | Blind
    | ByHand,
    Field(discriminator="fault"),
]
