"""What people, levers and other automation do to a simulated fleet, and what of it they must not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from activities.adapters.fluid_account import Account, Wrote
from activities.adapters.fluid_autoscale import Autoscaler
from activities.adapters.fluid_cause import Cause
from activities.adapters.fluid_holds import Holds
from activities.adapters.fluid_pool import PoolFlow
from activities.adapters.fluid_rules import misplaced, weightless
from activities.adapters.kube_keys import parse
from runbooks.facts import Settings, Value
from runbooks.incident import Incident

BOOT_S = 180.0
"""From the order to reboot until the node is ready."""


class Hands(Holds):
    """Acts on the things. Whoever acts brings the fleet to the present first."""

    def __init__(self, incident: Incident, causes: Sequence[Cause[Any]]) -> None:
        super().__init__(incident)
        self.account = Account()
        self.causes = list(causes)
        self._scalers = {p.name: Autoscaler(p) for p in incident.fleet.pools if p.autoscaler_max is not None}
        self._wrong: set[str] = set()

    @property
    def active(self) -> list[Cause[Any]]:
        """Faults under way."""
        return [c for c in self.causes if c.on]

    def hand(self, settings: Mapping[str, Value], by: str, given: bool = False) -> None:
        """Sets them past every fence. ValueError: there is no such setting, or it cannot be so. `given`: the file plays it."""
        for key, value in settings.items():
            self._set(key, value)
        self.wrote(dict(settings), "", by, given)

    def wrote(self, settings: Settings, permit: str, by: str, given: bool = False) -> None:
        """Settings were written: what follows at once, and what is wrong with it."""
        if not given:
            self.account.writes.append(Wrote(self.moment(self.t), permit, settings))
        for key in settings:
            family, _, rest = key.partition("/")
            if family == "connections":
                for cause in self.active:
                    cause.recycled(self, rest)
                self.closed(rest)
        normal = self.normal
        now = misplaced(self.fleet, normal, self.edge.weights, self.incident.site)
        now |= weightless(self.edge.weights)
        self._tell(now - self._wrong, by, given)
        self._wrong = now
        self._tell(self._put_back(settings), by, given)

    def closed(self, pool: str) -> None:
        """The connections of a pool were closed."""

    def _put_back(self, settings: Settings) -> set[str]:
        back = [k.partition("/")[2] for k, v in settings.items() if k.startswith("cordon/") and v == "off"]
        return {f"{n} is put back and still sick" for n in back if any(c.still_on(n) for c in self.active)}

    def _tell(self, wrong: set[str], by: str, given: bool) -> None:
        at = f"{self.moment(self.t):%Y-%m-%dT%H:%M:%SZ}"
        into = self.account.given if given else self.account.violations
        into += [f"{at} {one} ({by})" for one in sorted(wrong)]

    def _set(self, key: str, value: Value) -> None:
        if self.edge.get(key) is not None:
            self.edge.put(key, value)
            return
        found = parse(key)
        if found is None:
            raise ValueError(f"{key}: no such setting; write weight/ROUTE/POOL, replicas/POOL, cordon/NODE, …")
        if found.family in ("cordon", "boot", "gpu"):
            if found.owner not in self._homes:
                raise ValueError(f"{key}: the fleet has no node {found.owner}")
            if found.family == "boot":
                self.reboot(found.owner)
            elif found.family == "gpu":
                self.reset_gpu(found.owner, int(found.name))
            else:
                self.clusters[self._homes[found.owner]].by_hand(key, value)
            return
        if found.owner not in self._where:
            raise ValueError(f"{key}: the fleet has no pool {found.owner}")
        if found.family == "pod":
            self._evict(key, found.owner, found.name)
        else:
            self.clusters[self._where[found.owner]].by_hand(key, value)

    def _evict(self, key: str, pool: str, name: str) -> None:
        """One replica goes, by its name or by its address."""
        pod = next((p for p in self.pods_of(pool) if name in (p.name, p.address)), None)
        if pod is None:
            raise ValueError(f"{key}: no replica of {pool} has this name or address")
        world = self.worlds[self._where[pool]]
        world.advance(self.moment(self.t))
        world.end(pod)
        world.touch()

    def reboot(self, node: str) -> None:
        """Another boot: whatever ran on it starts anew, and it is ready in some minutes unless what ails it is still there."""
        place, world = self.node(node), self.worlds[self._homes[node]]
        place.boots += 1
        place.boot_id = f"boot-{node}-{place.boots}"
        place.up_at = self.moment(self.t + BOOT_S)
        place.failed, place.failed_at = "NotReady: it is booting", self.moment(self.t)
        for pod in world.pods.values():
            if pod.node == node and pod.deleted_at is None:
                world.restart(pod)
        for cause in self.active:
            cause.rebooted(self, node)
        self._judge(node)

    def reset_gpu(self, node: str, gpu: int) -> None:
        """A reset, which cures what a reset cures."""
        place = self.node(node)
        place.resets[gpu] = place.resets.get(gpu, 0) + 1
        for cause in self.active:
            cause.reset(self, node, gpu)
        self.touch_node(node)

    def scale(self, pool: str, flow: PoolFlow, deaf: bool) -> None:
        """The pool's own autoscaler has its turn."""
        work = self.workload(pool)
        wanted = self._scalers[pool].wants(self.t, work, flow, deaf)
        if wanted is not None:
            world = self.worlds[self._where[pool]]
            world.advance(self.moment(self.t))
            work.desired = wanted
            work.generation += 1
            world.touch()
