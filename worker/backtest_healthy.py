"""G5 asked again from its own words: they say how many would go on answering, of how many. Pure.

tests/worker/test_backtest_healthy.py holds these words against the gate's.
"""

from __future__ import annotations

import re

from runbooks.gates.healthy import minimum
from runbooks.plan import GateVerdict
from runbooks.policy import Policy

NOTHING = "no endpoint is taken out"
_KEEPS = re.compile(r"(\d+) of (\d+) in \S+ (go on answering|answer meanwhile) \(minimum \d+\)")
_RECEIVES = re.compile(r"(\d+) of (\d+) answer in receiving (\S+)")
_SHORT = re.compile(r"(\d+) of (\d+) endpoints of \S+ would answer; \d+ is the minimum")


def g5_again(kept: GateVerdict, rule: Policy) -> GateVerdict | None:
    """The verdict under this policy; None where the words do not tell."""
    if kept.outcome == "allow":
        return kept if kept.reason == NOTHING else _allowed(kept, rule)
    short = _SHORT.fullmatch(kept.reason)
    if short is None:
        return None
    left, of = int(short[1]), int(short[2])
    # With a lower minimum it passes here, and what the gate would have looked at next is not in its words.
    return _denied(kept, left, of, rule) if left < minimum(rule, of) else None


def _allowed(kept: GateVerdict, rule: Policy) -> GateVerdict | None:
    for clause in kept.reason.split("; "):
        found = _KEEPS.fullmatch(clause) or _RECEIVES.fullmatch(clause)
        if found is None:
            return None
        left, of = int(found[1]), int(found[2])
        if left < minimum(rule, of):
            # What only replaces broken replicas may go under the minimum, and the words do not tell whether it did.
            return None if found[3] == "answer meanwhile" else _denied(kept, left, of, rule)
    return kept


def _denied(kept: GateVerdict, left: int, of: int, rule: Policy) -> GateVerdict:
    why = f"{left} of {of} would answer; {minimum(rule, of)} is the minimum"
    return kept.model_copy(update={"outcome": "deny", "reason": why})
