"""Faults of replicas: each has its victims, and is gone from a replica once another takes its place, unless it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from activities.adapters.fluid_cause import Cause
from activities.adapters.fluid_replicas import Replica
from runbooks.incident_faults import BadOutput, Crash, Errors, Hang, Slow

if TYPE_CHECKING:
    from activities.adapters.fluid_hands import Hands

R = TypeVar("R", bound=Hang | Crash | Slow | Errors | BadOutput)
SERVED_S = 30.0
"""How long the successor of a crashed replica serves before it crashes too, where the file does not say."""


class OfReplicas(Cause[R]):
    """`victims`: uids of replicas that have it."""

    def __init__(self, spec: R, at: float, ends: float | None) -> None:
        super().__init__(spec, at, ends)
        self.victims: set[str] = set()
        self.many = 0

    def begin(self, world: Hands) -> None:
        """The pool's first replicas that serve: one that hangs already does not."""
        hung = {uid for c in world.active if isinstance(c, Hangs) and c is not self for uid in c.victims}
        serving = [p.uid for p in world.pods_of(self.spec.pool) if world.serves(p) and p.uid not in hung]
        self.many = len(serving) if self.spec.replicas is None else min(self.spec.replicas, len(serving))
        self.victims = set(serving[: self.many])

    def follow(self, world: Hands) -> None:
        """Whoever takes the place of a victim has it as well, where the cause is not in the replica."""
        live = {p.uid: p for p in world.pods_of(self.spec.pool)}
        self.victims &= live.keys()
        if not self.spec.returns:
            return
        fresh = [u for u in live if u not in self.victims]
        fresh.sort(key=lambda uid: live[uid].created_at, reverse=True)
        wanted = len(live) if self.spec.replicas is None else self.many
        for uid in fresh[: max(0, wanted - len(self.victims))]:
            self.victims.add(uid)
            self.caught(world, uid)

    def caught(self, world: Hands, uid: str) -> None:
        """A successor has it now."""

    def mark(self, pool: str, replicas: Sequence[Replica]) -> None:
        """See `Cause`."""
        if pool == self.spec.pool and self.victims:
            for replica in replicas:
                if replica.uid in self.victims:
                    self.spoil(replica)

    def spoil(self, replica: Replica) -> None:
        """What it does to one replica."""


class Hangs(OfReplicas[Hang]):
    """It takes requests and makes no tokens."""

    def spoil(self, replica: Replica) -> None:
        """See `OfReplicas`."""
        replica.hung = True


class Slows(OfReplicas[Slow]):
    """It serves fewer tokens/s."""

    def spoil(self, replica: Replica) -> None:
        """See `OfReplicas`."""
        replica.speed *= self.spec.factor


class Fails(OfReplicas[Errors]):
    """It answers with an error at once."""

    def spoil(self, replica: Replica) -> None:
        """See `OfReplicas`."""
        replica.also_errors(self.spec.share)


class Spoils(OfReplicas[BadOutput]):
    """It answers with wrong text."""

    def spoil(self, replica: Replica) -> None:
        """See `OfReplicas`."""
        replica.also_wrong(self.spec.share)


class Crashes(OfReplicas[Crash]):
    """Its process ends, and ends again `every` so often. `due`: when, by uid."""

    def __init__(self, spec: Crash, at: float, ends: float | None) -> None:
        super().__init__(spec, at, ends)
        self._due: dict[str, float] = {}

    def begin(self, world: Hands) -> None:
        """All at once."""
        super().begin(world)
        self._due = dict.fromkeys(self.victims, world.t)
        self.act(world)

    def caught(self, world: Hands, uid: str) -> None:
        """Once it serves."""
        self._due[uid] = world.t
        self._plan()

    def follow(self, world: Hands) -> None:
        """See `OfReplicas`."""
        super().follow(world)
        self._due = {uid: at for uid, at in self._due.items() if uid in self.victims}
        self._plan()

    def act(self, world: Hands) -> None:
        """Whose time has come, and who serves by then, crashes."""
        served_s = self.spec.every if self.spec.every is not None else SERVED_S
        for pod in world.pods_of(self.spec.pool):
            due = self._due.get(pod.uid)
            if due is None or due > world.t + 1e-6:
                continue
            if not world.serves(pod):
                self._due[pod.uid] = max(world.t + 1.0, world.serves_at(pod) + served_s)
                continue
            world.crash(pod)
            del self._due[pod.uid]
            if self.spec.every is not None:
                self._due[pod.uid] = max(world.t + 1.0, world.serves_at(pod) + self.spec.every)
        self._plan()

    def _plan(self) -> None:
        self.next_at = min(self._due.values(), default=None)
