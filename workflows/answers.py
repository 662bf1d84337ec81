"""What a check's answer means for the step that waits for it. Pure."""

from __future__ import annotations

from runbooks.plan import CheckResult


def stopped_by_people(result: CheckResult) -> bool:
    """Held by a halt or a tripped breaker, and by nothing else that a wait would end."""
    view = result.facts.guard
    return view.state == "known" and bool(view.value.halted or view.value.breaker)


def outdated(result: CheckResult) -> bool:
    """The plan itself is what holds it (G14): made before a halt ended, or held for too long."""
    return any(g.gate == "G14" and g.outcome == "hold" for g in result.verdict.gates)


def momentary(result: CheckResult) -> bool:
    """A denial of this moment alone: of what is not known now, or for want of room or of a plan that fits, which load may
    make another in five seconds. One slow look at the engines gives all of these together."""
    denied = [g for g in result.verdict.gates if g.outcome == "deny"]
    return bool(denied) and all(g.unknown or (g.gate in ("G3", "G8") and not g.lasting) for g in denied)


def enough(result: CheckResult) -> bool:
    """The fault is measured to be gone, and nothing is against more but that its evidence grows old: what was done
    suffices, and nobody is to be told that the rest could not be done."""
    against = [g for g in result.verdict.gates if g.outcome in ("hold", "deny")]
    gone = any(g.gate == "G16" and g.outcome == "hold" for g in against)
    return gone and all(g.gate == "G16" or (g.gate == "G1" and not g.unknown) for g in against)


def unseen(result: CheckResult) -> bool:
    """The fault is not seen now, its evidence is old for that alone, and what else is against is unknown: one slow look at
    the control plane while the queue dips for a moment. The next look says which of them holds."""
    against = [g for g in result.verdict.gates if g.outcome in ("hold", "deny")]
    gone = any(g.gate == "G16" and g.outcome == "hold" for g in against)
    rest = [g for g in against if g.gate != "G16" and not (g.gate == "G1" and not g.unknown)]
    return gone and bool(rest) and all(g.unknown for g in rest)
