"""The names that an indicator with source `cluster` may use: what the control plane says, and what its replicas really do.

Scope: a pool, a node, `NODE/GPU`, or a cluster.

| name | scope | unit | how |
|---|---|---|---|
| `replicas_serving` | pool, node | share | ready replicas that gave a token just now, of those desired; the worst pool of a node |
| `rolled_out` | pool | share | ready replicas of the newest revision that gave a token, of those desired; 0 until the controller has seen it |
| `unschedulable` | pool | replicas | replicas that no node has room for |
| `replicas_left` | node | replicas | replicas of the fleet that are still on it |
| `node_ready` | node | share | 1 when it is ready, else 0 |
| `gpu_ok` | node/gpu | share | 1 when its agent finds nothing wrong; no value when the agent has been silent for a minute |
| `paused_share` | cluster | share | workloads whose rollouts are paused, of all |
"""  # noqa: E501 (a table row is one line)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from activities.adapters.reading import NotMeasured, Reading
from activities.adapters.watch import Look
from activities.ports import Cluster, ClusterSnapshot
from runbooks.cluster import PodState
from runbooks.fleet import Fleet, Pool

AGENT_SILENT_S = 60.0
Looking = Callable[[Pool, str], Awaitable[Look | None]]


class ClusterIndicators:
    """`look` asks one address for a token (or gives the watcher's newest look)."""

    def __init__(self, fleet: Fleet, cluster: Cluster, look: Looking) -> None:
        self._fleet = fleet
        self._cluster = cluster
        self._look = look

    async def read(self, name: str, scope: str) -> Reading:
        """One indicator. NotMeasured with the reason; a PortError of the cluster passes through."""
        node = self._fleet.node(scope.partition("/")[0])
        pool = self._fleet.pool(scope)
        domain = node.cluster if node is not None else pool.cluster if pool is not None else scope
        if domain not in self._fleet.domains():
            raise NotMeasured(f"{name}: {scope!r} is neither a pool, a node nor a cluster of the inventory")
        pools = [pool] if pool is not None else [p for p in map(self._fleet.pool, node.pools if node else ()) if p]
        seen = await self._cluster.read(domain)
        match name:
            case "replicas_serving":
                return await self._serving(seen, pools)
            case "rolled_out":
                return await self._rolled_out(seen, pools)
            case "unschedulable":
                waiting = [p for one in pools for p in seen.state.of(one.name) if p.unschedulable]
                return Reading(float(len(waiting)), seen.observed_at, "; ".join(p.waiting for p in waiting[:1]))
            case "paused_share":
                works = seen.state.workloads.values()
                if not works:
                    raise NotMeasured(f"{scope} has no workload")
                return Reading(sum(w.paused for w in works) / len(works), seen.observed_at)
            case "replicas_left" | "node_ready" | "gpu_ok":
                return self._of_node(name, scope, seen)
            case _:
                raise NotMeasured(f"cluster has no indicator {name!r}")

    def _of_node(self, name: str, scope: str, seen: ClusterSnapshot) -> Reading:
        node_name, _, gpu = scope.partition("/")
        node = seen.state.nodes.get(node_name)
        if node is None:
            raise NotMeasured(f"{name}: the cluster has no node {node_name}")
        if name == "replicas_left":
            left = seen.state.on(node_name)
            return Reading(float(len(left)), seen.observed_at, ", ".join(p.name for p in left))
        if name == "node_ready":
            return Reading(1.0 if node.ready else 0.0, seen.observed_at, node.reason)
        if node.agent_seen_at is None or (seen.observed_at - node.agent_seen_at).total_seconds() > AGENT_SILENT_S:
            raise NotMeasured(f"the agent of {node_name} has not spoken for {AGENT_SILENT_S:.0f} s")
        if not gpu:
            raise NotMeasured(f"gpu_ok: {scope!r} names no GPU; give NODE/INDEX")
        if gpu not in node.counted_gpus and gpu not in node.sick_gpus:
            # The agent speaks and does not see it: a card that is missing after a reboot is not well.
            return Reading(0.0, node.agent_seen_at, f"the agent of {node_name} does not see GPU {gpu}")
        if gpu in node.unknown_gpus:
            raise NotMeasured(f"the agent of {node_name} cannot tell how GPU {gpu} is: {node.unknown_gpus[gpu]}")
        # The agent's moment, not ours: a reading from before the reset must not prove it.
        return Reading(0.0 if gpu in node.sick_gpus else 1.0, node.agent_seen_at, node.sick_gpus.get(gpu, ""))

    async def _serving(self, seen: ClusterSnapshot, pools: Sequence[Pool]) -> Reading:
        worst = Reading(None, seen.observed_at, "no pool")
        for pool in pools:
            work = seen.state.workloads.get(pool.name)
            if work is None or work.desired == 0:
                raise NotMeasured(f"{pool.name} has no workload with replicas in the cluster")
            found, at = await self._answering(seen, pool, seen.state.of(pool.name))
            share = found / work.desired
            if worst.value is None or share < worst.value:
                worst = Reading(share, at, f"{found} of {work.desired} replicas of {pool.name} give tokens")
        if worst.value is None:
            raise NotMeasured("no pool is named")
        return worst

    async def _rolled_out(self, seen: ClusterSnapshot, pools: Sequence[Pool]) -> Reading:
        shares: list[float] = []
        at = seen.observed_at
        for pool in pools:
            work = seen.state.workloads.get(pool.name)
            if work is None or work.desired == 0:
                raise NotMeasured(f"{pool.name} has no workload with replicas in the cluster")
            new = [p for p in seen.state.of(pool.name) if p.template == work.template]
            found, seen_at = await self._answering(seen, pool, new)
            old = len(seen.state.of(pool.name)) - len(new)
            at = min(at, seen_at)
            # A replica of the old revision that still serves means that the rollout is not over.
            shares.append(0.0 if not work.observed else min(1.0, found / work.desired) - (0.01 if old else 0.0))
        if not shares:
            raise NotMeasured("no pool is named")
        return Reading(max(0.0, min(shares)), at)

    async def _answering(self, seen: ClusterSnapshot, pool: Pool, pods: Sequence[PodState]) -> tuple[int, datetime]:
        """How many of the replicas gave a token, and the oldest moment that this rests on."""
        addresses = [p.address for p in pods if p.ready and p.address is not None]
        looks = await asyncio.gather(*(self._look(pool, a) for a in addresses))
        if any(found is None for found in looks):
            raise NotMeasured(f"a replica of {pool.name} could not be asked")
        times = [seen.observed_at, *(found.observed_at for found in looks if found is not None)]
        return sum(found.answering for found in looks if found is not None), min(times)
