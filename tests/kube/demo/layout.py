"""What the demo's cluster looks like, and what callers ask of it."""

from __future__ import annotations

from collections import Counter

from tests.kube.cluster import PoolSpec
from tests.kube.pod_run import Probing
from tests.kube.stories.cluster import StoryCluster
from worker.demo.engines import TOKENS
from worker.demo.plant import DemoFailed

NAMESPACE = "inference"
"""As in docs/rbac, so that the manifests are applied exactly as they are shipped."""
NODES = {"gpu-1": 3, "gpu-2": 3, "gpu-3": 3}
ENGINE_TPS = 20.0
ARGS = ("--tokens-per-second", f"{ENGINE_TPS:g}", "--slots", "4")
POOLS = (
    PoolSpec("chat-a", replicas=3, budget=2, args=ARGS),
    PoolSpec("chat-b", replicas=3, budget=2, args=ARGS),
)
PROBING = Probing(every_s=1.0, timeout_s=5.0, failures=3)
"""A busy replica is slow to give its token to the kubelet: it is no dead one."""
LOAD_SHARE = 0.75
"""Of what all replicas give. Two of three cannot carry it: callers feel the node that is gone."""
ROLES = ("rebalance_nodes", "evict")


def rate() -> float:
    """Requests per second of the load."""
    return round(LOAD_SHARE * sum(p.replicas for p in POOLS) * ENGINE_TPS / TOKENS, 1)


def node_to_fail(cluster: StoryCluster) -> str:
    """A node with one replica of each pool: then the fault itself leaves every pool its minimum. DemoFailed."""
    for node in cluster.nodes:
        here = Counter(pool.name for pool in POOLS for at in cluster.placement(pool.name).values() if at == node)
        if here == Counter(p.name for p in POOLS):
            return node
    raise DemoFailed(f"no node has exactly one replica of each pool: run it again\n{cluster.world.told()}")
