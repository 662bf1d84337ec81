"""G10 and G14: what did not help is not tried for ever, and what was planned before a stop is planned again."""

from __future__ import annotations

from datetime import timedelta

from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question, say, unknown
from runbooks.guard_book import remedy
from runbooks.plan import GateVerdict


def g10_attempts(q: Question, f: Facts) -> GateVerdict:
    """Attempts are capped, and a remedy that did not help is remembered across cases. Users ask for an end of endless repair
    loops (pfnet node-operation-controller #31)."""
    if q.purpose != "act":
        return say("G10", "allow", "undo and restore return to what stood before, however often")
    if isinstance(f.guard, Unknown):
        return unknown(q, "G10", "what was tried on this target before", f.guard)
    lever, what = q.step.step.lever, remedy(q.step.step.lever, q.target.id, q.failure_class)
    until = f.guard.value.ineffective.get(what)
    if until is not None and until > f.now:
        why = f"{lever} did not help {q.target.id} against {q.failure_class}; it is not tried again before {until:%H:%M:%S}"
        return GateVerdict(gate="G10", outcome="deny", reason=why, lasting=True)
    if q.increment > 0:
        return say("G10", "allow", "a further increment of an attempt that has begun")
    begun = f.now - timedelta(seconds=q.limits.cooldown_s)
    tries = [at for at in f.guard.value.attempts.get(what, ()) if at > begun]
    if len(tries) >= q.limits.attempts:
        why = f"{lever} was tried {len(tries)} time(s) on {q.target.id} within {q.limits.cooldown_s:.0f} s"
        return GateVerdict(
            gate="G10",
            outcome="deny",
            reason=f"{why}; {q.limits.attempts} is the most, now it is people's",
            lasting=True,
        )
    return say("G10", "allow", f"attempt {len(tries) + 1} of {q.limits.attempts}")


def g14_plan_again(q: Question, f: Facts) -> GateVerdict:
    """After a halt, a tripped breaker or a long hold the plan is made anew. A backlog of old decisions ran all at once when
    a breaker was released in oai-2026-03-04."""
    if q.purpose != "act":
        return say("G14", "allow", "undo and restore are planned from what stands now")
    if isinstance(f.guard, Unknown):
        return GateVerdict(
            gate="G14", outcome="deny", reason=f"whether there was a halt is unknown: {f.guard.why}", unknown=True
        )
    until = f.now + timedelta(seconds=q.policy.timing.hold_s)
    resumed = f.guard.value.resumed_at
    if resumed is not None and q.planned_at <= resumed:
        return say(
            "G14", "hold", f"planned at {q.planned_at:%H:%M:%S}, before levers were free at {resumed:%H:%M:%S}", until
        )
    most = q.policy.timing.replan_after_s
    age = (f.now - q.planned_at).total_seconds()
    if q.waited_s > most and age > most:
        return say(
            "G14",
            "hold",
            f"held for {q.waited_s:.0f} s on a plan that is {age:.0f} s old; {most:.0f} s is the most",
            until,
        )
    return say("G14", "allow", f"planned {max(age, 0):.0f} s ago, with no halt since")
