"""G15: the change freeze and the error budget stop changes, never what takes load from a sick part."""

from __future__ import annotations

from typing import Literal

from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question, allowed_by_people, unknown
from runbooks.levers import is_change
from runbooks.plan import GateVerdict


def g15_calendar(q: Question, f: Facts) -> GateVerdict:
    """Changes wait while changes are frozen or the error budget is spent; mitigation goes on. One more change of load
    balancing raised a fault from 0.8 % to 16 % of requests in anthropic-2025-08/09."""
    if q.purpose != "act" or not is_change(q.step.step):
        return _say("allow", "no change: it takes load from what is sick, or goes back to what stood before")
    found = [*_freezes(q, f), _budget(q, f)]
    worst = max(found, key=lambda v: STRICT.index(v.outcome))
    if worst.outcome != "allow":
        return worst
    return _say("allow", "; ".join(dict.fromkeys(v.reason for v in found)))


STRICT = ("allow", "ask", "deny")
"""A freeze that people may lift hides none that they may not."""


def _say(outcome: Literal["allow", "ask", "deny"], reason: str) -> GateVerdict:
    """Neither a freeze nor a budget that is spent ends within a minute."""
    return GateVerdict(gate="G15", outcome=outcome, reason=reason, lasting=outcome == "deny")


def _freezes(q: Question, f: Facts) -> list[GateVerdict]:
    """One verdict for each domain of the step."""
    found: list[GateVerdict] = []
    for domain in q.step.domains or (q.target.domain,):
        freeze = q.policy.frozen(domain, f.now)
        if freeze is None:
            found.append(_say("allow", f"no freeze in {domain}"))
            continue
        what = f"changes are frozen in {domain} until {freeze.ends:%Y-%m-%d %H:%M} ({freeze.name}: {freeze.reason})"
        found.append(_stops(q, f, what, freeze.then))
    return found


def _budget(q: Question, f: Facts) -> GateVerdict:
    if f.error_budget is None:
        return _say("allow", "no error budget is declared for this route")
    if isinstance(f.error_budget, Unknown):
        return unknown(q, "G15", "what is left of the error budget", f.error_budget)
    rule, left = q.policy.error_budget, f.error_budget.value
    if left >= rule.least_left:
        return _say("allow", f"{left:.0%} of the error budget is left")
    return _stops(q, f, f"{left:.0%} of the error budget is left; a change wants {rule.least_left:.0%}", rule.then)


def _stops(q: Question, f: Facts, what: str, then: Literal["deny", "ask"]) -> GateVerdict:
    """What stands against a change: for ever, or until people lift it."""
    if then == "deny":
        return _say("deny", what)
    if not allowed_by_people(q, f):
        return _say("ask", f"{what}; a named, verified person may allow it")
    return _say("allow", f"{what}; allowed by {', '.join(f.approval.approvers if f.approval else ())}")
