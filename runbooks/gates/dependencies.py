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
    match step:
        case IncreaseCapacity():
            return _of(step.pool, fleet)
        case RerouteTraffic():
            route = fleet.route(step.route)
            serving = {d.name for d in fleet.dependencies if d.serves}
            pools = [p for p in (route.pools if route is not None else ()) if p != step.away_from]
            return tuple(dict.fromkeys(n for p in pools for n in _of(p, fleet) if n in serving))
        case _:
            return ()


def dependencies(q: Question, change: Change, f: Facts, notes: list[str]) -> GateVerdict | None:
    """None: each has room, or nothing leans on one."""
    if q.purpose != "act":
        return None
    wanted = _wanted(q.step.step, change, q.fleet)
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


def _wanted(step: Step, change: Change, fleet: Fleet) -> dict[str, float]:
    """Dependency → replicas' worth of load that this increment puts on it."""
    if isinstance(step, IncreaseCapacity):
        return dict.fromkeys(_of(step.pool, fleet), float(step.at_once))
    serving = could_load(step, fleet)
    wanted: dict[str, float] = {}
    for name, tps in change.blast.reserved_tps.items():
        for pool in (p for p in fleet.pools if p.name == name):  # who is not in the fleet is refused by its own state
            for dependency in (n for n in _of(name, fleet) if n in serving):
                wanted[dependency] = wanted.get(dependency, 0.0) + tps / pool.tokens_per_second
    return wanted


def _of(name: str, fleet: Fleet) -> tuple[str, ...]:
    pool = fleet.pool(name)
    return pool.workload.depends_on if pool is not None and pool.workload is not None else ()
