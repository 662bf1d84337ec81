"""G1 and G16: the evidence is fresh, and the fault is there (or gone) at this moment."""

from __future__ import annotations

from datetime import timedelta

from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question, say, unknown
from runbooks.levers import RolloutHotfix
from runbooks.plan import GateVerdict
from runbooks.policy import Policy


def freshness_bound_s(policy: Policy) -> float:
    """At most two scrape periods old, and 5 s at least."""
    return max(2 * policy.timing.scrape_period_s, 5.0)


def g1_freshness(q: Question, f: Facts) -> GateVerdict:
    """Evidence and facts are at most two scrape periods old (5 s at least), and the detector's clock can be trusted. Moves
    that were queued on old state did the harm in oai-2026-03-04."""
    bound = freshness_bound_s(q.policy)
    facts_age = (f.now - f.oldest).total_seconds()
    if facts_age > bound:
        why = f"the oldest fact is {facts_age:.1f} s old; {bound:.0f} s is the most"
        return GateVerdict(gate="G1", outcome="deny", reason=why, unknown=True)  # asked again, it may be younger
    if q.purpose != "act":
        return say("G1", "allow", f"facts are {facts_age:.1f} s old")
    if goes_on(q, f):
        return say("G1", "allow", f"facts are {facts_age:.1f} s old; the rings before are the evidence")
    if isinstance(f.skew_s, Unknown):
        return unknown(q, "G1", "the detector's clock", f.skew_s)
    if abs(f.skew_s.value) > q.policy.timing.max_skew_s:
        return say("G1", "deny", f"the detector's clock is {f.skew_s.value:+.0f} s off ours; its times prove nothing")
    if q.alert_age_s is not None and q.alert_age_s > q.policy.timing.max_alert_age_s:
        return say(
            "G1",
            "deny",
            f"the alert was {q.alert_age_s / 60:.0f} min old when it came; {q.policy.timing.max_alert_age_s / 60:.0f} min is the most",
        )
    if isinstance(f.evidence_at, Unknown):
        return unknown(q, "G1", "the time of the evidence", f.evidence_at)
    age = (f.now - f.evidence_at.value).total_seconds()
    if age > bound:
        why = f"the newest evidence is {age:.1f} s old; {bound:.0f} s is the most"
        # Old because nobody could look just now: the next look brings new evidence, or shows that the fault is gone.
        return GateVerdict(gate="G1", outcome="deny", reason=why, unknown=isinstance(f.fault, Unknown))
    return say("G1", "allow", f"evidence {max(age, 0):.1f} s old, facts {facts_age:.1f} s (limit {bound:.0f} s)")


def goes_on(q: Question, f: Facts) -> bool:
    """True for a later ring of a rollout: the ring before has proven the version, and as a rule has mended the fault with
    which it began. Half of the pools on another version is no end."""
    if q.purpose != "act" or not isinstance(q.step.step, RolloutHotfix) or isinstance(f.guard, Unknown):
        return False
    mine = q.workflow_id + "#"
    return any(s.lever == q.step.step.lever and s.case.startswith(mine) for s in f.guard.value.standing)


def g16_fault_now(q: Question, f: Facts) -> GateVerdict:
    """The fault holds at this moment (act), or is gone from the target (restore): measured, not believed. Busy engines were
    restarted eight times a day and more for hangs that were none (gonka #1421)."""
    if q.purpose == "undo":
        return say("G16", "allow", "undo does not need the fault")
    if isinstance(f.fault, Unknown):
        return GateVerdict(
            gate="G16", outcome="deny", reason=f"whether the fault still holds is unknown: {f.fault.why}", unknown=True
        )
    until = f.now + timedelta(seconds=q.policy.timing.hold_s)
    if q.purpose == "act":
        if not f.fault.value.holds and goes_on(q, f):
            return say("G16", "allow", f"the rings before have mended it: {f.fault.value.detail}")
        if not f.fault.value.holds:
            return say("G16", "hold", f"the fault cannot be seen now: {f.fault.value.detail}", until)
        return say("G16", "allow", f"the fault holds: {f.fault.value.detail}")
    if f.fault.value.holds:
        return say("G16", "hold", f"the fault is still there: {f.fault.value.detail}", until)
    return say("G16", "allow", f"the fault is gone: {f.fault.value.detail}")
