"""`look`: what an SRE would open first about a target, read through Interlock's own ports. Reads only, three seconds at most."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from temporalio import activity

from activities.facts import Clock, known, utc_now
from activities.looking_cluster import of_cluster
from activities.looking_pool import MOST_S, PoolReader, PoolSeen, Readings
from activities.ports import Cluster, ClusterSnapshot, Metrics, Prober, Traffic
from runbooks.cluster import ClusterState
from runbooks.detection import Target, TargetKind
from runbooks.facts import Known, Unknown
from runbooks.fleet import Fleet, Pool
from runbooks.library import Library
from runbooks.taxonomy_evidence import Measured
from runbooks.taxonomy_looked import Looked, LookRequest

State = Known[ClusterSnapshot] | Unknown | None
"""None: this worker has no control plane to ask."""
GLANCE_S = 0.5
"""What is proven waits no longer for the control plane."""
NOBODY = PoolSeen({}, None)


class LookingActivities:
    """`prober` answers from a watcher's newest look where there is one, and calls a busy engine busy."""

    def __init__(
        self,
        traffic: Traffic,
        metrics: Metrics,
        prober: Prober,
        fleet: Fleet,
        library: Library,
        cluster: Cluster | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._pools = PoolReader(traffic, metrics, prober, fleet, library, clock)
        self._traffic, self._metrics, self._cluster = traffic, metrics, cluster
        self._fleet, self._clock = fleet, clock

    @activity.defn(name="look")
    async def look(self, req: LookRequest) -> Looked:
        """Everything at once. What could not be read is Unknown with its reason; what says nothing of the target is absent."""
        began, target = self._clock(), req.target
        pool = self._fleet.pool(target.service or "")
        if not req.whole:
            return self._looked(target, began, self._placed(target, await self._state(target, GLANCE_S)))
        state, seen, answering = await asyncio.gather(
            self._state(target, MOST_S), self._pool(target, pool), self._answering(target)
        )
        readings: Readings = {**seen.readings, **self._placed(target, state, seen.silent), **_reached(state, answering)}
        if (refusing := self._refusing(target, pool, seen, state)) is not None:
            readings["endpoints_refusing"] = refusing
        return self._looked(target, began, readings)

    def _looked(self, target: Target, began: datetime, readings: Readings) -> Looked:
        took = max(0.0, (self._clock() - began).total_seconds())
        return Looked(target=target, began=began, took_s=took, readings=readings)

    async def _state(self, target: Target, within_s: float) -> State:
        if self._cluster is None:
            return None
        return await known(self._cluster.read(target.domain), within_s, self._clock)

    async def _pool(self, target: Target, pool: Pool | None) -> PoolSeen:
        return NOBODY if pool is None else await self._pools.read(target, pool)

    async def _answering(self, target: Target) -> Known[int] | Unknown:
        """How many engines of the whole domain give tokens: it tells a cluster that is gone from an API that is."""
        if self._cluster is None:
            return Unknown(why="no cluster is set")
        return await known(self._count(target.domain), MOST_S, self._clock)

    async def _count(self, domain: str) -> int:
        states = await self._metrics.pools(domain, await self._traffic.read(domain))
        return sum(state.answering or 0 for state in states.values())

    def _placed(self, target: Target, state: State, silent: Sequence[str] = ()) -> Readings:
        """What the control plane says."""
        if isinstance(state, Known):
            at = state.value.observed_at
            values = of_cluster(state.value.state, target, self._fleet, at, silent)
            return {name: Known[Measured](value=value, observed_at=at) for name, value in values.items()}
        if state is None:
            return {}
        named = {TargetKind.SERVICE: "replicas_ready", TargetKind.ENDPOINT: "replicas_ready"}
        return {named.get(target.kind, "nodes_not_ready"): state}

    def _refusing(
        self, target: Target, pool: Pool | None, seen: PoolSeen, state: State
    ) -> Known[Measured] | Unknown | None:
        """Endpoints that refuse although their node is ready: else it is the node that is down."""
        if pool is None:
            return None
        if seen.refusing is None:
            return Unknown(why="not every endpoint could be asked")
        if isinstance(state, Unknown) and pool.workload is not None:
            return Unknown(why=f"whether their nodes are ready is not known: {state.why}")
        lost = _on_lost_nodes(state.value.state) if isinstance(state, Known) else set()
        return Known[Measured](value=float(len(set(seen.refusing) - lost)), observed_at=self._clock())


def _on_lost_nodes(state: ClusterState) -> set[str]:
    lost = {n.name for n in state.nodes.values() if not n.ready}
    return {p.address for p in state.pods.values() if p.node in lost and p.address is not None}


def _reached(state: State, answering: Known[int] | Unknown) -> Readings:
    """Whether there is a cluster at all. One whose API is silent while its engines give tokens is there."""
    if not isinstance(state, Unknown):
        return {}
    if isinstance(answering, Unknown):
        return {"cluster_unreachable": Unknown(why=f"its API: {state.why}; its engines: {answering.why}")}
    return {"cluster_unreachable": Known[Measured](value=answering.value == 0, observed_at=answering.observed_at)}
