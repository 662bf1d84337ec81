"""G4: one change at a time per domain."""

from __future__ import annotations

from datetime import timedelta

from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question, say
from runbooks.plan import GateVerdict


def g4_one_change(q: Question, f: Facts) -> GateVerdict:
    """One change at a time per domain, over all levers, and none while it is dirty, halted or its breaker has tripped. Two
    at once did the harm in oai-2022-11-17."""
    if isinstance(f.guard, Unknown):
        return GateVerdict(
            gate="G4", outcome="deny", reason=f"the Guard could not be asked: {f.guard.why}", unknown=True
        )
    view = f.guard.value
    until = f.now + timedelta(seconds=q.policy.timing.hold_s)
    if view.dirty is not None:
        return say("G4", "hold", f"the domain is dirty: {view.dirty}", until)
    stopped = view.halted or view.breaker
    if stopped is not None and q.purpose == "act":
        return say("G4", "hold", stopped, until)
    if view.holder not in (None, q.workflow_id):
        return say("G4", "allow", f"held by {view.holder}: the Guard will queue this step")
    return say("G4", "allow", "the domain is free")
