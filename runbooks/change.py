"""A Change is a set of actuator settings before and after: all that a lever does, undoes and restores.

Keys of the proxy: `weight/ROUTE/POOL` (int), `endpoint/POOL/ADDRESS` ("in" or "out"), `connections/POOL` (seconds of life,
int; 0 none), `admit/ROUTE/TIER` (percent admitted, int).
Keys of the cluster: `cordon/NODE` ("on" or "off"), `pod/POOL/NAME` (uid), `replicas/POOL` (int), `image/POOL` (text),
`env/POOL/NAME` (text), `template/POOL` (pod-template-hash), `paused/POOL` and `autoscale/POOL` ("on" or "off").
Keys of a node: `boot/NODE` (boot id), `gpu/NODE/INDEX` (int: resets done).
Where nobody can say beforehand what will stand there (a pod that is gone, the next boot), `after` is GONE.
"""

from __future__ import annotations

from pydantic import Field

from runbooks.base import Heard, Model, Time, digest
from runbooks.facts import Settings, Value


def weight_key(route: str, pool: str) -> str:
    """Weight of a pool on a route."""
    return f"weight/{route}/{pool}"


def endpoint_key(pool: str, endpoint: str) -> str:
    """Whether an endpoint is in rotation."""
    return f"endpoint/{pool}/{endpoint}"


def connections_key(pool: str) -> str:
    """Longest life of the pool's upstream connections, s."""
    return f"connections/{pool}"


def admit_key(route: str, tier: str) -> str:
    """Percent of a tier's requests that the route admits."""
    return f"admit/{route}/{tier}"


def cordon_key(node: str) -> str:
    """Whether the scheduler may use the node: "on" when it may not."""
    return f"cordon/{node}"


def pod_key(pool: str, name: str) -> str:
    """The uid of a pod."""
    return f"pod/{pool}/{name}"


def replicas_key(pool: str) -> str:
    """Desired replicas of a pool's workload."""
    return f"replicas/{pool}"


def image_key(pool: str) -> str:
    """Image of the engine's container."""
    return f"image/{pool}"


def env_key(pool: str, name: str) -> str:
    """A plain environment variable of the engine's container."""
    return f"env/{pool}/{name}"


def template_key(pool: str) -> str:
    """The pod template of a pool's workload, by its hash."""
    return f"template/{pool}"


def paused_key(pool: str) -> str:
    """Whether the workload's rollouts are paused."""
    return f"paused/{pool}"


def autoscale_key(pool: str) -> str:
    """Whether the pool's autoscaler may scale."""
    return f"autoscale/{pool}"


def boot_key(node: str) -> str:
    """The boot id of a node."""
    return f"boot/{node}"


def gpu_key(node: str, gpu: str) -> str:
    """How often the node's agent has reset this GPU."""
    return f"gpu/{node}/{gpu}"


GONE = "gone"
"""As `after`: not what stood there before, whatever it is then."""
ONE_WAY = frozenset({"pod", "boot", "gpu"})
"""Families of keys that nothing puts back: an evicted pod comes back as another, a boot is never unmade."""


def one_way(key: str) -> bool:
    """True when no act can put this setting back to what it was."""
    return key.partition("/")[0] in ONE_WAY


class Blast(Model):
    """Predicted effect in serving units, counted alike for all levers."""

    endpoints_down: dict[str, int] = Field(default_factory=dict)
    restarting: dict[str, int] = Field(
        default_factory=dict,
        description="Serving replicas, by pool, that are down until their successors serve: never counted as standing.",
    )
    nodes: tuple[str, ...] = Field(default=(), description="Nodes taken out of scheduling.")
    gpus: int = Field(default=0, description="GPUs taken out, or taken more.")
    changed: dict[str, float] = Field(
        default_factory=dict, description="Share of a route's traffic that gets another version, by route."
    )
    share_moved: dict[str, float] = Field(default_factory=dict)
    refused_share: float = 0.0
    reserved_tps: dict[str, float] = Field(default_factory=dict)

    @property
    def largest_share(self) -> float:
        """The largest share of one route's traffic that is moved or refused."""
        return max([self.refused_share, *self.share_moved.values(), *self.changed.values()], default=0.0)

    @property
    def endpoints(self) -> int:
        """Endpoints taken out, all pools together, those included that come back as others."""
        return sum(self.endpoints_down.values()) + sum(self.restarting.values())


class Change(Model):
    """One increment: what would stand there instead of what stands there now."""

    before: Settings
    after: Settings
    blast: Blast = Blast()
    last: bool = Field(description="True when the step is complete after this increment.")
    note: str = ""

    @property
    def digest(self) -> str:
        """Binds a permit to exactly this change."""
        return digest({"before": self.before, "after": self.after})

    def reversed(self, note: str) -> Change:
        """The same settings, the other way: what undo and restore write."""
        return Change(before=self.after, after=self.before, last=True, note=note)

    def done(self, key: str, found: Value | None) -> bool:
        """True when `found` (None: nothing stands there) is what this change leaves under the key."""
        wanted = self.after[key]
        return found != self.before.get(key) if wanted == GONE and one_way(key) else found == wanted


class NothingToDo(Model):
    """The step is already in the state that it wants."""

    why: str


class CannotPlan(Model):
    """The step has no safe form now: the reason becomes a Deny."""

    why: str
    lasting: bool = Field(default=False, description="Waiting a minute will not help: on to the next step at once.")


class Permit(Heard):
    """Single-use leave of the Guard for one increment. `epoch` is the fencing token: each permit has a higher one."""

    id: str
    domain: str
    case: str
    step_id: str
    change_digest: str
    purpose: str
    epoch: int
    act_before: Time


class Receipt(Model):
    """What was changed, by which permit: enough to undo or restore without Temporal."""

    id: str
    permit_id: str
    case: str
    case_workflow_id: str
    step_id: str
    lever: str
    target_id: str
    domain: str
    epoch: int
    before: Settings
    after: Settings
    blast: Blast = Blast()
    domains: tuple[str, ...] = Field(
        default=(), description="All domains that it changes or loads; `domain` is the one whose permit wrote."
    )
    acted_at: Time
    recovered: bool = Field(default=False, description="True when an earlier attempt had acted and we only read back.")
