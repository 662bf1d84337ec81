"""What a detector that watches one target would say of it now: well, not well, or nothing."""

from __future__ import annotations

from activities.adapters.fluid_look import PoolLook
from activities.adapters.fluid_pool import ALONE
from activities.adapters.reading import NotMeasured
from activities.adapters.simulated_view import View
from runbooks.detection import Target, TargetKind

FEW = 0.02
"""Share of failed requests that no detector minds."""
SLOW = 2.0
"""Answers that take so many times their normal time are slow."""
SHORT_QUEUE = 1.0
"""Requests that wait per replica without anybody minding."""
NODES = 0.05
"""Share of a cluster's nodes that may be away."""


class Health:
    """Of any target of the fleet."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._world = view.world
        self._normal = {p: self._normal_s(p) for p in view.world.pools}

    def well(self, target: Target) -> bool | None:
        """None: what it would look at is hidden or stands still, or the fleet has no such target."""
        try:
            return self._well(target)
        except NotMeasured:
            return None

    def _well(self, target: Target) -> bool:
        if not self._world.fleet.has(target):
            raise NotMeasured(f"{target.id} is not in the fleet")
        match target.kind:
            case TargetKind.ENDPOINT:
                return self._endpoint(target.service or "", target.endpoint or "")
            case TargetKind.SERVICE:
                return self._pool(target.service or "")
            case TargetKind.NODE:
                self._seen("cluster", target.cluster)
                node = self._world.node(target.node or "")
                return not node.failed and not node.sick
            case TargetKind.GPU:
                self._seen("cluster", target.cluster)
                node = self._world.node(target.node or "")
                return not node.failed and int(target.gpu or 0) not in node.sick
            case TargetKind.CLUSTER:
                return self._cluster(target.cluster)

    def _seen(self, by: str, name: str) -> None:
        blind = self._view.blinded("cluster" if by == "cluster" else "metrics", name)
        if blind is not None:
            raise NotMeasured(f"{blind.spec.of} is hidden")

    def _endpoint(self, pool: str, address: str) -> bool:
        """An address that no replica has is sick no more."""
        look = self._look(pool)
        found = next((r for r in look.replicas if r.address == address), None)
        if found is None:
            return True
        limp = found.errors > FEW or found.refuses > FEW or found.canary is False
        return found.answers and not limp and found.latency_s <= SLOW * self._normal[pool]

    def _pool(self, pool: str) -> bool:
        look = self._look(pool)
        route = next(r.name for r in self._world.fleet.routes if pool in r.pools)
        work = self._world.workload(pool)
        wanted = min(work.desired, self._world.pools[pool].spec.replicas)
        if self._world.levels.upstream.get(route, 0.0) > FEW or self._world.ready_in(pool) < wanted:
            return False
        if any(not r.answers or r.canary is False for r in look.inside):
            return False
        ended, inside = look.ended_s, max(1, len(look.inside))
        if ended > 0 and (look.errors_s + look.client_errors_s) / ended > FEW:
            return False
        slow = max((r.latency_s for r in look.inside), default=0.0)
        return look.queue <= SHORT_QUEUE * inside and slow <= SLOW * self._normal[pool]

    def _cluster(self, cluster: str) -> bool:
        """Its API and its nodes. Its pools have detectors of their own."""
        self._seen("metrics", cluster)
        nodes = self._world.worlds[cluster].nodes.values()
        return not self._world.apis[cluster].over and sum(1 for n in nodes if n.failed) <= NODES * len(nodes)

    def _look(self, pool: str) -> PoolLook:
        blind = self._view.blinded("metrics", pool)
        if blind is not None:
            raise NotMeasured(f"{blind.spec.of} is hidden")
        return self._view.pool(pool).look

    def _normal_s(self, pool: str) -> float:
        """How long an answer takes in normal times: up to a part of its slots each request has its own pace."""
        spec = self._world.pools[pool].spec
        route = next(r for r in self._world.incident.fleet.routes if pool in r.pools)
        return route.tokens_per_request / (spec.tokens_per_second * min(1.0, ALONE / spec.slots))
