"""G8 and G9: the way back is known before the act, and what it did can be proven."""

from __future__ import annotations

from runbooks.change import CannotPlan, NothingToDo
from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question, say, unknown
from runbooks.levers import RebalanceNodes
from runbooks.plan import GateVerdict


def g8_before_state(q: Question, f: Facts) -> GateVerdict:
    """The way back is known before the act, and the change starts from what stands there now. In oai-2024-05-21 the routes
    came back in steps of minutes: the undo must be ready first."""
    if isinstance(f.before, Unknown):
        return unknown(q, "G8", "the before-state", f.before)
    if isinstance(q.change, CannotPlan):
        return GateVerdict(gate="G8", outcome="deny", reason=q.change.why, lasting=q.change.lasting)
    if isinstance(q.change, NothingToDo):
        return say("G8", "allow", q.change.why)
    for key, value in q.change.before.items():
        found = f.before.value.get(key)
        if found != value:
            return say("G8", "deny", f"{key} is {found!r}, the change starts from {value!r}")
    return say("G8", "allow", f"{len(q.change.before)} setting(s) recorded")


def g9_verifiable(q: Question, f: Facts) -> GateVerdict:
    """It can be proven by a real generation, with soak, and a drained node under load before it returns. An idle health
    check proves nothing (NVSentinel #695)."""
    if q.purpose == "undo":
        return say("G9", "allow", "undo returns to what stood before, and waits for no proof")
    if q.step.verify is None:
        return say("G9", "deny", "the step has no verify")
    if not any(i.generates for i in q.step.indicators):
        return say("G9", "deny", "no criterion of the verify is a real generation")
    if isinstance(f.verifier, Unknown):
        return unknown(q, "G9", "what verify will measure", f.verifier)
    if q.purpose == "restore" and isinstance(q.step.step, RebalanceNodes):
        unproven = _unproven(q.step.step.node, f)
        if unproven is not None:
            return unproven
    missing = {c.indicator for c in q.step.verify.criteria} - set(f.verifier.value)
    if missing:
        return unknown(q, "G9", "what verify will measure", Unknown(why=f"no reading of {', '.join(sorted(missing))}"))
    return say("G9", "allow", f"{len(q.step.verify.criteria)} indicator(s), soak {q.step.verify.soak_s:.0f} s")


REJOIN_FOR_S = 60.0
"""How long a node's check under load speaks for it, seconds."""


def _unproven(node: str, f: Facts) -> GateVerdict | None:
    """A node may take pods again only after it made tokens under load: an idle check passes on a sick GPU."""
    if f.rejoin is None or f.rejoin.node != node:
        return say("G9", "deny", f"{node} has not been checked under load")
    age = (f.now - f.rejoin.observed_at).total_seconds()
    if age > REJOIN_FOR_S:
        return say("G9", "deny", f"the check of {node} under load is {age:.0f} s old; {REJOIN_FOR_S:.0f} s is the most")
    return None if f.rejoin.ok else say("G9", "deny", f"{node} failed under load: {f.rejoin.why}")
