"""What can be measured of the fluid model now: its looks, less what a `blind` fault hides or holds still."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from activities.adapters.fluid_faults import Blinds
from activities.adapters.fluid_look import PoolLook, pool_look
from activities.adapters.fluid_world import FluidWorld
from activities.adapters.reading import NotMeasured
from activities.ports import ClusterSnapshot
from runbooks.detection import Target, TargetKind

What = Literal["metrics", "probes", "cluster"]


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at a pool and when it was taken."""

    look: PoolLook
    at: datetime


class View:
    """Looks at pools by what they are looked at with. What stands still keeps the moment at which it stopped."""

    def __init__(self, world: FluidWorld, clock: Callable[[], datetime]) -> None:
        self.world = world
        self._clock = clock
        self._looks: dict[str, PoolLook] = {}
        self._at = -1.0
        self._marks = -1
        self._kept: dict[tuple[int, str], Seen] = {}
        self._clusters: dict[tuple[int, str], ClusterSnapshot] = {}
        world.noticed = self._keep

    def _keep(self) -> None:
        """A fault has just begun or ended: takes what stale parts will go on to show."""
        for blind in self._blinds():
            if blind.spec.stale and not any(key[0] == id(blind) for key in [*self._kept, *self._clusters]):
                at = self.world.moment(self.world.t)
                for pool in self._pools_of(blind.spec.of):
                    self._kept[id(blind), pool] = Seen(pool_look(self.world, pool), at)
                    cluster = self.world.cluster_of(pool)
                    seen = self.world.clusters[cluster].snapshot().model_copy(update={"observed_at": at})
                    self._clusters[id(blind), cluster] = seen

    def now(self) -> datetime:
        """The moment of a fresh look: the model is at most half a second behind (GRID_S)."""
        return self._clock()

    def pool(self, pool: str, by: What = "metrics") -> Seen:
        """NotMeasured: it is hidden."""
        blind = self.blinded(by, pool)
        if blind is None:
            return Seen(self._look(pool), self.now())
        if not blind.spec.stale:
            raise NotMeasured(f"the {by} of {blind.spec.of} are missing")
        return self._kept[id(blind), pool]

    def pools(self, pools: Iterable[str], by: What = "metrics") -> list[Seen]:
        """All of them. NotMeasured: a part is hidden, and the rest alone would look better than it is."""
        return [self.pool(p, by) for p in pools]

    def blinded(self, by: What, name: str) -> Blinds | None:
        """The fault that hides this of a pool, a route or a cluster; the missing before the stale."""
        around = {name}
        if name in self.world.pools:
            spec = self.world.pools[name].spec
            around |= {spec.cluster, *(r.name for r in self.world.fleet.routes if name in r.pools)}
        found = [b for b in self._blinds() if b.spec.what in (by, "all") and b.spec.of in around]
        return min(found, key=lambda b: b.spec.stale, default=None)

    def kept_cluster(self, blind: Blinds, cluster: str) -> ClusterSnapshot:
        """What its control plane goes on to show while it stands still."""
        return self._clusters[id(blind), cluster]

    def sick(self, target_id: str) -> str:
        """Why what runs on this target does not work now; empty when it does."""
        world, target = self.world, Target.of(target_id)
        if world.apis[target.cluster].gone or (target.kind is TargetKind.CLUSTER and world.apis[target.cluster].over):
            return f"the API of {target.cluster} does not answer"
        if target.node is not None and world.node(target.node).failed:
            return f"{target.node} is not ready"
        if target.service is not None:
            look = self._look(target.service)
            answering = [r for r in look.replicas if r.answers and target.endpoint in (None, r.address)]
            if not answering:
                return f"nothing of {target_id} answers"
        return ""

    def _look(self, pool: str) -> PoolLook:
        if (self._at, self._marks) != (self.world.t, self.world.marks):
            self._looks, self._at, self._marks = {}, self.world.t, self.world.marks
        if pool not in self._looks:
            self._looks[pool] = pool_look(self.world, pool)
        return self._looks[pool]

    def _blinds(self) -> list[Blinds]:
        return [c for c in self.world.active if isinstance(c, Blinds)]

    def _pools_of(self, of: str) -> list[str]:
        pools = self.world.pools
        routes = {r.name: r.pools for r in self.world.fleet.routes}
        return [p for p in pools if of in (p, pools[p].spec.cluster) or p in routes.get(of, ())]
