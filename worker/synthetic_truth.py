"""What people knew afterwards, of a whole corpus: when it closed, what a second labeller wrote, which status users saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker import synthetic_rates as rates
from worker.agreement import kappa
from worker.synthetic_draw import Draw
from worker.synthetic_shares import PAPER, STATUS_408, STATUS_500, Place

NO_SERVER_ERROR = frozenset({"slower", "bad_output", "request_compat", "engine_mismatch", "detection_gap"})
"""Causes whose symptom is no server error: neither status can appear."""
TIMES_OUT = frozenset({"slow_replicas", "slow_pool", "dead_connections", "hang"})
"""Causes in which requests pass their deadline: a gateway may say 408."""
_DAY_MIN = 1440.0


@dataclass(frozen=True)
class Statuses:
    """What users get: of a time-out, of no engine; `both`: the engine answers with server errors of its own beside it."""

    timed_out: int
    failed: int
    both: bool = False
    wanted: frozenset[int] = frozenset()
    """What should be seen of them. The fault is drawn worse a few times until it is."""


def statuses(draw: Draw, places: Sequence[Place]) -> list[Statuses]:
    """One per place. So many show HTTP 500 and HTTP 408 as the paper's shares want, as far as symptoms allow.

    It is done by what a site's gateway answers, not by what breaks: in the paper's service most failures surface as 500.
    """
    count = len(places)
    able = [n for n, p in enumerate(places) if p.share.cause not in NO_SERVER_ERROR]
    slow = [n for n in able if places[n].share.cause in TIMES_OUT]
    with_408 = draw.shuffled(slow)[: round(count * STATUS_408 / PAPER)]
    wanted = round(count * STATUS_500 / PAPER)
    both = set(with_408[: max(0, wanted - (len(able) - len(with_408)))])
    return [_of(n in with_408, n in both, n in able) for n in range(count)]


def _of(with_408: bool, both: bool, able: bool) -> Statuses:
    if with_408:
        return Statuses(408, 503, both, frozenset({408, 500} if both else {408}))
    return Statuses(500, 500, wanted=frozenset({500} if able else ()))


def closings(draw: Draw, places: Sequence[Place]) -> list[float]:
    """Minutes from start to close, one per place: draws of the published distribution (D), at most a day.

    Hotfixes get more of the long ones (S: a hotfix costs most time to mitigate); the distribution as a whole stays.
    """
    drawn = sorted(min(_DAY_MIN, draw.lognormal(rates.CLOSE_MU, rates.CLOSE_SIGMA)) for _ in places)
    order = sorted(range(len(places)), key=lambda n: 0.5 * places[n].hotfix + draw.between(0, 1))
    return [minutes for _, minutes in sorted(zip(order, drawn, strict=True))]


@dataclass(frozen=True)
class Times:
    """Seconds after the start."""

    detected: float
    mitigated: float
    ended: float
    people_minutes: float


def times(draw: Draw, begins: float, detected: float, close_minutes: float) -> Times:
    """Stages by the published medians and deciles (D), scaled to the whole. Working time is ours: so many people, so long."""
    stage = {name: draw.by_quantiles(*quantiles) for name, quantiles in rates.STAGES.items()}
    rest = max(300.0, begins + 60 * close_minutes - detected)
    mitigated = detected + rest * (stage["identify"] + stage["mitigate"]) / sum(stage.values())
    people = draw.whole(*rates.RESPONDERS)
    return Times(detected, mitigated, detected + rest, float(round(people * (mitigated - detected) / 60)))


def second_labels(draw: Draw, truths: Sequence[str]) -> list[str]:
    """A second labeller: the same, but for as many incidents as bring kappa nearest to the paper's.

    Each of them is confused with a neighbour (`CONFUSED_WITH`).
    """
    labels = list(truths)
    nearest, best = labels, 1.0 - rates.KAPPA
    for n in draw.shuffled(range(len(truths))):
        if truths[n] not in rates.CONFUSED_WITH:
            continue
        labels = [*labels]
        labels[n] = draw.weighted(rates.CONFUSED_WITH[truths[n]])
        value = kappa(list(zip(truths, labels, strict=True))).value
        off = abs(rates.KAPPA - value) if value is not None else 1.0
        if off >= best:
            break
        nearest, best = labels, off
    return nearest
