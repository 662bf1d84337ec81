"""The Cluster port without a cluster: a simulated world behind the same rules, fence and swap as the real adapter.

Its time is the clock's: give a virtual one and hours pass in no time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from activities.adapters.kube_errors import Conflict, OverBudget
from activities.adapters.kube_keys import NODE_AGENT, ROLES, parse
from activities.adapters.kube_rules import Mark, checked, fenced
from activities.adapters.kube_swap import ClusterSwap
from activities.adapters.kube_unit import EPOCH, PERMIT, Look, Unit, units
from activities.adapters.reading import Clock, utc_now
from activities.adapters.simulated_state import Stated
from activities.adapters.simulated_world import SimNode, SimWorkload, SimWorld, Template
from activities.adapters.swapping import finished
from activities.checkpoint import Checkpoint, no_checkpoint
from activities.errors import Permanent, Refused
from activities.ports import ClusterSnapshot
from runbooks import change
from runbooks.change import Change, Permit
from runbooks.facts import Settings, Value
from runbooks.fleet import Fleet


@dataclass(frozen=True)
class SimSpec:
    """How one pool's workload begins; replicas are the fleet's. `min_available` is its disruption budget's."""

    image: str = "engine:v1"
    env: Mapping[str, str] | None = None
    gpus: int = 1
    min_available: int | None = None
    autoscaler_max: int | None = None
    start_s: float | None = None
    surge: int = 1
    unavailable: int = 0


