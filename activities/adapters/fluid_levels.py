"""What all faults under way add up to, outside of the replicas: for routes, pools, APIs and dependencies."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Levels:
    """Shares and factors by the name of what they are of. What is not named is as in normal times."""

    longer: dict[str, float] = field(default_factory=dict)
    """Tokens of a route's requests, times this."""
    upstream: dict[str, float] = field(default_factory=dict)
    """Share of a route's requests that fail before they arrive."""
    stalls: set[str] = field(default_factory=set)
    """Routes whose requests stall before they arrive, with no status."""
    dead: dict[str, float] = field(default_factory=dict)
    """Share of a pool's requests that run into dead connections."""
    malformed: dict[str, float] = field(default_factory=dict)
    """Share of a pool's requests that are refused as malformed."""
    limited: dict[str, float] = field(default_factory=dict)
    """The same, refused with 429."""
    sticks: dict[str, float] = field(default_factory=dict)
    """Share of its route's traffic that comes to a pool whatever the weights say."""
    api_load: dict[str, float] = field(default_factory=dict)
    api_capacity: dict[str, float] = field(default_factory=dict)
    api_serves: dict[str, float] = field(default_factory=dict)
    """Share of a cluster's requests that fail while its API does not answer."""
    gone: set[str] = field(default_factory=set)
    """Clusters that are gone altogether."""
    dependency_load: dict[str, float] = field(default_factory=dict)
    dependency_capacity: dict[str, float] = field(default_factory=dict)


def either(into: dict[str, float], name: str, share: float) -> None:
    """A further cause of the same: a request may meet either."""
    into[name] = 1 - (1 - into.get(name, 0.0)) * (1 - share)


def times(into: dict[str, float], name: str, factor: float) -> None:
    """A further factor."""
    into[name] = into.get(name, 1.0) * factor


def plus(into: dict[str, float], name: str, load: float) -> None:
    """A further load."""
    into[name] = into.get(name, 0.0) + load
