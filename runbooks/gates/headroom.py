"""G3: whatever receives load, or grows, has room for it."""

from __future__ import annotations

import math
from datetime import datetime

from runbooks.change import Change
from runbooks.detection import Target
from runbooks.facts import Facts, GuardView, Known, Unknown
from runbooks.gates.dependencies import dependencies
from runbooks.gates.question import Question, pool_of, say, unknown
from runbooks.gates.replicas import answering, going, no_fewer
from runbooks.plan import GateVerdict

RESERVED_FOR_S = 30.0
"""How long a granted move is counted beside the measured load: until the load's window surely shows it, seconds."""


def reserved(view: GuardView, workflow_id: str, now: datetime) -> dict[str, float]:
    """Tokens/s promised to pools by other cases' young moves. The own case's increments were verified under load.

    A pool that another case moves load away from has no end of it promised: two cases would move the same load to and fro.
    """
    out: dict[str, float] = {}
    for standing in view.standing:
        emptied = Target.of(standing.target_id).service if standing.lever == "reroute_traffic" else None
        if emptied is not None and not standing.case.startswith(workflow_id + "#"):
            out[emptied] = math.inf
        if standing.case.startswith(workflow_id + "#") or (now - standing.since).total_seconds() > RESERVED_FOR_S:
            continue
        for pool, tps in standing.reserved_tps.items():
            out[pool] = out.get(pool, 0.0) + tps
    return out


def _coming_back(q: Question, f: Facts) -> dict[str, float]:
    """Tokens/s that a restore gives back to each pool whose weight it raises."""
    if q.purpose != "restore" or not isinstance(q.change, Change):
        return {}
    pools = f.pools.value if isinstance(f.pools, Known) else {}  # unknown: each pool is still named, and denied for it
    out: dict[str, float] = {}
    for key, after in q.change.after.items():
        family, _, rest = key.partition("/")
        before = q.change.before.get(key)
        if family != "weight" or not isinstance(after, int) or not isinstance(before, int) or after <= before:
            continue
        route = q.fleet.route(rest.rpartition("/")[0])
        load = [pools[p].load_tps for p in (route.pools if route else ()) if p in pools]
        total = sum(x for x in load if x is not None)
        weights = sum(
            v for k, v in (f.before.value if isinstance(f.before, Known) else {}).items() if isinstance(v, int)
        )
        out[rest.rpartition("/")[2]] = total * (after - before) / weights if weights else total
    return out


def g3_headroom(q: Question, f: Facts) -> GateVerdict:
    """Whatever receives load or grows has room for it, promised headroom and named dependencies counted. Rerouted load
    killed the second cluster in oai-2024-04-10."""
    if not isinstance(q.change, Change) or (q.purpose == "undo" and not going(q)):
        return say("G3", "allow", "nothing receives more load")
    notes: list[str] = []
    found = [
        _left_over(q, f, pool, notes) for pool in q.change.blast.endpoints_down | q.change.blast.restarting | going(q)
    ]
    if isinstance(f.guard, Unknown):
        found.append(unknown(q, "G3", "the headroom that is promised already", f.guard))
    found.append(dependencies(q, q.change, f, notes))
    promised = reserved(f.guard.value, q.workflow_id, f.now) if isinstance(f.guard, Known) else {}
    for pool, more in (q.change.blast.reserved_tps | _coming_back(q, f)).items():
        found.append(_room_for(q, f, pool, more + promised.get(pool, 0.0), notes))
    # What people have allowed though it is unknown must not hide what is known to have no room.
    against = [v for v in found if v is not None]
    worst = max(against, key=lambda v: WORST.index(v.outcome), default=None)
    if worst is not None and worst.outcome != "allow":
        return worst
    told = [v.reason for v in against]
    return say("G3", "allow", "; ".join([*told, *notes]) or "nothing receives more load")


FAILS_AT_MOST = 0.1
"""Share of failed requests over which a pool receives nothing new. Our inference: far over any service's error budget."""
WORST = ("allow", "ask", "hold", "deny")


def _left_over(q: Question, f: Facts, pool: str, notes: list[str]) -> GateVerdict | None:
    """Whether what stays of a pool can serve what is asked of it. None: it can."""
    state = pool_of(q, f, "G3", pool)
    if isinstance(state, GateVerdict):
        return state
    left = answering(q, f, "G3", state)
    if isinstance(left, GateVerdict):
        return left
    if no_fewer(q, state, left) or (q.purpose == "undo" and left == state.answering):
        notes.append(f"{pool} loses none that answers")
        return None
    if state.load_tps is None:
        return unknown(q, "G3", f"the load of {pool}", Unknown(why="tokens/s could not be measured"))
    spec = q.fleet.pool(pool)
    room = left * (spec.tokens_per_second if spec else 0.0)
    if state.load_tps > room:
        why = f"{pool} is asked for {state.load_tps:.0f} tokens/s and the {left} endpoint(s) left can serve {room:.0f}"
        return say("G3", "deny", why)
    notes.append(f"{pool} carries {state.load_tps:.0f} of {room:.0f} tokens/s")
    return None


def _room_for(q: Question, f: Facts, pool: str, extra: float, notes: list[str]) -> GateVerdict | None:
    """Whether a pool can take `extra` tokens/s, promised ones included. None: it can."""
    if math.isinf(extra):
        return say("G3", "deny", f"{pool} is being emptied by another case: nothing new goes there")
    state = pool_of(q, f, "G3", pool)
    if isinstance(state, GateVerdict):
        return state
    if state.load_tps is None:
        return unknown(q, "G3", f"the load of {pool}", Unknown(why="tokens/s could not be measured"))
    route = q.fleet.route_of(pool)
    if state.failing is not None and state.failing > FAILS_AT_MOST:
        # A pool whose users are failed already often looks idle: its load is what it still serves.
        why = f"{pool} itself fails {state.failing:.0%} of its requests; one that fails over {FAILS_AT_MOST:.0%} receives nothing"
        return say("G3", "deny", why)
    limit = state.capacity_tps * (route.target_utilisation if route else 0.8)
    if state.load_tps + extra > limit:
        why = f"{pool} would carry {state.load_tps + extra:.0f} tokens/s; {limit:.0f} is its limit"
        return say("G3", "deny", why)
    notes.append(f"{pool} would carry {state.load_tps + extra:.0f} of {limit:.0f} tokens/s")
    return None
