"""G5: the minimum healthy is never crossed."""

from __future__ import annotations

import math

from runbooks.change import Change
from runbooks.facts import Facts, PoolState, Unknown
from runbooks.gates.question import Question, pool_of, say, unknown
from runbooks.gates.replicas import answering, going
from runbooks.plan import GateVerdict
from runbooks.policy import Policy


def minimum(policy: Policy, endpoints: int) -> int:
    """Fewest endpoints of a pool that must go on answering."""
    return max(policy.min_answering_count, math.ceil(policy.min_answering * endpoints - 1e-9))


def _short(state: PoolState, taken: int, least: int, why: str) -> GateVerdict:
    """Denied. Who gives no token at one look may only have been slow: where the minimum would hold if all in rotation
    answered, the next look may say so, and it is asked again for a minute before people are told."""
    return GateVerdict(gate="G5", outcome="deny", reason=why, unknown=state.in_rotation - taken >= least)


def g5_minimum_healthy(q: Question, f: Facts) -> GateVerdict:
    """The minimum of answering endpoints is never crossed, those that restart counted as down. A drain left no backend at
    all in oai-2024-05-21."""
    if not isinstance(q.change, Change) or (q.purpose != "act" and not going(q)):
        return say("G5", "allow", "no endpoint is taken out")
    notes: list[str] = []
    for pool, taken in q.change.blast.endpoints_down.items():
        state = pool_of(q, f, "G5", pool)
        if isinstance(state, GateVerdict):
            return state.model_copy(update={"outcome": "deny"})
        left = answering(q, f, "G5", state)
        if isinstance(left, GateVerdict):
            return left.model_copy(update={"outcome": "deny"})
        least = minimum(q.policy, state.endpoints)
        if left < least:
            why = f"{left} of {state.endpoints} endpoints of {pool} would answer; {least} is the minimum"
            return _short(state, taken, least, why)
        notes.append(f"{left} of {state.endpoints} in {pool} go on answering (minimum {least})")
    for pool, taken in (q.change.blast.restarting | going(q)).items():
        state = pool_of(q, f, "G5", pool)
        if isinstance(state, GateVerdict):
            return state.model_copy(update={"outcome": "deny"})
        left = answering(q, f, "G5", state)
        if isinstance(left, GateVerdict):
            return left.model_copy(update={"outcome": "deny"})
        least = minimum(q.policy, state.endpoints)
        if left < least and left != state.answering:
            why = f"{left} replica(s) of {pool} would answer meanwhile; {least} is the minimum"
            return _short(state, taken, least, why)
        notes.append(f"{left} of {state.endpoints} in {pool} answer meanwhile (minimum {least})")
    for pool in q.change.blast.reserved_tps:
        state = pool_of(q, f, "G5", pool)
        if isinstance(state, GateVerdict):
            return state.model_copy(update={"outcome": "deny"})
        if state.answering is None:
            return unknown(q, "G5", f"how many endpoints of {pool} answer", Unknown(why="they could not be probed"))
        least = minimum(q.policy, state.endpoints)
        if state.answering < least:
            return _short(state, 0, least, f"receiving pool {pool} is itself below its minimum")
        notes.append(f"{state.answering} of {state.endpoints} answer in receiving {pool}")
    return say("G5", "allow", "; ".join(notes) or "no endpoint is taken out")
