"""The shipped catalogue, a small fleet, and a way to make detections."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from runbooks.detection import Detection, Severity, Target
from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from runbooks.library import Library, load_library, load_policy
from runbooks.policy import Policy

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
Evidence = dict[str, float | bool | str]
Detect = Callable[..., Detection]


@pytest.fixture(scope="session")
def library() -> Library:
    """The shipped catalogue."""
    return load_library()


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The shipped policy."""
    return load_policy()


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Two pools of one route in two clusters, and a pool without a route."""

    def pool(name: str, cluster: str) -> Pool:
        endpoints = tuple(Endpoint(address=f"{name}-{n}:8000") for n in (1, 2))
        return Pool(name=name, cluster=cluster, dialect="llamacpp", endpoints=endpoints, tokens_per_second=30.0)

    return Fleet(
        routes=(Route(name="chat", pools=("pool-a", "pool-b"), tiers=("batch", "interactive")),),
        pools=(pool("pool-a", "west"), pool("pool-b", "east"), pool("lonely", "west")),
        controls=outside("east", "west"),
    )


@pytest.fixture(scope="session")
def detect() -> Detect:
    """Makes a detection: alert name, target parts, evidence."""

    def make(alert: str, evidence: Evidence | None = None, **rest: object) -> Detection:
        target = {k: rest.pop(k) for k in ("cluster", "service", "endpoint", "node", "gpu") if k in rest}
        return Detection.model_validate(
            {
                "alert": alert,
                "target": Target.model_validate({"cluster": "west", **target}),
                "evidence": evidence or {},
                "severity": Severity.CRITICAL,
                "started_at": NOW,
                "observed_at": NOW,
                **rest,
            }
        )

    return make
