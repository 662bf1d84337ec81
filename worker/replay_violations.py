"""An auditor's look at what was done, that knows nothing of gates or Guard: were two changes under way in one domain at once,
and did an hour's acts stay within the domain's budget? Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from runbooks.change import Blast
from runbooks.policy import Policy
from worker.replay_play import Played
from worker.replay_watch import Acted

HOUR = timedelta(hours=1)


class _Held(NamedTuple):
    """From the act until what was proven of it."""

    case: str
    domain: str
    begins: datetime
    ends: datetime
    what: str


def violations(played: Played, policy: Policy) -> list[str]:
    """One sentence each."""
    return [*_at_once(played), *_budgets(played, policy)]


def _at_once(played: Played) -> Iterator[str]:
    ends = {proof.request.receipt.id: proof.at for proof in played.proofs}
    held = [
        _Held(a.request.case, domain, a.began, max(a.ended, ends.get(a.receipt.id, a.ended)), a.request.step.step.lever)
        for a in played.acts
        if a.receipt is not None
        for domain in a.request.step.domains
    ]
    for n, one in enumerate(held):
        for other in held[n + 1 :]:
            same = one.domain == other.domain and one.case != other.case
            if same and one.begins < other.ends and other.begins < one.ends:
                yield f"two changes at once in {one.domain}: {one.what} and {other.what}"


def _budgets(played: Played, policy: Policy) -> Iterator[str]:
    """By what each act's plan said that it takes."""
    limits = policy.domain
    acts = [a for a in played.acts if a.receipt is not None and a.request.permit.purpose == "act"]
    for domain in sorted({d for a in acts for d in a.request.step.domains}):
        mine = [a for a in acts if domain in a.request.step.domains]
        most = {
            "endpoints": (_most(mine, lambda b: b.endpoints), limits.endpoints_per_hour),
            "nodes": (_most(mine, lambda b: len(b.nodes)), limits.nodes_per_hour),
            "GPUs": (_most(mine, lambda b: b.gpus), limits.gpus_per_hour),
        }
        for what, (found, limit) in most.items():
            if found > limit:
                yield f"{found:g} {what} within an hour in {domain}; {limit:g} is the budget"


def _most(acts: list[Acted], size: Callable[[Blast], float]) -> float:
    """The most within any hour."""

    return max(
        (sum(size(b.request.change.blast) for b in acts if a.began <= b.began < a.began + HOUR) for a in acts),
        default=0,
    )
