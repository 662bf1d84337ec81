"""G13: many faults at once are one, and its case is the domain's."""

from __future__ import annotations

from runbooks.detection import TargetKind
from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question, say, unknown
from runbooks.plan import GateVerdict


def g13_correlated(q: Question, f: Facts) -> GateVerdict:
    """Correlated faults go to the domain. In oai-2025-06-10 an update cut the network of GPU hosts everywhere, and no lever
    on single nodes could have helped."""
    if q.purpose != "act":
        return say("G13", "allow", "what a case has changed it also takes back")
    if isinstance(f.guard, Unknown):
        return unknown(q, "G13", "whether other targets of the domain are sick too", f.guard)
    view = f.guard.value
    if view.correlated is None:
        return say("G13", "allow", f"{len(view.asked)} target(s) of the domain asked lately: each for itself")
    if q.target.kind is TargetKind.CLUSTER:
        return say("G13", "allow", f"this is the domain's own case: {view.correlated}")
    if any(s.case.startswith(q.workflow_id + "#") for s in view.standing):
        return say("G13", "allow", "it has changed something already, and finishes or undoes that first")
    return GateVerdict(gate="G13", outcome="deny", reason=f"{view.correlated}; the domain's case has it", lasting=True)
