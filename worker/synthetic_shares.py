"""How many of what a synthetic corpus holds: the paper's shares, and our split where the paper names none.

P: the paper's abstract (arXiv 2511.07424: 156 incidents, ~74 % found automatically, ~28 % needed a hotfix, ~60 % engine, of those
~40 % timeouts). S: second-hand (the other shares). I: our inference (every split below a class, who found it, who needed a hotfix).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from runbooks.base import Model
from worker.synthetic_draw import Draw

PAPER = 156
"""Incidents in the paper (P)."""
HOTFIX, PEOPLE = 44, 41
"""Of them: needed a hotfix (~28 %, P), and were not found automatically (~26 %, from P)."""
Mark = Literal["P", "S", "I"]
Group = Literal["engine", "config", "infra", "ops"]


class Share(Model):
    """One cause: how many of 156 incidents, how many of those need a hotfix, and how many are found by people."""

    cause: str
    failure_class: str
    group: Group
    of: int
    hotfix: int
    people: int
    mark: Mark
    """Of the class's share. The split of a class into causes, and both other columns, are always ours (I)."""


SHARES: tuple[Share, ...] = tuple(
    Share(cause=cause, failure_class=name, group=group, of=of, hotfix=hotfix, people=people, mark=mark)
    for group, name, cause, of, hotfix, people, mark in (
        # 94 of the engine (60 %, P): timeout 37 (40 % of them, P), exhaustion 27, crash 11, latency 6 (S). The paper names no
        # more; 13 are left, and that they are hangs and bad output is ours (I).
        ("engine", "engine.timeout", "slow_replicas", 14, 2, 3, "P"),
        ("engine", "engine.timeout", "slow_pool", 9, 5, 2, "P"),
        ("engine", "engine.timeout", "dead_connections", 14, 2, 3, "P"),
        ("engine", "engine.exhaustion", "long_requests", 15, 5, 2, "S"),
        ("engine", "engine.exhaustion", "long_and_retried", 12, 3, 2, "S"),
        ("engine", "engine.crash", "crash_loop", 7, 5, 1, "S"),
        ("engine", "engine.crash", "crash_once", 4, 0, 0, "S"),
        ("engine", "engine.latency_spike", "slower", 6, 1, 3, "S"),
        ("engine", "engine.hang", "hang", 7, 3, 2, "I"),
        ("engine", "engine.bad_output", "bad_output", 6, 5, 4, "I"),
        # 31 of the infrastructure (20 %, S); the split is ours, along the sub-labels node, deployment, allocation (S)
        ("infra", "infra.node_down", "node_down", 8, 0, 1, "I"),
        ("infra", "infra.gpu_fault", "gpu_fault", 6, 0, 1, "I"),
        ("infra", "infra.gpu_app_fault", "gpu_app_fault", 4, 0, 0, "I"),
        ("infra", "infra.fleet_network", "network", 2, 1, 0, "I"),
        ("infra", "infra.control_plane", "control_plane", 3, 1, 1, "I"),
        ("infra", "infra.capacity_loss", "cluster_gone", 2, 0, 0, "I"),
        ("infra", "infra.capacity_loss", "allocation_late", 3, 0, 2, "I"),
        ("infra", "ops.bad_change", "deployment", 3, 1, 1, "I"),
        # 25 of the model's configuration (16 %, S)
        ("config", "config.request_compat", "request_compat", 13, 6, 6, "I"),
        ("config", "config.engine_mismatch", "engine_mismatch", 6, 3, 1, "I"),
        ("config", "ops.bad_change", "bad_setting", 6, 1, 1, "I"),
        # 6 of operations (4 %, S)
        ("ops", "ops.traffic_imbalance", "imbalance", 3, 0, 2, "I"),
        ("ops", "ops.detection_gap", "detection_gap", 2, 0, 2, "I"),
        ("ops", "ops.automation_runaway", "automation_runaway", 1, 0, 1, "I"),
    )
)  # fmt: skip
STATUS_500, STATUS_408 = 115, 16
"""Incidents of 156 in which HTTP 500 and HTTP 408 appear (S: ~74 % and ~10 %)."""


def apportion(weights: Mapping[str, int], total: int, most: Mapping[str, int] | None = None) -> dict[str, int]:
    """`total` things by weight, by largest remainder (ties: the first one); never more than `most` of one.

    ValueError: there is no weight, or `most` has no room for `total`.
    """
    whole = sum(weights.values())
    if total and not whole:
        raise ValueError("nothing has a weight")
    if most is not None and sum(most.values()) < total:
        raise ValueError(f"there is room for {sum(most.values())} and not for {total}")
    exact = {k: total * w / whole if whole else 0.0 for k, w in weights.items()}
    given = {k: min(int(e), most[k] if most else int(e)) for k, e in exact.items()}
    order = sorted(weights, key=lambda k: -(exact[k] - int(exact[k])))
    while (rest := total - sum(given.values())) > 0:
        for key in [k for k in order if most is None or given[k] < most[k]][:rest]:
            given[key] += 1
    return given


class Place(Model):
    """One incident to be made."""

    share: Share
    hotfix: bool
    people: bool


def places(draw: Draw, count: int) -> tuple[Place, ...]:
    """`count` incidents in the order of `SHARES`. 156: the paper's numbers exactly; else in proportion.

    ValueError: fewer than one.
    """
    if count < 1:
        raise ValueError(f"count is {count}: ask for at least one incident")
    of = apportion({s.cause: s.of for s in SHARES}, count)
    hotfix = apportion({s.cause: s.hotfix for s in SHARES}, round(count * HOTFIX / PAPER), of)
    people = apportion({s.cause: s.people for s in SHARES}, round(count * PEOPLE / PAPER), of)
    made = []
    for share in SHARES:
        n = of[share.cause]
        fixed = set(draw.shuffled(range(n))[: hotfix[share.cause]])
        found = set(draw.shuffled(range(n))[: people[share.cause]])
        made += [Place(share=share, hotfix=k in fixed, people=k in found) for k in range(n)]
    return tuple(made)
