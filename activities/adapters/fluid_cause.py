"""One fault of an incident file while it is played: when it begins and ends, and what it does to the fleet meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from activities.adapters.fluid_levels import Levels
from activities.adapters.fluid_replicas import Replica
from runbooks.incident_faults import Fault

if TYPE_CHECKING:
    from activities.adapters.fluid_hands import Hands

F = TypeVar("F", bound=Fault)


class Cause(Generic[F]):
    """`at` and `ends` are seconds after the start. `next_at`: when it wants to act by itself; None: it does not."""

    def __init__(self, spec: F, at: float, ends: float | None) -> None:
        self.spec = spec
        self.at = at
        self.ends = ends
        self.on = False
        self.over = False
        self.next_at: float | None = None

    def begin(self, world: Hands) -> None:
        """Its first moment."""

    def end(self, world: Hands) -> None:
        """Its last one: it goes away by itself."""

    def act(self, world: Hands) -> None:
        """`next_at` has come."""

    def follow(self, world: Hands) -> None:
        """Replicas or nodes have come or gone."""

    def level(self, levels: Levels) -> None:
        """Adds its part, while it is on."""

    def mark(self, pool: str, replicas: Sequence[Replica]) -> None:
        """Changes what the replicas of a pool are good for, while it is on."""

    def recycled(self, world: Hands, pool: str) -> None:
        """The connections of a pool were closed."""

    def rebooted(self, world: Hands, node: str) -> None:
        """A node is booted anew."""

    def reset(self, world: Hands, node: str, gpu: int) -> None:
        """A GPU was reset."""

    def still_on(self, node: str) -> bool:
        """Whether this node, put back into service now, would fail again."""
        return False
