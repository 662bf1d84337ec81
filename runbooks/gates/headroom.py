"""G3: whatever receives load, or grows, has room for it."""

from __future__ import annotations

from datetime import datetime

from runbooks.change import Change
from runbooks.facts import Facts, GuardView, Known, Unknown
from runbooks.gates.question import Question, pool_of, say, unknown
from runbooks.gates.replicas import answering, going, no_fewer
from runbooks.levers import IncreaseCapacity
from runbooks.plan import GateVerdict

RESERVED_FOR_S = 30.0
"""How long a granted move is counted beside the measured load: until the load's window surely shows it, seconds."""


def reserved(view: GuardView, workflow_id: str, now: datetime) -> dict[str, float]:
    """Tokens/s promised to pools by other cases' young moves. The own case's increments were verified under load."""
    out: dict[str, float] = {}
    for standing in view.standing:
        if standing.case.startswith(workflow_id + "#") or (now - standing.since).total_seconds() > RESERVED_FOR_S:
            continue
        for pool, tps in standing.reserved_tps.items():
            out[pool] = out.get(pool, 0.0) + tps
    return out


def _coming_back(q: Question, f: Facts) -> dict[str, float]:
    """Tokens/s that a restore gives back to each pool whose weight it raises."""
    if q.purpose != "restore" or not isinstance(q.change, Change) or isinstance(f.pools, Unknown):
        return {}
    out: dict[str, float] = {}
    for key, after in q.change.after.items():
        family, _, rest = key.partition("/")
        before = q.change.before.get(key)
        if family != "weight" or not isinstance(after, int) or not isinstance(before, int) or after <= before:
            continue
        route = q.fleet.route(rest.rpartition("/")[0])
        load = [f.pools.value[p].load_tps for p in (route.pools if route else ()) if p in f.pools.value]
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
    blast = q.change.blast
    notes: list[str] = []
    for pool in blast.endpoints_down | blast.restarting | going(q):
        state = pool_of(q, f, "G3", pool)
        if isinstance(state, GateVerdict):
            return state
        left = answering(q, f, "G3", state)
        if isinstance(left, GateVerdict):
            return left
        if no_fewer(q, state, left) or (q.purpose == "undo" and left == state.answering):
            notes.append(f"{pool} loses none that answers")
            continue
        if state.load_tps is None:
            return unknown(q, "G3", f"the load of {pool}", Unknown(why="tokens/s could not be measured"))
        spec = q.fleet.pool(pool)
        room = left * (spec.tokens_per_second if spec else 0.0)
        if state.load_tps > room:
            return say(
                "G3",
                "deny",
                f"{pool} is asked for {state.load_tps:.0f} tokens/s and the {left} endpoint(s) left can serve {room:.0f}",
            )
        notes.append(f"{pool} carries {state.load_tps:.0f} of {room:.0f} tokens/s")
    if isinstance(f.guard, Unknown):
        return unknown(q, "G3", "the headroom that is promised already", f.guard)
    lacking = _dependencies(q, f, notes)
    if lacking is not None:
        return lacking
    promised = reserved(f.guard.value, q.workflow_id, f.now)
    for pool, more in (blast.reserved_tps | _coming_back(q, f)).items():
        extra = more + promised.get(pool, 0.0)
        state = pool_of(q, f, "G3", pool)
        if isinstance(state, GateVerdict):
            return state
        if state.load_tps is None:
            return unknown(q, "G3", f"the load of {pool}", Unknown(why="tokens/s could not be measured"))
        route = q.fleet.route_of(pool)
        limit = state.capacity_tps * (route.target_utilisation if route else 0.8)
        if state.load_tps + extra > limit:
            return say(
                "G3", "deny", f"{pool} would carry {state.load_tps + extra:.0f} tokens/s; {limit:.0f} is its limit"
            )
        notes.append(f"{pool} would carry {state.load_tps + extra:.0f} of {limit:.0f} tokens/s")
    return say("G3", "allow", "; ".join(notes) or "nothing receives more load")


def _dependencies(q: Question, f: Facts, notes: list[str]) -> GateVerdict | None:
    """What more replicas lean on has room for them: restarts failed through a full pool in oai-2024-06-04."""
    step = q.step.step
    pool = q.fleet.pool(step.pool) if isinstance(step, IncreaseCapacity) else None
    wanted = pool.workload.depends_on if pool is not None and pool.workload is not None else ()
    if not wanted or q.purpose != "act" or not isinstance(step, IncreaseCapacity):
        return None
    if not isinstance(f.dependencies, Known):
        fact = f.dependencies or Unknown(why="it was not measured")
        return unknown(q, "G3", f"the headroom of {', '.join(wanted)}", fact)
    for name in wanted:
        room = f.dependencies.value.get(name)
        if room is None:
            return unknown(q, "G3", f"the headroom of {name}", Unknown(why="it was not measured"))
        if room < step.at_once:
            return say("G3", "deny", f"{name} has room for {room:g} more replica(s), and {step.at_once} are wanted")
        notes.append(f"{name} has room for {room:g} more")
    return None
