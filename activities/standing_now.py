"""What is declared now in all the domains of a step, and how the control plane behind it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from activities.facts import Clock, known
from activities.ports import Actuator, Cluster, ClusterSnapshot, Snapshot, Traffic
from runbooks.base import Model, Seconds
from runbooks.cluster import ClusterState
from runbooks.facts import Known, Settings, Unknown
from runbooks.several import one_state

TIMEOUT_S = 4.0


class Declared(Model):
    """Settings of one system over several domains, read at one moment. `took_s`: how long it took to answer."""

    settings: Settings
    epochs: dict[str, int]
    by_domain: dict[str, Snapshot]
    took_s: Seconds
    state: ClusterState | None = None


async def declared_by(actuator: Traffic | Cluster, domains: Sequence[str], clock: Clock) -> Known[Declared] | Unknown:
    """All of the domains, or why one of them is not known."""
    began, start = clock(), time.monotonic()
    readings = await asyncio.gather(*(known(actuator.read(d), TIMEOUT_S, clock) for d in domains))
    snapshots: dict[str, Snapshot] = {}
    for domain, reading in zip(domains, readings, strict=True):
        if isinstance(reading, Unknown):
            return reading
        snapshots[domain] = reading.value
    state = one_state([s.state for s in snapshots.values() if isinstance(s, ClusterSnapshot)])
    if isinstance(state, str):
        return Unknown(why=state)
    value = Declared(
        settings={k: v for s in snapshots.values() for k, v in s.settings.items()},
        epochs={d: s.epoch for d, s in snapshots.items()},
        by_domain=snapshots,
        took_s=time.monotonic() - start,
        state=state if any(isinstance(s, ClusterSnapshot) for s in snapshots.values()) else None,
    )
    seen = [s.observed_at for s in snapshots.values() if isinstance(s, ClusterSnapshot)]
    return Known(value=value, observed_at=min([began, *seen]))


async def applied_by(actuator: Actuator, keys: Sequence[str], clock: Clock) -> tuple[Known[Settings] | Unknown, float]:
    """What is really applied, and how long the system took to say so, seconds."""
    start = time.monotonic()
    found = await known(actuator.effective(list(keys)), TIMEOUT_S, clock)
    return found, time.monotonic() - start
