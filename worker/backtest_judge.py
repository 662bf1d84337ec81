"""The gates asked again, about a check that a record kept, under another policy. Pure.

A record keeps each gate's verdict, the receipts, and people's decisions, but not the facts. So G2, G6, G7, G10 and the
freezes of G15 are really asked again, with what the receipts of all cases say. Of the others the recorded verdict holds where
both policies are the same to them, or differ only in a direction that cannot change it. Else nobody can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from runbooks.facts import GuardView
from runbooks.fleet import Fleet
from runbooks.gates.again import g10_attempts
from runbooks.gates.blast import g2_blast_radius
from runbooks.gates.calendar import g15_calendar
from runbooks.gates.people import g6_irreversible, g7_approval
from runbooks.gates.question import Gate
from runbooks.plan import GateVerdict
from runbooks.policy import Policy
from runbooks.safety import RANK
from worker.backtest_healthy import g5_again
from worker.backtest_reads import same_verdict
from worker.backtest_seen import Seen, facts, question

Outcome = Literal["allow", "ask", "hold", "deny"]
View = Callable[[Policy], GuardView]
"""What the Guard would have said under a policy."""
BY_PLANNER = ("reroute_traffic", "shed_load")
"""Levers whose increments the planner keeps under `largest_increment`."""
IN_SHARES = (*BY_PLANNER, "rollout_hotfix", "rollback_change")
"""Levers that move shares of traffic, which `ask_over_share` bounds."""
FROZEN = "changes are frozen in "


class Again(NamedTuple):
    """The verdict under a policy, before anybody has approved. `unsure`: gates of which nobody can tell."""

    outcome: Outcome
    gates: tuple[GateVerdict, ...]
    unsure: tuple[str, ...]

    def against(self) -> tuple[GateVerdict, ...]:
        """The gates behind the outcome; none where it allows."""
        return tuple(g for g in self.gates if g.outcome == self.outcome) if self.outcome != "allow" else ()


def judge_again(seen: Seen, rule: Policy, other: Policy, view: View, fleet: Fleet | None) -> Again:
    """All gates of the recorded verdict, under `rule`; `other` is what it is compared with."""
    gates: list[GateVerdict] = []
    unsure: list[str] = []
    for kept in seen.verdict.gates:
        found = _one(kept, seen, rule, other, view, fleet)
        if found is None:
            unsure.append(kept.gate)
        else:
            gates.append(found)
    worst: Outcome = "allow"
    for gate in gates:
        worst = gate.outcome if RANK[gate.outcome] > RANK[worst] else worst
    return Again(worst, tuple(gates), tuple(unsure))


def _one(
    kept: GateVerdict, seen: Seen, rule: Policy, other: Policy, view: View, fleet: Fleet | None
) -> GateVerdict | None:
    def asked(gate: Gate, under: Policy = rule, books: bool = False) -> GateVerdict:
        known = view(under) if books else GuardView(domain=seen.target.domain)  # only G2 and G10 look into them
        return gate(question(seen, under, fleet), facts(seen, known))

    judged_by = seen.judged_by(rule, other)
    same = same_verdict(kept, seen.lever, rule, judged_by, other)
    match kept.gate:
        case "G6":
            return asked(g6_irreversible)
        case "G7":
            if kept.outcome == "deny":  # outside of the envelope, which the plan has from the same limits as G2
                return same
            return None if _share_not_known(seen, rule) else asked(g7_approval)
        case "G15":
            frozen = asked(g15_calendar)
            # What was left of the error budget is only in the recorded verdict.
            of_freeze = frozen.outcome != "allow" or kept.outcome == "allow" or kept.reason.startswith(FROZEN)
            return frozen if of_freeze else same
        case "G5" if same is None:
            return g5_again(kept, rule)
        case "G2" | "G10" if same is None:
            gate = g2_blast_radius if kept.gate == "G2" else g10_attempts
            if kept.gate == "G2" and (seen.blast is None or _size_not_known(seen, rule, other, fleet)):
                return None
            # Books made anew lack what is not in this journal: believed where they say of the policy that judged what it said.
            if judged_by is not None and asked(gate, judged_by, books=True).outcome != kept.outcome:
                return None
            return asked(gate, books=True)
        case _:
            return same


def _share_not_known(seen: Seen, rule: Policy) -> bool:
    """A move that was never made, in a class that is auto: whether it is large enough to ask is not on record."""
    if seen.blast is not None or seen.lever not in IN_SHARES or rule.for_class(seen.failure_class).mode != "auto":
        return False
    limits = rule.for_lever(seen.lever)
    most = limits.largest_increment if seen.lever in BY_PLANNER else 1.0
    return limits.ask_over_share < most


def _size_not_known(seen: Seen, rule: Policy, other: Policy, fleet: Fleet | None) -> bool:
    """`max_share_down` is a share of the pool's size, which is in the fleet file only."""
    if fleet is not None or seen.blast is None or not seen.blast.endpoints_down:
        return False
    return rule.for_lever(seen.lever).max_share_down < other.for_lever(seen.lever).max_share_down
