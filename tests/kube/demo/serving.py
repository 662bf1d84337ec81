"""How many replicas of each pool served, at every event of the watch: the curve of the picture."""

from __future__ import annotations

import time

from tests.kube.manifests import pod_serves, pool_of
from tests.kube.watching import Event
from tests.kube.world import World

Curve = list[tuple[float, int]]


class Serving:
    """`curves`: pool → (Unix time, replicas), a point for each change. Begins with what serves now."""

    def __init__(self, world: World, pools: tuple[str, ...]) -> None:
        self._world = world
        self._uids: dict[str, set[str]] = {p: set() for p in pools}
        self.curves: dict[str, Curve] = {p: [] for p in pools}
        world.subscribe(self._saw)
        # The subscription told what was there already, one by one: no change of ours.
        self.curves = {p: [(time.time(), len(uids))] for p, uids in self._uids.items()}

    def stop(self) -> None:
        """Hears of nothing any more."""
        self._world.unsubscribe(self._saw)

    def _saw(self, kind: str, event: Event) -> None:
        pool = pool_of(event.thing) if kind == "pods" else ""
        if pool not in self._uids:
            return
        uids, uid = self._uids[pool], event.thing["metadata"]["uid"]
        before = len(uids)
        (uids.add if event.kind != "DELETED" and pod_serves(event.thing) else uids.discard)(uid)
        if len(uids) != before:
            self.curves[pool].append((time.time(), len(uids)))
