"""Makes a PoolState of looks at the pool's endpoints. Pure: what a look does not hold is None, never a default."""

from __future__ import annotations

from collections.abc import Sequence

from activities.adapters.dialects import DIALECTS
from activities.adapters.exposition import highest
from activities.adapters.reading import NotMeasured
from activities.adapters.watch import Look
from runbooks.facts import PoolState
from runbooks.fleet import Pool


def pool_state(
    pool: Pool, looks: Sequence[Look | None], asked_tps: float | None, failing: float | None = None
) -> PoolState:
    """`looks`: one for each endpoint in rotation, None where it was not measured.

    `asked_tps`: the load by the proxy's word, used when the engines cannot all be read. `failing`: its share of failures.
    """
    seen = [found for found in looks if found is not None]
    answering = sum(found.answering for found in seen) if len(seen) == len(looks) else None
    served = served_tps(pool, looks)
    return PoolState(
        pool=pool.name,
        endpoints=pool.size,
        in_rotation=len(looks),
        answering=answering,
        capacity_tps=(answering or 0) * pool.tokens_per_second,
        load_tps=asked_tps if served is None else served,
        queue=_queue(pool, looks),
        kv_used=_kv_used(pool, looks),
        failing=failing,
        residency=pool.residency,
        tenants=pool.tenants,
    )


def served_tps(pool: Pool, looks: Sequence[Look | None]) -> float | None:
    """Tokens/s that the endpoints in rotation generated; None when one of them could not be read, or there are none."""
    if not looks:
        return None
    rate = 0.0
    for found in looks:
        if found is None or found.counters is None:
            return None
        try:
            rate += found.counters.gain(DIALECTS[pool.dialect].tokens) / found.counters.seconds
        except NotMeasured:
            return None
    return rate


def speaking_tps(pool: Pool, looks: Sequence[Look | None]) -> float | None:
    """The same of those that can be read, when all others were asked and gave no token. None: another might have, unseen.

    Every request that the pool has answered was then answered by one of these.
    """
    if any(found is None or (found.counters is None and found.answering) for found in looks):
        return None
    return served_tps(pool, [found for found in looks if found is not None and found.counters is not None])


def _queue(pool: Pool, looks: Sequence[Look | None]) -> float | None:
    waiting = 0.0
    for found in looks:
        if found is None or found.counters is None:
            return None
        try:
            waiting += found.counters.last.value(DIALECTS[pool.dialect].waiting)
        except NotMeasured:
            return None
    return waiting if looks else None


def _kv_used(pool: Pool, looks: Sequence[Look | None]) -> float | None:
    """The fullest cache: a mean would hide the endpoint that is about to refuse."""
    name = DIALECTS[pool.dialect].kv
    fullest: float | None = None
    for found in looks:
        if name is None or found is None or found.counters is None:
            return None
        value = highest(found.counters.last.metrics, name)
        if value is None or not 0.0 <= value <= 1.0:  # NaN fails the comparison, and so is no measurement
            return None
        fullest = value if fullest is None else max(fullest, value)
    return fullest
