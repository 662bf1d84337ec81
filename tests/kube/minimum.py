"""Watches that minimum healthy holds: judged at every event of pods and budgets, so that nothing falls between two looks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tests.kube.manifests import pod_serves, pool_of
from tests.kube.watching import Event
from tests.kube.world import World


@dataclass(frozen=True)
class Violation:
    """A moment at which too few served. `by` is "pods" (counted by us) or "budget" (the controller's own count)."""

    at: float
    pool: str
    by: str
    serving: int
    needed: int
    event: str


class Minimum:
    """A context manager; `violations` is complete after it, and `events` is how many it judged.

    `needed` is pool to replicas that must serve at every instant. A pool counts from the first moment at which it had
    that many. The budget's own count is judged against its own `desiredHealthy`, once the controller has seen it.
    """

    def __init__(self, world: World, needed: dict[str, int]) -> None:
        self.world = world
        self.needed = needed
        self.violations: list[Violation] = []
        self.events = 0
        self.least: dict[str, int] = {}
        self._serving: dict[str, set[str]] = {pool: set() for pool in needed}
        self._armed: set[str] = set()
        self._gaps = 0

    def __enter__(self) -> Minimum:
        self._gaps = self.world.gaps
        self.world.subscribe(self._saw)
        # What was true before is no event of ours.
        self.violations.clear()
        self.events = 0
        self.least = {pool: len(uids) for pool, uids in self._serving.items()}
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.world.caught_up()
        finally:
            self.world.unsubscribe(self._saw)
        # Not "no violation seen": then it is not known.
        assert self.world.gaps == self._gaps, "the watch lost events: the minimum was not judged at every one"

    def _saw(self, kind: str, event: Event) -> None:
        if kind == "pods":
            self._pod(event)
        elif kind == "budgets" and event.kind != "DELETED":
            self._budget(event.thing)

    def _pod(self, event: Event) -> None:
        pool, uid = pool_of(event.thing), event.thing["metadata"]["uid"]
        if pool not in self.needed:
            return
        self.events += 1
        serving = self._serving[pool]
        if event.kind != "DELETED" and pod_serves(event.thing):
            serving.add(uid)
        else:
            serving.discard(uid)
        needed = self.needed[pool]
        if len(serving) >= needed:
            self._armed.add(pool)
        if pool in self._armed:
            self.least[pool] = min(self.least.get(pool, len(serving)), len(serving))
            if len(serving) < needed:
                self._tell(pool, "pods", len(serving), needed, f"{event.kind} {event.thing['metadata']['name']}")

    def _budget(self, thing: dict[str, Any]) -> None:
        pool, status = thing["metadata"]["name"], thing.get("status", {})
        if pool not in self._armed or status.get("observedGeneration") != thing["metadata"].get("generation"):
            return
        self.events += 1
        if status["currentHealthy"] < status["desiredHealthy"]:
            self._tell(pool, "budget", status["currentHealthy"], status["desiredHealthy"], "status")

    def _tell(self, pool: str, by: str, serving: int, needed: int, event: str) -> None:
        self.violations.append(Violation(time.time(), pool, by, serving, needed, event))
