"""Part of G3: what a growing or receiving pool leans on has room as well, counted in replicas' worth of load.

Restarts and scale-outs failed through a full database in oai-2024-06-04. In oai-2024-04-10 the cluster that received the
traffic had GPUs enough, and its control plane failed when it scaled up for it.
"""

from __future__ import annotations

from runbooks.change import Change
from runbooks.facts import Facts, Known, Unknown
from runbooks.fleet import Fleet
from runbooks.gates.question import Question, say, unknown
from runbooks.levers import IncreaseCapacity, RerouteTraffic, Step
from runbooks.plan import GateVerdict


def could_load(step: Step, fleet: Fleet) -> tuple[str, ...]:
    """Names of all dependencies that the step may load, whichever pools its increments turn out to need."""
    if isinstance(step, IncreaseCapacity):
        return _of(step.pool, fleet)
    route = fleet.route(step.route) if isinstance(step, RerouteTraffic) else None
    serving = {d.name for d in fleet.dependencies if d.serves}
    pools = (
        [p for p in route.pools if p != step.away_from]
        if route is not None and isinstance(step, RerouteTraffic)
        else []
    )
    return tuple(dict.fromkeys(n for p in pools for n in _of(p, fleet) if n in serving))


def dependencies(q: Question, f: Facts, notes: list[str]) -> GateVerdict | None:
    """None: each has room, or nothing leans on one."""
    if q.purpose != "act":
        return None
    wanted = _wanted(q)
    if not wanted:
        return None
    if not isinstance(f.dependencies, Known):
        fact = f.dependencies or Unknown(why="it was not measured")
        return unknown(q, "G3", f"the headroom of {', '.join(wanted)}", fact)
    for name, replicas in wanted.items():
        room = f.dependencies.value.get(name)
        if room is None:
            return unknown(q, "G3", f"the headroom of {name}", Unknown(why="it was not measured"))
        if room < replicas:
            return say("G3", "deny", f"{name} has room for {room:g} more replica(s), and {replicas:.2g} are wanted")
        notes.append(f"{name} has room for {room:g} more")
    return None


def _wanted(q: Question) -> dict[str, float]:
    """Dependency → replicas' worth of load that this increment puts on it."""
    step = q.step.step
    if isinstance(step, IncreaseCapacity):
        return dict.fromkeys(_of(step.pool, q.fleet), float(step.at_once))
    if not isinstance(step, RerouteTraffic) or not isinstance(q.change, Change):
        return {}
    serving = could_load(step, q.fleet)
    wanted: dict[str, float] = {}
    for name, tps in q.change.blast.reserved_tps.items():
        pool = q.fleet.pool(name)
        for dependency in _of(name, q.fleet) if pool is not None else ():
            if dependency in serving and pool is not None:
                wanted[dependency] = wanted.get(dependency, 0.0) + tps / pool.tokens_per_second
    return wanted


def _of(name: str, fleet: Fleet) -> tuple[str, ...]:
    pool = fleet.pool(name)
    return pool.workload.depends_on if pool is not None and pool.workload is not None else ()
