"""Routes of the Gateway API whose members are the ready replicas of the cluster: what is in rotation when no file says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from activities.adapters.gateway import GatewayTraffic
from activities.ports import Cluster, Snapshot
from runbooks.change import Change, Permit, endpoint_key
from runbooks.facts import Settings


class RoutedCluster:
    """Traffic: weights are the HTTPRoutes', and an endpoint is in rotation while its replica is ready.

    Only weights can be swapped: who is ready is the control plane's word, and an HTTPRoute cannot take one endpoint out.
    """

    def __init__(self, routes: GatewayTraffic, cluster: Cluster) -> None:
        self._routes = routes
        self._cluster = cluster

    async def read(self, domain: str) -> Snapshot:
        """Weights of the domain, and its endpoints; as old as the older of the two readings."""
        weights, placed = await asyncio.gather(self._routes.read(domain), self._cluster.read(domain))
        members: Settings = {
            endpoint_key(pod.pool, pod.address): "in" if pod.ready and not pod.deleting else "out"
            for pod in placed.state.pods.values()
            if pod.address is not None
        }
        return weights.model_copy(
            update={
                "settings": {**members, **weights.settings},
                "observed_at": min(weights.observed_at, placed.observed_at),
            }
        )

    async def effective(self, keys: Sequence[str]) -> Settings:
        """What the gateways have accepted."""
        return await self._routes.effective(keys)

    async def swap(self, change: Change, permit: Permit) -> Snapshot:
        """See `GatewayTraffic.swap`: everything but weights is refused."""
        return await self._routes.swap(change, permit)
