"""What one site watches: which rules it has, how high they are set, how it names things, how good its clocks are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from worker import synthetic_rates as rates
from worker.synthetic_draw import Draw
from worker.synthetic_rules import RULES, Rule

_STYLES = {0: 0.55, 1: 0.3, 2: 0.15}
"""Names from public rules, a team's own, terse ones."""
PROBES = 0.7
"""Share of sites that run Interlock's own generation probe (`worker/detect.py`)."""
NVML = 0.6
"""Share of sites that run Interlock's own NVML detector (`worker/detect_nvml.py`); the others have dcgm-exporter and one rule."""
FULL_IS_429 = 0.3
"""Share of sites whose engines answer 429 when their cache is full; at the others it is a server error."""
MARKS = 0.7
"""Share of sites whose alerts carry change markers."""


@dataclass(frozen=True)
class Set:
    """One rule as this site has it. `for_s`: how long it must hold."""

    rule: Rule
    name: str
    threshold: float
    for_s: float


@dataclass(frozen=True)
class Monitoring:
    """`timed_out` and `failed`: the status that its gateway gives for a request that passed its deadline, found no engine, or
    found its engine full."""

    scrape_s: int
    rules: tuple[Set, ...]
    rich: bool
    probes: bool
    nvml: bool
    marks: bool
    skew_s: float
    timed_out: int
    failed: int
    full: int


def draw_monitoring(draw: Draw, statuses: tuple[int, int], *, watchful: bool = False) -> Monitoring:
    """`statuses`: of a time-out, of no engine. `watchful`: no rule is absent and all are sensitive (a site that saw nothing
    was drawn before)."""
    style = draw.weighted(_STYLES)
    return Monitoring(
        scrape_s=draw.one(rates.SCRAPE_S),
        rules=tuple(
            _set(draw, rule, style, watchful) for rule in RULES if not draw.happens(rates.RULE_ABSENT) or watchful
        ),
        rich=draw.happens(rates.RICH_SITE),
        probes=draw.happens(PROBES) or watchful,
        nvml=draw.happens(NVML),
        marks=draw.happens(MARKS),
        skew_s=draw.between(*rates.SKEW_S) if draw.happens(rates.SKEWED_SITE) else 0.0,
        timed_out=statuses[0],
        failed=statuses[1],
        full=429 if draw.happens(FULL_IS_429) else statuses[1],
    )


def _set(draw: Draw, rule: Rule, style: int, sensitive: bool) -> Set:
    low, high = rule.threshold
    if sensitive:
        low, high = ((low + 2 * high) / 3, high) if rule.below else (low, (2 * low + high) / 3)
    return Set(
        rule=rule,
        name=rule.names[style],
        threshold=draw.between(low, high) if high > low else low,
        for_s=0.0 if rule.quick else float(draw.one(rates.FOR_S)),
    )


Values = Mapping[str, float | bool | str]
"""What can be measured of one target at one time, by name. What is not measured is not there."""
Sight = Mapping[str, Values]
"""By target id."""
