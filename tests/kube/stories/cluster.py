"""The cluster of a story: pools that a fleet's workloads name, and pods that wait for the drain as in production."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from activities.adapters.kube_try import POOL
from runbooks.fleet import Endpoint, Fleet, Node, Pool, Route, Workload, outside
from tests.kube.cluster import Cluster

ROLES = Path(__file__).parents[3] / "docs" / "rbac"
TOLERATION_S = 300
"""Kubernetes' own default: for five minutes a node that is not ready keeps its pods, unless somebody drains it."""


class StoryCluster(Cluster):
    """Pods tolerate a sick node for Kubernetes' own five minutes; the fleet says how fast a replica is."""

    tokens_per_second: float = 200
    tiers: tuple[str, ...] = ("batch", "paid")

    def deployment(self, pool: Any) -> dict[str, Any]:
        found = super().deployment(pool)
        spec = found["spec"]["template"]["spec"]
        spec["tolerations"] = [
            {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute",
             "tolerationSeconds": TOLERATION_S}
            for what in ("not-ready", "unreachable")
        ]  # fmt: skip
        return found

    def inventory(self) -> Fleet:
        """Pools with their workloads, nodes that run all of them."""
        names = tuple(p.name for p in self.pools)
        pools = tuple(
            Pool(
                name=p.name,
                cluster=self.name,
                dialect="vllm",
                model="smollm2",
                tokens_per_second=self.tokens_per_second,
                endpoints=tuple(Endpoint(address=a) for a in self.addresses.slots(p.name, p.slots)),
                workload=Workload(namespace=self.namespace, deployment=p.name, replicas=p.replicas),
            )
            for p in self.pools
        )
        nodes = tuple(Node(name=n, cluster=self.name, pools=names, gpus=g) for n, g in self.nodes.items())
        return Fleet(
            routes=(Route(name="chat", pools=names, tiers=self.tiers),),
            pools=pools,
            nodes=nodes,
            controls=outside(self.name),
        )

    def grant(self, *roles: str) -> None:
        """The manifests of docs/rbac as shipped, but for the namespace of the pools. The fence comes first."""
        for name in ("fence", "read", *roles):
            text = (ROLES / f"{name}.yaml").read_text(encoding="utf-8")
            self.control_plane.apply(text.replace("namespace: inference", f"namespace: {self.namespace}"))

    def images(self, pool: str) -> set[str]:
        """Of the pods of a pool that are not being deleted."""
        pods = [p for p in self.world.of_pool(pool) if "deletionTimestamp" not in p["metadata"]]
        return {p["spec"]["containers"][0]["image"] for p in pods}

    def checks(self) -> list[str]:
        """Names of check replicas that are there now."""
        return [p["metadata"]["name"] for p in tuple(self.world.pods.values()) if POOL in p["metadata"]["labels"]]
