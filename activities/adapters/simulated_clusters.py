"""The Cluster port on the fluid model: one simulated cluster per domain, whose API answers only while it is not overloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from activities.adapters.simulated_cluster import SimulatedCluster
from activities.adapters.simulated_view import View
from activities.errors import Permanent, Refused, Retryable
from activities.ports import ClusterSnapshot
from runbooks.change import Change, Permit
from runbooks.facts import Settings
from runbooks.fleet import homes_of


class SimulatedClusters:
    """`present` brings the model to the present; `clock` judges permits."""

    def __init__(self, view: View, clock: Callable[[], datetime], present: Callable[[], None]) -> None:
        self._view, self._present = view, present
        self._world = view.world
        self._specs = {c.name: c for c in view.world.incident.fleet.clusters}
        for cluster in view.world.clusters.values():
            cluster.clock = clock

    async def read(self, domain: str) -> ClusterSnapshot:
        """Permanent: no such domain. Retryable: its API does not answer, or nothing is told of it."""
        cluster = self._answering(domain)
        blind = self._view.blinded("cluster", domain)
        if blind is None:
            return await cluster.read(domain)
        if not blind.spec.stale:
            raise Retryable(f"the control plane of {domain} tells nothing: no answer within 4 s")
        return self._view.kept_cluster(blind, domain)

    async def effective(self, keys: Sequence[str]) -> Settings:
        """By key; each cluster is asked for its own."""
        by: dict[str, list[str]] = {}
        for key in keys:
            for domain in homes_of(key, self._world.fleet) & self._specs.keys():
                by.setdefault(domain, []).append(key)
        found: Settings = {}
        for domain, some in by.items():
            found |= await self._answering(domain).effective(some)
        return found

    async def swap(self, change: Change, permit: Permit) -> ClusterSnapshot:
        """As `SimulatedCluster.swap`, while the API answers."""
        cluster = self._answering(permit.domain)
        before = cluster.writes
        try:
            return await cluster.swap(change, permit)
        finally:
            if cluster.writes > before:
                self._world.wrote(dict(change.after), permit.id, f"permit {permit.id}")
                self._world.settle()

    async def try_node(self, node: str, pool: str, name: str) -> str | None:
        """As the port's."""
        if self._world.fleet.node(node) is None:
            raise Refused(f"the simulated fleet has no node {node}")
        try:
            return await self._answering(self._world.home_of(node)).try_node(node, pool, name)
        finally:
            self._world.settle()

    async def end_try(self, pool: str, name: str) -> None:
        """As the port's."""
        if self._world.fleet.pool(pool) is None:
            raise Refused(f"the simulated fleet has no pool {pool}")
        try:
            await self._answering(self._world.cluster_of(pool)).end_try(pool, name)
        finally:
            self._world.settle()

    def _answering(self, domain: str) -> SimulatedCluster:
        self._present()
        spec = self._specs.get(domain)
        if spec is None:
            raise Permanent(f"the simulated fleet has no domain {domain!r}; it has {', '.join(self._specs)}")
        for needed in (domain, *spec.cluster_runs_on):
            if why := self._view.sick(needed):
                raise Retryable(f"the control plane of {domain}: no answer within 4 s ({why})")
        return self._world.clusters[domain]
