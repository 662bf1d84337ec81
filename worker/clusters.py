"""The control planes that the settings name, opened for a worker: the Cluster port, and routes where weights live there."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from activities.adapters.gateway import GatewayTraffic
from activities.adapters.gateway_members import RoutedCluster
from activities.adapters.kube import KubeCluster
from activities.adapters.kube_access import missing
from activities.adapters.kube_api import KubeApi
from activities.adapters.kube_config import KubeAccess, from_kubeconfig, in_cluster
from activities.errors import PortError
from activities.ports import Traffic
from runbooks.fleet import Fleet
from worker.settings import BadSettings, KubernetesSettings, api_server_of_pod

log = logging.getLogger("interlock.clusters")
WANTED = "INTERLOCK_KUBERNETES__KUBECONFIGS"


@dataclass(frozen=True)
class Clusters:
    """`cluster` is None when no control plane is set; `routes` when weights do not live in one."""

    cluster: KubeCluster | None = None
    routes: Traffic | None = None
    apis: Mapping[str, KubeApi] | None = None


async def say_what_is_missing(clusters: Clusters, fleet: Fleet) -> None:
    """Logs every right that the account lacks, with the manifest that gives it: found out now, not in an incident."""
    for name, api in (clusters.apis or {}).items():
        try:
            for manifest, rights in (await missing(api, fleet, name)).items():
                log.warning(
                    "cluster %s: this account may not %s: apply docs/rbac/%s", name, ", ".join(rights), manifest
                )
        except PortError as error:
            log.warning("cluster %s: whether its roles suffice could not be asked: %s", name, error)


@asynccontextmanager
async def clusters_of(settings: KubernetesSettings, fleet: Fleet) -> AsyncIterator[Clusters]:
    """Opened for as long as the block lasts. BadSettings: a pool has a workload and its cluster no kubeconfig, or one
    that cannot be read."""
    if not settings.kubeconfigs:
        yield Clusters()
        return
    unknown = set(settings.kubeconfigs) - set(fleet.domains())
    if unknown:
        raise BadSettings(f"{WANTED}: {', '.join(sorted(unknown))} is no cluster of the fleet; see fleet_file")
    lacking = {p.cluster for p in fleet.pools if p.workload is not None} - set(settings.kubeconfigs)
    if lacking:
        raise BadSettings(f"{WANTED}: {', '.join(sorted(lacking))} runs workloads of the fleet and has no kubeconfig")
    async with AsyncExitStack() as stack:
        apis = {
            name: await stack.enter_async_context(KubeApi(_access(name, settings), timeout_s=settings.timeout_s))
            for name in settings.kubeconfigs
        }
        cluster = KubeCluster(fleet, apis, fence=f"{settings.fence_namespace}/interlock-fence")
        routes: Traffic | None = None
        if settings.weights == "gateway":
            if len(apis) > 1:
                raise BadSettings(f"{WANTED}: weights is gateway, and HTTPRoutes of one cluster only are supported")
            only = next(iter(apis.values()))
            routes = RoutedCluster(GatewayTraffic(fleet, only, namespace=settings.route_namespace), cluster)
        yield Clusters(cluster, routes, apis)


def _access(name: str, settings: KubernetesSettings) -> KubeAccess:
    found = settings.kubeconfigs[name]
    try:
        if isinstance(found, str):
            return in_cluster(*api_server_of_pod())
        return from_kubeconfig(found)
    except PortError as error:
        raise BadSettings(f"{WANTED}: {name}: {error}") from error
