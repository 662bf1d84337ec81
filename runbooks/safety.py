"""The gates: pure functions from a Question (step, change, policy) and Facts to a verdict with its reason.

The worst answer of all gates counts: deny, then hold, then ask, then allow. Never fail open: an Unknown fact denies,
unless policy lists the gate in `ask_on_unknown`. A new gate is one function in `runbooks/gates/`, appended to GATES.
"""

from __future__ import annotations

from runbooks.facts import Facts
from runbooks.gates.again import g10_attempts, g14_plan_again
from runbooks.gates.blast import g2_blast_radius
from runbooks.gates.calendar import g15_calendar
from runbooks.gates.control import g11_control_plane
from runbooks.gates.correlated import g13_correlated
from runbooks.gates.freshness import g1_freshness, g16_fault_now
from runbooks.gates.headroom import g3_headroom
from runbooks.gates.healthy import g5_minimum_healthy
from runbooks.gates.one_change import g4_one_change
from runbooks.gates.people import g6_irreversible, g7_approval
from runbooks.gates.placement import g12_placement
from runbooks.gates.proof import g8_before_state, g9_verifiable
from runbooks.gates.question import Gate, Question
from runbooks.plan import Verdict

RANK = {"allow": 0, "ask": 1, "hold": 2, "deny": 3}


GATES: tuple[Gate, ...] = (
    g1_freshness,
    g2_blast_radius,
    g3_headroom,
    g4_one_change,
    g5_minimum_healthy,
    g6_irreversible,
    g7_approval,
    g8_before_state,
    g9_verifiable,
    g10_attempts,
    g11_control_plane,
    g12_placement,
    g13_correlated,
    g14_plan_again,
    g15_calendar,
    g16_fault_now,
)


def judge(q: Question, f: Facts) -> Verdict:
    """All gates, always all of them: an SRE sees every reason, not the first."""
    gates = tuple(gate(q, f) for gate in GATES)
    worst = max(gates, key=lambda g: RANK[g.outcome])
    until = max((g.until for g in gates if g.outcome == "hold" and g.until), default=None)
    return Verdict(outcome=worst.outcome, gates=gates, policy=q.policy.ref, until=until)
