"""What faults do to the things of a simulated fleet: processes end, nodes fail, replicas are kept from coming up."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from activities.adapters.fluid_cause import Cause
from activities.adapters.fluid_things import Things
from activities.adapters.simulated_things import SimPod
from runbooks.incident import Incident


class Holds(Things):
    """Each hold has an owner; a replica comes up when the last one lets it go."""

    def __init__(self, incident: Incident) -> None:
        super().__init__(incident)
        self._failing: dict[str, dict[int, str]] = {}
        self._holds: dict[str, dict[int, datetime]] = {}
        self._stalls: dict[tuple[str, str], _Owner] = {}

    def crash(self, pod: SimPod) -> None:
        """Its process ends and is started again."""
        self.worlds[self._where[pod.pool]].restart(pod)

    def fail_node(self, node: str, cause: Cause[Any], why: str) -> None:
        """It is not ready while this cause holds."""
        self._failing.setdefault(node, {})[id(cause)] = why
        self._judge(node)

    def heal_node(self, node: str, cause: Cause[Any]) -> None:
        """This cause is gone."""
        self._failing.get(node, {}).pop(id(cause), None)
        self._judge(node)

    def _judge(self, node: str) -> None:
        place, why = self.node(node), next(iter(self._failing.get(node, {}).values()), "")
        if why:
            place.failed, place.failed_at, place.up_at = why, place.failed_at or self.moment(self.t), None
        elif place.up_at is None:
            place.failed, place.failed_at = "", None
        self.touch_node(node)

    def touch_node(self, node: str) -> None:
        """It was changed."""
        self.worlds[self._homes[node]].touch()

    def touch_pool(self, pool: str) -> None:
        """Its workload was changed."""
        self.worlds[self._where[pool]].touch()

    def breaks(self, cluster: str, image: str) -> None:
        """Replicas of this version do not come up there."""
        world = self.worlds[cluster]
        world.broken_images |= {image}
        world.touch()

    def mends(self, cluster: str, image: str) -> None:
        """They do again."""
        world = self.worlds[cluster]
        world.broken_images -= {image}
        world.touch()

    def hold(self, pod: SimPod, owner: object) -> bool:
        """It cannot come up while this holds. True when that is new."""
        holds = self._holds.setdefault(pod.uid, {})
        if id(owner) in holds:
            return False
        holds[id(owner)] = self.moment(self.t)
        if not pod.held:
            pod.held = True
            self.touch_pool(pod.pool)
        return True

    def release(self, owner: object) -> None:
        """Whatever was held by it goes on starting where it stood."""
        for world in self.worlds.values():
            for pod in world.pods.values():
                holds = self._holds.get(pod.uid, {})
                since = holds.pop(id(owner), None)
                if since is not None and not holds:
                    pod.held = False
                    if pod.began_at is not None:
                        pod.began_at += self.moment(self.t) - max(since, pod.began_at)
                    world.touch()

    def still(self, cluster: str, over: bool) -> bool:
        """A control plane that does not answer places nothing, replaces nothing and brings nothing up."""
        world, moved = self.worlds[cluster], False
        if world.still != over:
            world.still, moved = over, True
            world.touch()
            if not over:
                self.release(world)
        if over:
            for pod in world.pods.values():
                if pod.began_at is not None and pod.deleted_at is None and not world.ready(pod):
                    moved |= self.hold(pod, world)
        return moved

    def stall(self, pool: str, dependency: str, over: bool) -> bool:
        """Replicas that lean on a dependency without room do not come up."""
        owner, moved = self._stalls.setdefault((pool, dependency), _Owner()), False
        if over:
            world = self.worlds[self._where[pool]]
            for pod in self._pods[pool]:
                if pod.began_at is not None and not world.ready(pod):
                    moved |= self.hold(pod, owner)
            owner.holds |= moved
        elif owner.holds:
            owner.holds, moved = False, True
            self.release(owner)
        return moved


class _Owner:
    """Somebody who holds replicas back."""

    holds = False
