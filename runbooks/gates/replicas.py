"""How many replicas of a pool would still answer after a change: what G3 and G5 both rest on."""

from __future__ import annotations

from runbooks.change import Change, replicas_key
from runbooks.facts import Facts, Known, PoolState, Unknown
from runbooks.gates.question import Question, unknown
from runbooks.levers import IsolateEndpoint, RestartEngine, RollbackChange, RolloutHotfix
from runbooks.plan import GateVerdict


def going(q: Question) -> dict[str, int]:
    """Replicas that a restore or an undo takes away again, by pool."""
    if q.purpose == "act" or not isinstance(q.change, Change):
        return {}
    out: dict[str, int] = {}
    for key, after in q.change.after.items():
        before, (family, _, pool) = q.change.before.get(key), key.partition("/")
        if family == "replicas" and isinstance(before, int) and isinstance(after, int) and after < before:
            out[pool] = before - after
    return out


def no_fewer(q: Question, state: PoolState, left: int) -> bool:
    """True for a rollout that only replaces what is broken anyway: it must not be kept from mending a broken pool."""
    return isinstance(q.step.step, RolloutHotfix | RollbackChange) and state.answering == left


def answering(q: Question, f: Facts, gate: str, state: PoolState) -> int | GateVerdict:
    """Endpoints that answer now and would still be in rotation after the change."""
    if state.answering is None:
        return unknown(q, gate, f"how many endpoints of {state.pool} answer", Unknown(why="they could not be probed"))
    assert isinstance(q.change, Change)
    blast = q.change.blast
    down = blast.endpoints_down.get(state.pool, 0) + blast.restarting.get(state.pool, 0)
    step = q.step.step
    if state.pool in going(q):
        # Of those that are too many the controller ends first what is not ready: an undo of what never served takes none.
        return min(state.answering, int(q.change.after[replicas_key(state.pool)]))
    # By default the fault of an endpoint is that it gave no token just now: then it is not among those that answer. By a
    # runbook's own criterion (bad output) or on another target the one that is taken out may well be one of them.
    if isinstance(step, RolloutHotfix | RollbackChange):
        # The controller lets replicas that are not ready go first: the more are broken, the less it takes.
        return min(state.answering, max(0, state.endpoints - down))
    sick = (
        isinstance(step, IsolateEndpoint | RestartEngine)
        and step.endpoint is not None
        and q.step.healthy is None
        and q.target.endpoint == step.endpoint
        and isinstance(f.fault, Known)
        and f.fault.value.holds
    )
    return state.answering - (0 if sick else down)
