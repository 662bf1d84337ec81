"""A look at the fluid model: what a detector could read of pools, nodes and clusters, without noise and without ports.

Rates are of the model's last step, requests/s. `pool_look` and the rest cost microseconds: read them as often as you like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from activities.adapters.fluid_pool import ALONE, PoolFlow
from activities.adapters.fluid_replicas import Group, Replica
from activities.adapters.fluid_world import FluidWorld

LIMITED = frozenset({"client", "exhausted", "limited"})
"""Causes of failure that have a status of 4xx: malformed; no room in the cache (429); a limit (429)."""
CANARY_SEES = 0.1
"""From this share of wrong answers on a replica's canary prompts fail: they are about ten."""
TAIL = 1.5
"""The slowest hundredth of the answers takes so much longer than the mean, beside the wait."""


@dataclass(frozen=True, slots=True)
class ReplicaLook:
    """One replica. `up`: its process runs and can be reached. `answers`: it makes tokens. `wait_s`: until a request gets a
    slot; `token_s`: from then until the first token of a short one; `first_s` and `latency_s`: wait included, of the route's
    own requests. `running` and `queue` are requests. `errors`, `refuses`, `wrong`: shares of its requests or answers.
    """

    address: str
    pod: str
    node: str
    restarts: int
    in_rotation: bool
    up: bool
    answers: bool
    wait_s: float
    token_s: float
    latency_s: float
    first_s: float
    running: float
    queue: float
    kv_used: float
    tokens_s: float
    errors: float
    refuses: float
    wrong: float

    @property
    def canary(self) -> bool | None:
        """Whether canary prompts get the right text; None: it gives no answer at all."""
        return self.wrong < CANARY_SEES if self.answers else None


@dataclass(frozen=True, slots=True)
class PoolLook:
    """One pool. `asked_s`: attempts that come to it. `failed_s`: by cause (docs/simulated-fleet.md has the causes, and the
    status of each). `dead`: share that runs into dead connections."""

    pool: str
    t: float
    asked_s: float
    good_s: float
    wrong_s: float
    failed_s: dict[str, float]
    asked_tps: float
    deadline_s: float
    dead: float
    lost: float
    replicas: tuple[ReplicaLook, ...] = field(repr=False)

    @property
    def inside(self) -> list[ReplicaLook]:
        """Those in rotation."""
        return [r for r in self.replicas if r.in_rotation]

    @property
    def ended_s(self) -> float:
        """Attempts that ended, however."""
        return self.good_s + self.wrong_s + sum(self.failed_s.values())

    @property
    def errors_s(self) -> float:
        """Of those the ones that ended with 5xx or were given up."""
        return sum(rate for cause, rate in self.failed_s.items() if cause not in LIMITED)

    @property
    def client_errors_s(self) -> float:
        """And those with 4xx."""
        return sum(rate for cause, rate in self.failed_s.items() if cause in LIMITED)

    @property
    def queue(self) -> float:
        """Requests that wait for a slot."""
        return sum(r.queue for r in self.inside)

    @property
    def running(self) -> float:
        """Requests in a slot."""
        return sum(r.running for r in self.inside)

    @property
    def kv_used(self) -> float:
        """The fullest cache."""
        return max((r.kv_used for r in self.inside), default=0.0)

    @property
    def tokens_s(self) -> float:
        """Tokens/s that its replicas in rotation make."""
        return sum(r.tokens_s for r in self.inside)

    @property
    def first_p99_s(self) -> float | None:
        """Time to the first token of the slowest hundredth; None: nobody gets one."""
        return _slowest(self.inside, self.deadline_s, lambda r: r.first_s)

    @property
    def latency_p99_s(self) -> float | None:
        """The same of whole answers."""
        return _slowest(self.inside, self.deadline_s, lambda r: r.latency_s)


def _slowest(inside: Iterable[ReplicaLook], deadline_s: float, of: Callable[[ReplicaLook], float]) -> float | None:
    found = [r.wait_s + TAIL * (of(r) - r.wait_s) for r in inside if r.answers and r.tokens_s > 0]
    return min(deadline_s, max(found)) if found else None


def pool_look(world: FluidWorld, pool: str) -> PoolLook:
    """At one pool now."""
    flow = world.pools[pool]
    groups = {address: group for group in flow.groups for address in group.members}
    return PoolLook(
        pool=pool,
        t=world.t,
        asked_s=flow.ask.rate,
        good_s=flow.gave.good,
        wrong_s=flow.gave.wrong,
        failed_s=dict(flow.gave.failed),
        asked_tps=flow.ask.rate * flow.ask.tokens,
        deadline_s=flow.ask.deadline,
        dead=flow.ask.dead,
        lost=1 - _passes(flow.ask.lost.values()),
        replicas=tuple(_replica(flow, r, groups.get(r.address)) for r in flow.replicas),
    )


def _passes(lost: Iterable[float]) -> float:
    share = 1.0
    for part in lost:
        share *= 1 - part
    return share


def _replica(flow: PoolFlow, replica: Replica, group: Group | None) -> ReplicaLook:
    """Of one that is not in rotation nobody asks anything: it would answer at once."""
    alone = flow.spec.tokens_per_second * replica.speed * min(1.0, ALONE / flow.spec.slots)
    return ReplicaLook(
        address=replica.address,
        pod=replica.pod,
        node=replica.node,
        restarts=replica.restarts,
        in_rotation=replica.rotates,
        up=replica.up,
        answers=replica.answers,
        wait_s=group.wait_s if group is not None else 0.0,
        token_s=2 / alone,
        latency_s=group.latency_s if group is not None else flow.ask.tokens / alone,
        first_s=group.first_s if group is not None else 1 / alone,
        running=group.running if group is not None else 0.0,
        queue=max(0.0, group.queue - (group.running if replica.hung else 0.0)) if group is not None else 0.0,
        kv_used=group.kv_used if group is not None else 0.0,
        tokens_s=group.tokens_s if group is not None else 0.0,
        errors=replica.errors,
        refuses=replica.refuses,
        wrong=replica.wrong,
    )
