"""A Change is a set of actuator settings before and after: all that a lever does, undoes and restores.

Keys: `weight/ROUTE/POOL` (int), `endpoint/POOL/ADDRESS` ("in" or "out"), `connections/POOL` (seconds of life, int; 0 none),
`admit/ROUTE/TIER` (percent admitted, int).
"""

from __future__ import annotations

from pydantic import Field

from runbooks.base import Model, Time, digest
from runbooks.facts import Settings


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


class Blast(Model):
    """Predicted effect in serving units, counted alike for all levers."""

    endpoints_down: dict[str, int] = Field(default_factory=dict)
    share_moved: dict[str, float] = Field(default_factory=dict)
    refused_share: float = 0.0
    reserved_tps: dict[str, float] = Field(default_factory=dict)

    @property
    def largest_share(self) -> float:
        """The largest share of one route's traffic that is moved or refused."""
        return max([self.refused_share, *self.share_moved.values()], default=0.0)

    @property
    def endpoints(self) -> int:
        """Endpoints taken out, all pools together."""
        return sum(self.endpoints_down.values())


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


class NothingToDo(Model):
    """The step is already in the state that it wants."""

    why: str


class CannotPlan(Model):
    """The step has no safe form now: the reason becomes a Deny."""

    why: str


class Permit(Model):
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
    acted_at: Time
    recovered: bool = Field(default=False, description="True when an earlier attempt had acted and we only read back.")
