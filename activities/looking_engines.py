"""What single engines of a pool do, held against their siblings. Pure: readings in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import median

from activities.ports import Generation
from runbooks.taxonomy_evidence import Measured

SLOW, HOT = 0.6, 2.5
"""Of the siblings' tokens/s; of the mean work. Ours (I): under what an engine of the same kind makes with the same work, by
far more than its noise; and what no even balancing gives."""
BY_CHANCE = 3.0
"""Standard deviations of a count that are no news (I). A look is one moment: of three engines with five requests among them
one has all five now and then, and our own probes are among them."""


@dataclass(frozen=True)
class Load:
    """One engine by its own metrics: requests in slots and waiting, tokens/s."""

    work: float
    tokens_s: float


def of_generations(
    asked: Mapping[str, Generation], mine: Sequence[str], loads: Mapping[str, Load]
) -> dict[str, Measured]:
    """`asked`: endpoints in rotation of one pool; `mine`: those of them that the target is about; `loads`: of those that could
    be read.

    An endpoint hangs when it took the request and gave nothing in time, makes no tokens for others either by its own
    counter, and another one gave a token: else it is busy, or it may be the network.
    """
    if not asked:
        return {}
    answered = [a for a, g in asked.items() if g.ok]
    silent = [a for a, g in asked.items() if _late(g) and (a not in loads or loads[a].tokens_s == 0)]
    found: dict[str, Measured] = {"replicas_serving": len(answered) / len(asked)}
    if answered:
        found["endpoints_hung"] = float(sum(a in mine for a in silent))
        found["probe_slowest_s"] = max(asked[a].seconds for a in answered)
    return found


def _late(generation: Generation) -> bool:
    """It took the request, and its deadline passed."""
    return not generation.ok and generation.why.startswith("no token within")


def refuses(generation: Generation) -> bool:
    """Nobody took the request."""
    return not generation.ok and "refused" in generation.why


def of_loads(loads: Mapping[str, Load], mine: Sequence[str]) -> dict[str, Measured]:
    """`loads`: engines in rotation that could be read. With fewer than two there is nothing to compare."""
    if len(loads) < 2:
        return {}
    mean = sum(one.work for one in loads.values()) / len(loads)
    slow = hot = 0
    for address in (a for a in mine if a in loads):
        one = loads[address]
        usual = median(other.tokens_s for a, other in loads.items() if a != address)
        usual_work = median(other.work for a, other in loads.items() if a != address)
        slow += one.work >= max(1.0, usual_work) and one.tokens_s < SLOW * usual
        above = max(HOT * mean, mean + BY_CHANCE * sqrt(mean))
        hot += mean > 1 and one.work > above and one.tokens_s >= 0.9 * usual
    return {"slow_endpoints": float(slow), "hot_endpoints": float(hot)}
