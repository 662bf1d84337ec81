"""The cluster's settings of a fleet: which object each key lives in, which values it takes, which role allows it."""

from __future__ import annotations

from dataclasses import dataclass

from activities.errors import Permanent, Refused
from runbooks.change import GONE
from runbooks.facts import Value
from runbooks.fleet import Fleet, Workload

SWITCHES = frozenset({"cordon", "paused", "autoscale"})
TEXTS = frozenset({"image", "env", "template"})
DEPLOYMENT = frozenset({"image", "env", "template", "paused"})
"""Families that live in one Deployment and are written in one patch."""
NODE_AGENT = frozenset({"boot", "gpu"})
ROLES = {
    "cordon": "rebalance_nodes.yaml",
    "pod": "evict.yaml",
    "replicas": "increase_capacity.yaml",
    "image": "rollout.yaml",
    "env": "rollout.yaml",
    "template": "rollout.yaml",
    "paused": "freeze_changes.yaml",
    "autoscale": "freeze_changes.yaml",
    "boot": "node_agent.yaml",
    "gpu": "node_agent.yaml",
}
"""The manifest in docs/rbac that allows to write a family."""


@dataclass(frozen=True)
class Key:
    """`owner` is a pool, or a node for cordon, boot and gpu; `name` is what is left: a pod, a variable, a GPU."""

    text: str
    family: str
    owner: str
    name: str

    @property
    def role(self) -> str:
        """Manifest in docs/rbac that allows to write it."""
        return ROLES[self.family]

    def problem(self, value: Value) -> str:
        """Why this can never be the setting's value, or nothing."""
        match self.family:
            case "cordon" | "paused" | "autoscale":
                good = value in ("on", "off")
                return "" if good else f'{self.text}: {value!r} is neither "on" nor "off"'
            case "replicas" | "gpu":
                good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
                return "" if good or (self.family == "gpu" and value == GONE) else f"{self.text}: {value!r} is no count"
            case "env":
                return "" if isinstance(value, str) else f"{self.text}: {value!r} is no text"
            case _:
                return "" if isinstance(value, str) and value else f"{self.text}: {value!r} is no text"


def parse(text: str) -> Key | None:
    """The key, or None when it is not one of the cluster's."""
    family, _, rest = text.partition("/")
    owner, _, name = rest.partition("/")
    if family not in ROLES or not owner or (family in {"pod", "env", "gpu"}) != bool(name):
        return None
    return Key(text, family, owner, name)


def domain_of(fleet: Fleet, key: Key) -> str | None:
    """The cluster that the setting is in, or None when the fleet has no such pool or node."""
    if key.family in {"cordon", *NODE_AGENT}:
        node = fleet.node(key.owner)
        return node.cluster if node is not None else None
    pool = fleet.pool(key.owner)
    return pool.cluster if pool is not None and pool.workload is not None else None


def workload_of(fleet: Fleet, pool: str) -> Workload:
    """The Deployment of a pool. Refused: the fleet names none."""
    found = fleet.pool(pool)
    if found is None or found.workload is None:
        raise Refused(f"the fleet names no Deployment for pool {pool!r}")
    return found.workload


def workloads(fleet: Fleet, domain: str) -> dict[str, Workload]:
    """By pool. Permanent: the fleet has no such domain."""
    if domain not in fleet.domains():
        raise Permanent(f"the fleet has no domain {domain!r}; it has {', '.join(fleet.domains())}")
    return {p.name: p.workload for p in fleet.pools if p.cluster == domain and p.workload is not None}
