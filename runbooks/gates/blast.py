"""G2: how much is taken away at once and in all, standing receipts included."""

from __future__ import annotations

from collections.abc import Sequence

from runbooks.change import Blast, Change
from runbooks.facts import Facts, StandingReceipt, Unknown
from runbooks.gates.question import Question, named, say, unknown
from runbooks.guard_book import over_budget
from runbooks.plan import GateVerdict


def g2_blast_radius(q: Question, f: Facts) -> GateVerdict:
    """Endpoints, nodes, GPUs and shares taken away stay within policy, absolute and relative, per act and per hour,
    standing receipts included. A drain too wide took every backend in oai-2024-05-21; users ask for an absolute bound
    (NVSentinel #1686)."""
    if not isinstance(q.change, Change) or q.purpose != "act":
        return say("G2", "allow", "nothing more is taken away")
    if isinstance(f.guard, Unknown):
        return unknown(q, "G2", "what already stands in the domain", f.guard)
    limits, blast = q.limits, q.change.blast
    standing = f.guard.value.standing
    if f.guard.value.acts_last_hour >= limits.max_acts_per_hour:
        return say(
            "G2",
            "deny",
            f"{f.guard.value.acts_last_hour} acts in the last hour; the limit is {limits.max_acts_per_hour}",
        )
    over = over_budget(f.guard.value.spent, blast, q.policy.domain)
    if over:
        return say("G2", "deny", over)
    for pool, count in blast.endpoints_down.items():
        found = q.fleet.pool(pool)
        if found is None:
            return say("G2", "deny", f"pool {pool} is not in the inventory")
        down = count + sum(s.endpoints_down.get(pool, 0) for s in standing)
        if down > limits.max_endpoints_down:
            return say(
                "G2",
                "deny",
                f"{down} endpoints of {pool} would be out; the limit is {limits.max_endpoints_down}{named(standing)}",
            )
        if down / found.size > limits.max_share_down + 1e-9:
            return say(
                "G2",
                "deny",
                f"{down} of {found.size} endpoints of {pool} would be out; the limit is {limits.max_share_down:.0%}",
            )
    for pool, count in blast.restarting.items():
        down = count + sum(s.endpoints_down.get(pool, 0) for s in standing)
        if down > limits.max_endpoints_down:
            return say(
                "G2",
                "deny",
                f"{down} replicas of {pool} would be down; the limit is {limits.max_endpoints_down}{named(standing)}",
            )
    taken = _nodes_and_gpus(q, q.change, standing)
    if taken is not None:
        return taken
    for route, share in blast.share_moved.items():
        total = share + sum(s.share_moved.get(route, 0.0) for s in standing)
        if share > limits.largest_increment + 1e-9:
            return say(
                "G2", "deny", f"{share:.0%} of {route} at once; the largest increment is {limits.largest_increment:.0%}"
            )
        if total > limits.largest_share + 1e-9:
            return say(
                "G2",
                "deny",
                f"{total:.0%} of {route} would be moved; the limit is {limits.largest_share:.0%}{named(standing)}",
            )
    if blast.refused_share > limits.largest_increment + 1e-9:
        return say(
            "G2",
            "deny",
            f"{blast.refused_share:.0%} more refused at once; the largest increment is {limits.largest_increment:.0%}",
        )
    return say("G2", "allow", f"{_taken(blast)}; {_beside(standing)}")


def _taken(blast: Blast) -> str:
    """What goes, for whoever must say yes to it."""
    parts = [
        *(f"{count} of {pool} out" for pool, count in blast.endpoints_down.items()),
        *(f"{count} of {pool} down at once" for pool, count in blast.restarting.items()),
        *(f"node {name} out" for name in blast.nodes),
        *([f"{blast.gpus} GPUs taken"] if blast.gpus else []),
        *(f"{share:.0%} of {route} moved" for route, share in blast.share_moved.items()),
        *(f"{share:.0%} of {route} on another version" for route, share in blast.changed.items()),
        *([f"{blast.refused_share:.0%} more refused"] if blast.refused_share else []),
    ]
    return ", ".join(parts) or "nothing goes out of service"


def _beside(standing: Sequence[StandingReceipt]) -> str:
    return (
        f"{len(standing)} change(s) of the domain stand already" if standing else "no other change of the domain stands"
    )


def _nodes_and_gpus(q: Question, change: Change, standing: Sequence[StandingReceipt]) -> GateVerdict | None:
    """A node that is out must rejoin, checked under load, before a second goes (they did not in oai-2023-03-20)."""
    blast, limits = change.blast, q.limits
    mine = f"{q.target.id}"
    others = [s for s in standing if not (s.target_id == mine and s.lever in ("rebalance_nodes", "reboot_node"))]
    # GPUs that are out and GPUs that are taken more are two things: a surge must not keep a sick node in service.
    alike = [s for s in others if (s.lever == "increase_capacity") == (q.step.step.lever == "increase_capacity")]
    out = {n for s in others for n in s.nodes} | set(blast.nodes)
    if blast.nodes and len(out) > limits.max_nodes_out:
        return say(
            "G2",
            "deny",
            f"{len(out)} nodes would be out ({', '.join(sorted(out))}); the limit is {limits.max_nodes_out}",
        )
    gpus = blast.gpus + sum(s.gpus for s in alike) if blast.gpus else 0
    if gpus > limits.max_gpus:
        return say("G2", "deny", f"{gpus} GPUs would be taken; the limit is {limits.max_gpus}{named(standing)}")
    return None
