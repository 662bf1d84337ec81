"""G12: requests go only where they may be served."""

from __future__ import annotations

from runbooks.change import Change
from runbooks.facts import Facts
from runbooks.fleet import Fleet, Pool
from runbooks.gates.question import Question, say
from runbooks.plan import GateVerdict


def g12_placement(q: Question, f: Facts) -> GateVerdict:
    """Whoever receives requests of another pool may serve them, by residency and tenant. A lost cluster is no leave to take
    prompts out of their region: when `infra.capacity_loss` moves load, it asks for residency (no incident; our inference)."""
    # A pair may be declared one way only: what moved by it must be able to come home.
    if not isinstance(q.change, Change) or q.purpose != "act":
        return say("G12", "allow", "nothing receives requests that it did not serve before")
    gives, takes = moved(q.change)
    if not takes or not gives:
        return say("G12", "allow", "no pool receives requests of another")
    for giver in gives:
        for taker in takes:
            wrong = _may_not(q, q.fleet, giver, taker)
            if wrong:
                return GateVerdict(gate="G12", outcome="deny", reason=wrong, lasting=True)
    return say("G12", "allow", f"{', '.join(takes)} may serve what {', '.join(gives)} did")


def moved(change: Change) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Pools whose weight falls, and pools whose weight rises."""
    gives: list[str] = []
    takes: list[str] = []
    for key, after in change.after.items():
        family, _, rest = key.partition("/")
        before, pool = change.before.get(key, 0), rest.rpartition("/")[2]
        if family != "weight" or not isinstance(after, int) or not isinstance(before, int):
            continue
        (takes if after > before else gives if after < before else []).append(pool)
    return tuple(gives), tuple(takes)


def _may_not(q: Question, fleet: Fleet, giver: str, taker: str) -> str:
    """Why the taker may not serve what the giver did; empty when it may. What is not declared is not known: it denies."""
    source, sink = fleet.pool(giver), fleet.pool(taker)
    if source is None or sink is None:
        return f"pool {giver if source is None else taker} is not in the inventory: where it may serve is unknown"
    return _residency(q, source, sink) or _tenancy(source, sink)


def _residency(q: Question, source: Pool, sink: Pool) -> str:
    if not source.residency:
        if q.policy.placement.undeclared == "deny":
            return f"{source.name} declares no residency, and policy denies a move of what is not declared"
        return ""
    if not sink.residency:
        return f"{source.name} serves residency {source.residency}, and {sink.name} declares none"
    if sink.residency in (source.residency, *q.policy.placement.residency.get(source.residency, ())):
        return ""
    return f"{source.name} serves residency {source.residency}, and {sink.name} is in {sink.residency}"


def _tenancy(source: Pool, sink: Pool) -> str:
    """A pool that names no tenant serves all of them: then only another such pool may stand in for it."""
    if not sink.tenants:
        return (
            f"{source.name} serves {', '.join(source.tenants)} alone, and {sink.name} is shared"
            if source.tenants
            else ""
        )
    if not source.tenants:
        return f"{sink.name} serves {', '.join(sink.tenants)} alone, and {source.name} is shared by all"
    others = [t for t in source.tenants if t not in sink.tenants]
    return f"{sink.name} does not serve tenant {', '.join(others)} of {source.name}" if others else ""
