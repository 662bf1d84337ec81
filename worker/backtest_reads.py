"""What each gate reads of a policy, for gates that cannot be asked again: were both policies the same to it? Pure.

tests/worker/test_backtest_reads.py reads the gates' source and fails when this table lacks something.
"""

from __future__ import annotations

from typing import Any

from runbooks.plan import GateVerdict
from runbooks.policy import Policy

READS: dict[str, tuple[tuple[str, int], ...]] = {
    "G1": (("timing.scrape_period_s", 1), ("timing.max_skew_s", 1), ("timing.max_alert_age_s", 1)),
    "G2": (
        ("limits.max_endpoints_down", 1),
        ("limits.max_share_down", 1),
        ("limits.max_acts_per_hour", 1),
        ("limits.max_nodes_out", 1),
        ("limits.max_gpus", 1),
        ("limits.largest_share", 1),
        ("domain.endpoints_per_hour", 1),
        ("domain.endpoints_per_hour_in_pool", 1),
        ("domain.nodes_per_hour", 1),
        ("domain.gpus_per_hour", 1),
        ("domain.share_per_hour", 1),
    ),
    "G5": (("min_answering", -1), ("min_answering_count", -1)),
    "G7": (
        ("limits.max_endpoints_down", 1),
        ("limits.max_nodes_out", 1),
        ("limits.max_gpus", 1),
        ("limits.largest_share", 1),
    ),
    "G10": (("limits.attempts", 1), ("limits.cooldown_s", -1), ("limits.ineffective_s", -1)),
    "G11": (("timing.control_answer_s", 1),),
    "G12": (("placement", 0),),
    "G13": (("domain.correlate_targets", 1), ("domain.correlate_within_s", -1), ("domain.correlate_quiet_s", -1)),
    "G14": (("timing.replan_after_s", 1),),
    "G15": (("error_budget", 0),),
}
"""Gate → field, and whether more of it is looser (1) or stricter (-1); 0: neither. A gate that is not here reads nothing but
`ask_on_unknown`. G6, G7 and the freezes of G15 are asked again; here is what the envelope is made of that G7 keeps to."""
UNKNOWN = " is unknown: "
"""In the reason of a gate that lacked a fact."""


def same_verdict(
    kept: GateVerdict, lever: str, rule: Policy, judged_by: Policy | None, other: Policy
) -> GateVerdict | None:
    """The recorded verdict, where it must be the same under `rule`; None where it need not be.

    `judged_by`: whichever of `rule` and `other` it was, None: neither.
    """
    wants = kept.gate in rule.ask_on_unknown
    # `unknown` alone says only that it is worth asking again: it is set for what is short at this moment, too.
    lost = kept.unknown and UNKNOWN in kept.reason
    if lost and wants:
        return kept.model_copy(update={"outcome": "ask", "reason": f"{kept.reason}; policy asks people"})
    if lost or judged_by is rule:
        return kept
    if kept.outcome == "ask" and kept.gate != "G15" and not wants:
        return kept.model_copy(update={"outcome": "deny", "unknown": True})
    fields = READS.get(kept.gate, ())
    changes = [c for c in (_change(field, sign, lever, rule, other) for field, sign in fields) if c != 0]
    if not changes:
        return kept
    if judged_by is None:
        return None
    looser, stricter = all(c > 0 for c in changes), all(c < 0 for c in changes)
    return kept if (looser if kept.outcome == "allow" else stricter) else None


def _change(field: str, sign: int, lever: str, rule: Policy, other: Policy) -> float:
    """Over 0: `rule` is looser; under 0: stricter; NaN: another, and neither."""
    mine, theirs = _value(field, lever, rule), _value(field, lever, other)
    if mine == theirs:
        return 0.0
    return sign * float(mine - theirs) if sign else float("nan")


def _value(field: str, lever: str, rule: Policy) -> Any:
    place, _, name = field.rpartition(".")
    holder: Any = {"": rule, "limits": rule.for_lever(lever), "domain": rule.domain, "timing": rule.timing}[place]
    return getattr(holder, name)
