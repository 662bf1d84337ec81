"""Changes: a new version that rolls over pools, and what somebody sets by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from activities.adapters.fluid_cause import Cause
from activities.adapters.fluid_replicas import Replica
from activities.adapters.simulated_things import Flip
from runbooks.incident_faults import ByHand, Change

if TYPE_CHECKING:
    from activities.adapters.fluid_hands import Hands


class Rollout(Cause[Change]):
    """Replica by replica runs the new version, and has its effect until it runs one from before it, or the one that fixes it.

    A version that comes later and is neither was built on this one, and has its effect as well.
    """

    def __init__(self, spec: Change, at: float, ends: float | None) -> None:
        super().__init__(spec, at, ends)
        self._good: dict[str, set[str]] = {}
        self._flagged: dict[str, str] = {}
        self._shows: set[str] = set()

    def begin(self, world: Hands) -> None:
        """See `Cause`."""
        for pool in self.spec.pools:
            work, here = world.workload(pool), world.cluster_of(pool)
            self._good[pool] = {t.image for t, _ in work.revisions} | (
                {self.spec.fixed_by} if self.spec.fixed_by else set()
            )
            if not self.spec.only_on or here in self.spec.only_on:
                self._shows.add(pool)
                if self.spec.never_ready:
                    world.breaks(here, self.spec.version)
            fresh = replace(work.present, image=self.spec.version)
            now = world.moment(world.t)
            work.set_template(fresh, now)
            work.generation += 1
            every_s = 60 / self.spec.per_minute
            work.flip = Flip(fresh, every_s, now + timedelta(seconds=every_s))
            world.touch_pool(pool)

    def end(self, world: Hands) -> None:
        """See `Cause`."""
        for pool in self._shows:
            world.mends(world.cluster_of(pool), self.spec.version)
        self._shows = set()

    def mark(self, pool: str, replicas: Sequence[Replica]) -> None:
        """See `Cause`."""
        if pool not in self._shows:
            return
        has = [r for r in replicas if not r.versions & self._good[pool]]
        for number, replica in enumerate(has):
            replica.also_errors(self.spec.errors)
            replica.also_refuses(self.spec.client_errors)
            replica.also_wrong(self.spec.bad_output)
            replica.speed *= self.spec.slow_factor
            replica.kv *= self.spec.kv_factor
            # Spread evenly over those that run it: of a share of a quarter the fourth, the eighth, …
            share = self.spec.hangs
            replica.hung |= math.floor((number + 1) * share + 1e-9) > math.floor(number * share + 1e-9)


class SetByHand(Cause[ByHand]):
    """Somebody else's act."""

    def begin(self, world: Hands) -> None:
        """See `Cause`."""
        world.hand(self.spec.sets, f"by hand ({self.spec.by})", given=True)
