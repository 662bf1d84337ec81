"""What each replica of a pool is good for at this moment, and replicas that are alike taken together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Replica:
    """One replica at an address. `up`: its process runs and can be reached. `versions`: its image and its flags.

    Shares are of its requests. `speed`: of the tokens/s that it should serve. `kv`: cache that a request takes, times this.
    `sticky`: share of the pool's requests that come to it whatever its siblings get.
    """

    address: str
    uid: str = ""
    pod: str = ""
    node: str = ""
    versions: frozenset[str] = frozenset()
    restarts: int = 0
    up: bool = True
    rotates: bool = True
    hung: bool = False
    errors: float = 0.0
    speed: float = 1.0
    wrong: float = 0.0
    refuses: float = 0.0
    kv: float = 1.0
    sticky: float = 0.0

    @property
    def answers(self) -> bool:
        """It makes tokens for whoever waits long enough."""
        return self.up and not self.hung

    def also_errors(self, share: float) -> None:
        """A further cause of server errors."""
        self.errors = 1 - (1 - self.errors) * (1 - share)

    def also_refuses(self, share: float) -> None:
        """A further cause of requests refused as malformed."""
        self.refuses = 1 - (1 - self.refuses) * (1 - share)

    def also_wrong(self, share: float) -> None:
        """A further cause of wrong text."""
        self.wrong = 1 - (1 - self.wrong) * (1 - share)

    @property
    def kind(self) -> tuple[object, ...]:
        """Replicas of one kind are served alike."""
        return (
            self.up, self.hung, self.errors, self.speed, self.wrong, self.refuses, self.kv, self.sticky,
        )  # fmt: skip


@dataclass(slots=True)
class Group:
    """Replicas in rotation that are alike. `share`: of the pool's requests, each. `queue`: requests that wait, each.

    What follows is of the last step: `running` requests each, `latency_s` of a whole answer, `wait_s` of it in the queue,
    `kv_used` share of the cache, `tokens_s` served each, `capacity_s` requests/s that each can serve, `good` share of
    answers that come in time.
    """

    of: Replica
    members: tuple[str, ...]
    share: float
    queue: float = 0.0
    running: float = 0.0
    wait_s: float = 0.0
    latency_s: float = 0.0
    first_s: float = 0.0
    kv_used: float = 0.0
    tokens_s: float = 0.0
    capacity_s: float = 0.0
    good: float = 1.0

    @property
    def count(self) -> int:
        """Replicas in it."""
        return len(self.members)


def grouped(replicas: Sequence[Replica], before: Iterable[Group]) -> tuple[list[Group], float]:
    """Groups of what is in rotation, and how many requests waited on replicas that are not up any more, or not in rotation.

    A queue belongs to its replica; within a group all have the same. On a replica that hangs it is what hangs there.
    """
    inside = [r for r in replicas if r.rotates]
    queues = {address: g.queue for g in before for address in g.members}
    kinds: dict[tuple[object, ...], list[Replica]] = {}
    for replica in inside:
        kinds.setdefault(replica.kind, []).append(replica)
    even = (1 - min(1.0, sum(r.sticky for r in inside))) / len(inside) if inside else 0.0
    groups, kept = [], 0.0
    for some in kinds.values():
        waiting = sum(queues.get(r.address, 0.0) for r in some) if some[0].up else 0.0
        kept += waiting
        members = tuple(r.address for r in some)
        groups.append(Group(some[0], members, some[0].sticky + even, waiting / len(some)))
    return groups, max(0.0, sum(queues.values()) - kept)
