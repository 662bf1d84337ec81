"""An auditor's look at what was done, that knows nothing of gates or Guard: were two changes under way in one domain at once,
and did an hour's acts stay within the domain's budget? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import combinations
from typing import NamedTuple

from runbooks.change import Blast
from runbooks.policy import Policy
from worker.replay_play import Played

HOUR = timedelta(hours=1)


class Made(NamedTuple):
    """One change, from the act until its effect was known. `case`: whose it was. `counts`: an act, no undo or restore."""

    case: str
    domains: tuple[str, ...]
    lever: str
    begins: datetime
    ends: datetime
    blast: Blast
    counts: bool = True


def made(played: Played) -> list[Made]:
    """What Interlock changed: each increment until the end of its verify."""
    ends: dict[str, datetime] = {}
    for proof in played.proofs:  # the first: a step that is proven as a whole once more holds no lock
        ends.setdefault(proof.request.receipt.id, proof.at)
    return [
        Made(
            act.request.case,
            act.request.step.domains,
            act.request.step.step.lever,
            act.began,
            max(act.ended, ends.get(act.receipt.id, act.ended)),
            act.request.change.blast,
            act.request.permit.purpose == "act",
        )
        for act in played.acts
        if act.receipt is not None
    ]


def violations(changes: Sequence[Made], policy: Policy) -> list[str]:
    """One sentence each, each once."""
    return list(dict.fromkeys([*_at_once(changes), *_budgets(changes, policy)]))


def _at_once(changes: Sequence[Made]) -> Iterator[str]:
    for one, other in combinations(changes, 2):
        overlap = one.begins < other.ends and other.begins < one.ends
        for domain in set(one.domains) & set(other.domains):
            if overlap and one.case != other.case:
                yield f"two changes at once in {domain}: {one.lever} and {other.lever}"


def _budgets(changes: Sequence[Made], policy: Policy) -> Iterator[str]:
    """By what each change's plan said that it takes."""
    limits = policy.domain
    for domain in sorted({d for c in changes for d in c.domains}):
        acts = [c for c in changes if c.counts and domain in c.domains]
        most = {
            "endpoints": (_most(acts, lambda b: b.endpoints), limits.endpoints_per_hour),
            "nodes": (_most(acts, lambda b: len(b.nodes)), limits.nodes_per_hour),
            "GPUs": (_most(acts, lambda b: b.gpus), limits.gpus_per_hour),
        }
        for what, (found, limit) in most.items():
            if found > limit:
                yield f"{found:g} {what} within an hour in {domain}; {limit:g} is the budget"


def _most(acts: Sequence[Made], size: Callable[[Blast], float]) -> float:
    """The most within any hour."""
    return max((sum(size(b.blast) for b in acts if a.begins <= b.begins < a.begins + HOUR) for a in acts), default=0)
