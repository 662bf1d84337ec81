"""Small fleets for tests of the fluid model: one route over two pools in two clusters, and whatever faults a test names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from activities.adapters.fluid_look import pool_look
from activities.adapters.fluid_world import FluidWorld
from runbooks.incident import Incident

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUIET: dict[str, Any] = {"fault": "demand", "at": "0s", "route": "chat", "factor": 1}
"""A fault that changes nothing: a timeline has one at least."""


class Time:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        """Seconds later."""
        self.now += timedelta(seconds=seconds)


def pool(name: str, cluster: str, replicas: int = 4, **more: Any) -> dict[str, Any]:
    """1000 tokens/s each."""
    return {"name": name, "cluster": cluster, "replicas": replicas, "cold_start": "60s", **more}


def fleet(**more: Any) -> dict[str, Any]:
    """`east` and `west` with a pool of four each on a route of 20 requests/s of 200 tokens: half of what they can serve."""
    return {
        "clusters": [{"name": "east", "nodes": 2}, {"name": "west", "nodes": 2}],
        "pools": [pool("chat-east", "east"), pool("chat-west", "west")],
        "routes": [{"name": "chat", "pools": ["chat-east", "chat-west"], "requests_per_second": 20.0}],
        **more,
    }


def incident(*faults: dict[str, Any], lasts: str = "2h", of: dict[str, Any] | None = None, **more: Any) -> Incident:
    """A whole file; what it is about is in its faults. No noise, unless it is asked for."""
    return Incident.model_validate(
        {
            "incident": "test",
            "title": "A test",
            "kind": "synthetic",
            "sources": [{"says": "a test", "name": "us", "mark": "I"}],
            "starts": BEGIN.isoformat(),
            "lasts": lasts,
            "noise": 0.0,
            "fleet": of or fleet(),
            "timeline": {"faults": list(faults) or [QUIET]},
            "truth": {"failure_class": "unknown", "group": "unknown"},
            "expect": {"classes": ["unknown"], "outcome": ["paged"], "because": "a test"},
            **more,
        }
    )


def played(
    *faults: dict[str, Any],
    seconds: float = 1800.0,
    hands: dict[float, dict[str, int | str]] | None = None,
    of: dict[str, Any] | None = None,
) -> FluidWorld:
    """The model after so many seconds. `hands`: what somebody sets by hand, by the second."""
    world = FluidWorld(incident(*faults, of=of))
    for at, settings in sorted((hands or {}).items()):
        world.advance(at)
        world.hand(settings, "by hand")
        world.settle()
    world.advance(seconds)
    return world


def error_share(world: FluidWorld, *pools: str) -> float:
    """Share of the attempts of the last step that failed with 5xx or were given up; of all pools, when none is named."""
    looks = [pool_look(world, p) for p in pools or tuple(world.pools)]
    return sum(look.errors_s for look in looks) / sum(look.ended_s for look in looks)


def lost(world: FluidWorld) -> float:
    """Requests of users that failed."""
    return world.account.failed_requests
