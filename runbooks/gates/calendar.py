"""G15: the change freeze and the error budget stop changes, never what takes load from a sick part."""

from __future__ import annotations

from typing import assert_never

from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question, allowed_by_people, say, unknown
from runbooks.levers import (
    FreezeChanges,
    IncreaseCapacity,
    IsolateEndpoint,
    Page,
    RebalanceNodes,
    RebootNode,
    RecycleConnections,
    RerouteTraffic,
    ResetGpu,
    RestartEngine,
    RollbackChange,
    RolloutHotfix,
    ShedLoad,
    Step,
)
from runbooks.plan import GateVerdict


def is_change(step: Step) -> bool:
    """True for a lever that brings something new. Taking load from a sick part, giving room to it, replacing what is
    broken by the same, and going back to what stood before are mitigations."""
    match step:
        case RolloutHotfix():
            return True
        case RerouteTraffic() | IsolateEndpoint() | RecycleConnections() | ShedLoad() | RebalanceNodes():
            return False
        case RestartEngine() | ResetGpu() | RebootNode() | IncreaseCapacity() | RollbackChange() | FreezeChanges():
            return False
        case Page():
            return False
    assert_never(step)


def g15_calendar(q: Question, f: Facts) -> GateVerdict:
    """Changes wait while changes are frozen or the error budget is spent: one more change to load balancing raised a
    fault from 0.8 % to 16 % of requests in anthropic-2025-08/09. Mitigation goes on."""
    if q.purpose != "act" or not is_change(q.step.step):
        return say("G15", "allow", "no change: it takes load from what is sick, or goes back to what stood before")
    people = allowed_by_people(q, f)
    for domain in q.step.domains or (q.target.domain,):
        freeze = q.policy.frozen(domain, f.now)
        if freeze is None:
            continue
        what = f"changes are frozen in {domain} until {freeze.ends:%Y-%m-%d %H:%M} ({freeze.name}: {freeze.reason})"
        if freeze.then == "deny":
            return GateVerdict(gate="G15", outcome="deny", reason=what, lasting=True)
        if not people:
            return say("G15", "ask", f"{what}; a named, verified person may allow it")
    if f.error_budget is None:
        return say("G15", "allow", "no freeze, and no error budget is declared for this route")
    if isinstance(f.error_budget, Unknown):
        return unknown(q, "G15", "what is left of the error budget", f.error_budget)
    rule, left = q.policy.error_budget, f.error_budget.value
    if left >= rule.least_left:
        return say("G15", "allow", f"no freeze, and {left:.0%} of the error budget is left")
    what = f"{left:.0%} of the error budget is left; a change wants {rule.least_left:.0%}"
    if rule.then == "deny":
        return GateVerdict(gate="G15", outcome="deny", reason=what, lasting=True)
    if not people:
        return say("G15", "ask", f"{what}; a named, verified person may allow it")
    return say("G15", "allow", f"{what}; allowed by {', '.join(f.approval.approvers) if f.approval else 'nobody'}")
