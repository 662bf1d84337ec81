"""G4: one change at a time per domain."""

from __future__ import annotations

from datetime import timedelta

from runbooks.change import Change
from runbooks.facts import Facts, GuardView, StandingReceipt, Unknown
from runbooks.gates.question import Question, say
from runbooks.levers import ClusterStep, FreezeChanges, NodeStep
from runbooks.plan import GateVerdict
from runbooks.standing import moved

TAKES_PLACES = ("rebalance_nodes", "rollout_hotfix", "rollback_change", "increase_capacity")
"""Levers whose next increment needs places in the cluster that it does not have yet."""


def g4_one_change(q: Question, f: Facts) -> GateVerdict:
    """One change at a time per domain, over all levers, none to a setting that another case's change holds, and none while
    it is dirty, halted or its breaker has tripped. Two at once did the harm in oai-2022-11-17."""
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
    if (begun := _under_way(q, view)) is not None:
        why = f"{begun.lever} of {begun.case.partition('#')[0]} on {begun.target_id} is under way: its next increment comes first"
        return say("G4", "hold", why, until)
    if (other := _same_setting(q, view)) is not None:
        stands, key = other
        whose = f"{stands.lever} of {stands.case.partition('#')[0]}"
        why = f"{key} was set by {whose}, which stands: of two changes to one setting neither could be taken back"
        return say("G4", "deny", why)
    if view.holder not in (None, q.workflow_id):
        return say("G4", "allow", f"held by {view.holder}: the Guard will queue this step")
    return say("G4", "allow", "the domain is free")


def _under_way(q: Question, view: GuardView) -> StandingReceipt | None:
    """A change in the cluster between two of its increments. The lock is free then, so that an isolation need not wait for a
    drain; what would take the places that the drain still needs must wait (oai-2022-11-17)."""
    step = q.step.step
    if q.purpose != "act" or not isinstance(step, ClusterStep | NodeStep) or isinstance(step, FreezeChanges):
        return None
    return next((s for s in _others(q, view) if s.under_way and s.lever in TAKES_PLACES), None)


def _same_setting(q: Question, view: GuardView) -> tuple[StandingReceipt, str] | None:
    """Two cases that shed one tier left it shed for good: each found the other's value and called it somebody else's."""
    if q.purpose != "act" or not isinstance(q.change, Change):
        return None
    wanted = moved(q.change.before, q.change.after)
    return next(((s, key) for s in _others(q, view) for key in wanted if key in s.settings), None)


def _others(q: Question, view: GuardView) -> list[StandingReceipt]:
    return [s for s in view.standing if not s.case.startswith(q.workflow_id + "#")]