class SimulatedCluster:
    """`activities.ports.Cluster` on one domain. `start_s` until a replica serves, `end_s` until a deleted one is gone.

    `since`: when its first replicas were born. `moves`: the time to which its world goes on; None: the clock's.
    Replicas take the addresses that the fleet lists for their pool. `broken_images` never become ready. `writes` counts
    what Interlock wrote. `fail` and `heal` are what happens to nodes, `by_hand` what an operator does.
    """

    def __init__(
        self,
        fleet: Fleet,
        domain: str,
        pools: Mapping[str, SimSpec],
        *,
        clock: Clock = utc_now,
        start_s: float = 1.0,
        end_s: float = 0.2,
        broken_images: frozenset[str] = frozenset(),
        agents: bool = False,
        quota_gpus: int | None = None,
        toleration_s: float = 3.0,
        since: datetime | None = None,
        moves: Clock | None = None,
    ) -> None:
        self._fleet = fleet
        self._domain = domain
        self.clock = clock
        self.moves = moves
        self.checkpoint: Checkpoint = no_checkpoint
        nodes = {n.name: SimNode(n.name, n.gpus, f"boot-{n.name}-1") for n in fleet.nodes if n.cluster == domain}
        now = since or clock()
        self.world = SimWorld(
            fleet, domain, nodes, {}, now, start_s, end_s, toleration_s, broken_images, quota_gpus=quota_gpus
        )
        self._stated = Stated(self.world, agents)
        self._agents = agents
        for pool in fleet.pools:
            if pool.workload is not None and pool.name in pools:
                spec = pools[pool.name]
                first = Template(spec.image, tuple(sorted((spec.env or {}).items())))
                self.world.workloads[pool.name] = SimWorkload(
                    pool.name,
                    pool.workload.replicas,
                    spec.gpus,
                    [(first, now)],
                    spec.min_available,
                    spec.autoscaler_max,
                    start_s=spec.start_s,
                    surge=spec.surge,
                    unavailable=spec.unavailable,
                )
        self._fence: Mark | None = None
        self._notes: dict[tuple[str, str], dict[str, str]] = {}
        self._versions: dict[tuple[str, str], int] = {}
        self.writes = 0

    async def read(self, domain: str) -> ClusterSnapshot:
        """The world at this moment. Permanent: another domain."""
        if domain != self._domain:
            raise Permanent(f"the simulated cluster has no domain {domain!r}; it has {self._domain}")
        return self.snapshot()

    def snapshot(self) -> ClusterSnapshot:
        """The same at once."""
        now = self._now()
        return ClusterSnapshot(
            settings=self._settings(),
            observed_at=now,
            epoch=self._fence.epoch if self._fence is not None else 0,
            permit_id=self._fence.permit_id if self._fence is not None else "",
            state=self._stated.state(),
        )

    async def effective(self, keys: Sequence[str]) -> Settings:
        """The same, by key."""
        self._now()
        found = self._settings()
        return {k: found[k] for k in keys if k in found}

    async def swap(self, change: Change, permit: Permit) -> ClusterSnapshot:
        """As `KubeCluster.swap`, by the same code."""
        keys = checked(self._fleet, change, permit, ROLES.keys() - NODE_AGENT)
        await self.read(permit.domain)
        work = ClusterSwap(self, change, permit, keys, self.clock, self.checkpoint)
        await finished(work, work.run())
        return await self.read(permit.domain)

    async def try_node(self, node: str, pool: str, name: str) -> str | None:
        """One extra replica, bound beside the scheduler. Refused: the name is taken, or the node has no GPU free."""
        self._now()
        work, place, pod = self._work(pool), self.world.nodes.get(node), self.world.pods.get(name)
        if place is None:
            raise Refused(f"the simulated cluster has no node {node}")
        if pod is None:
            if place.gpus - self.world.used(node) < work.gpus:
                raise Refused(f"{node} has no {work.gpus} GPU(s) free for a check of {pool}")
            pod = self.world.bear(pool, work.present, name, node)
            pod.check = True
            self.world.touch()
        if not pod.check or (pod.pool, pod.node) != (pool, node):
            raise Refused(f"pod {name} is there already and is no check of {pool} on {node}")
        return pod.address if self.world.ready(pod) else None

    async def end_try(self, pool: str, name: str) -> None:
        """Takes it away at once. Refused: it is a replica of the pool."""
        self._now()
        pod = self.world.pods.get(name)
        if pod is not None and not (pod.check and pod.pool == pool):
            raise Refused(f"pod {name} is no check of {pool}: it stays")
        if self.world.pods.pop(name, None) is not None:
            self.world.touch()

    def fail(self, node: str, why: str) -> None:
        """The node is not ready; after its toleration its replicas are replaced elsewhere."""
        place = self.world.nodes[node]
        place.failed, place.failed_at = why, self._now()
        self.world.touch()

    def heal(self, node: str) -> None:
        """It is ready again."""
        self._now()
        place = self.world.nodes[node]
        place.failed, place.failed_at = "", None
        self.world.touch()

    def by_hand(self, key: str, value: Value) -> None:
        """An operator sets it: no fence, no permit."""
        self._now()
        [unit] = units([found for found in [parse(key)] if found is not None])
        self._set(unit, {key: value})

    async def mark(self, domain: str) -> Mark | None:
        """`Store`: who went through the fence last."""
        return self._fence

    async def enter(self, permit: Permit, marks: dict[str, int]) -> Mark:
        """`Store`: raises the fence."""
        if fenced(self._fence, permit) and self._fence is not None:
            return self._fence
        self._fence = Mark(epoch=permit.epoch, permit_id=permit.id, marks=marks)
        return self._fence

    async def hold(self, permit: Permit) -> None:
        """`Store`: a later permit has gone through since."""
        fenced(self._fence, permit)

    async def look(self, unit: Unit) -> Look:
        """`Store`: the object as it is now."""
        self._now()
        every = self._settings()
        found = {k.text: every[k.text] for k in unit.keys if k.text in every}
        work = self.world.workloads.get(unit.owner)
        version = {"version": self._version(unit)}
        return Look(found, self._notes.get(_place(unit), {}), work.generation if work else 0, version)

    async def rehearse(self, unit: Unit, seen: Look) -> None:
        """`Store`: OverBudget, when the pool's budget allows no eviction of a replica that serves."""
        if unit.kind != "pod" or (pod := self.world.pods.get(unit.keys[0].name)) is None:
            return
        if self.world.ready(pod) and self.world.allowed(pod.pool) == 0:
            raise OverBudget(f"the disruption budget of {pod.pool} allows no eviction now")

    async def write(self, unit: Unit, seen: Look, after: Settings, permit: Permit) -> None:
        """`Store`: one write, if nothing has been written since."""
        self._now()
        if seen.thing is None or seen.thing["version"] != self._version(unit):
            raise Conflict(f"{unit.keys[0].text} has been written since it was read")
        await self.rehearse(unit, seen)
        self._set(unit, {k.text: after[k.text] for k in unit.keys})
        if unit.stamped:
            self._notes[_place(unit)] = {EPOCH: str(permit.epoch), PERMIT: permit.id}
        self.writes += 1

    def _now(self) -> datetime:
        now = self.clock()
        self.world.advance(now if self.moves is None else self.moves())
        return now

    def _work(self, pool: str) -> SimWorkload:
        found = self.world.workloads.get(pool)
        if found is None:
            raise Refused(f"the simulated cluster runs no workload of {pool}")
        return found

    def _version(self, unit: Unit) -> int:
        return self._versions.get(_place(unit), 0)

    def _settings(self) -> Settings:
        world, found = self.world, Settings()
        for node in world.nodes.values():
            found[change.cordon_key(node.name)] = "on" if node.cordoned else "off"
            found[change.boot_key(node.name)] = node.boot_id
            if self._agents:
                found |= {change.gpu_key(node.name, str(i)): node.resets.get(i, 0) for i in range(node.gpus)}
        for work in world.workloads.values():
            pool = work.pool
            found[change.replicas_key(pool)] = work.desired
            found[change.image_key(pool)] = work.present.image
            found[change.template_key(pool)] = work.present.hash
            found[change.paused_key(pool)] = "on" if work.paused else "off"
            found |= {change.env_key(pool, name): value for name, value in work.present.env}
            if work.autoscaler_max is not None:
                ours = work.frozen and work.behaviour_before_freeze is not None
                found[change.autoscale_key(pool)] = "off" if ours else "on"
            found |= {change.pod_key(pool, p.name): p.uid for p in world.live(pool)}
        return found

    def _set(self, unit: Unit, wanted: Settings) -> None:
        """Makes it so. Refused: a template that nobody kept, or nothing to go back to."""
        place, world = _place(unit), self.world
        if unit.kind == "node":
            world.nodes[unit.owner].cordoned = wanted[unit.keys[0].text] == "on"
        elif unit.kind == "pod":
            world.pods[unit.keys[0].name].deleted_at = world.now
        else:
            self._set_workload(self._work(unit.owner), unit, wanted)
        self._versions[place] = self._versions.get(place, 0) + 1
        world.touch()
        world.advance(world.now)

    def _set_workload(self, work: SimWorkload, unit: Unit, wanted: Settings) -> None:
        fresh = work.present
        for key in unit.keys:
            value = wanted[key.text]
            match key.family:
                case "replicas":
                    work.desired = int(value)
                case "paused":
                    work.paused = value == "on"
                case "autoscale":
                    _scale_freely(work, value == "on")
                case "image":
                    fresh = replace(fresh, image=str(value))
                case "env":
                    fresh = replace(fresh, env=tuple(sorted({**dict(fresh.env), key.name: str(value)}.items())))
                case "template":
                    kept = [t for t, _ in work.revisions if t.hash == value]
                    if not kept:
                        raise Refused(f"{key.text}: revision {value} is not kept, so nothing to go back to")
                    fresh = kept[0]
                case other:
                    raise Refused(f"{key.text}: a simulated workload has no {other}")
        if fresh != work.present:
            work.set_template(fresh, self.world.now)
        work.generation += unit.kind != "autoscaler"


def _place(unit: Unit) -> tuple[str, str]:
    """The object: replicas and template are of the same Deployment."""
    kind = "deployment" if unit.kind == "scale" else unit.kind
    return kind, unit.keys[0].name if kind == "pod" else unit.owner


def _scale_freely(work: SimWorkload, freely: bool) -> None:
    if not freely:
        work.behaviour_before_freeze, work.behaviour = work.behaviour, "disabled"
        return
    if work.behaviour_before_freeze is None:
        raise Refused(f"autoscale/{work.pool}: what it was before the freeze is not known any more")
    work.behaviour, work.behaviour_before_freeze = work.behaviour_before_freeze, None
