"""Small fleets for tests of the fluid model: one route over two pools in two clusters, and whatever faults a test names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

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
