"""Several domains seen as one, for a step that loads or changes more than one of them. Pure; the worse word counts."""

from __future__ import annotations

from collections.abc import Sequence

from runbooks.cluster import ClusterState
from runbooks.facts import GuardView, Known, PoolState, Spent, Unknown


def one_view(views: Sequence[Known[GuardView] | Unknown], mine: str = "") -> Known[GuardView] | Unknown:
    """What the Guards of all the domains say. One that cannot be asked makes the whole unknown. `mine`: the workflow that
    asks; a domain that it holds is named first, so that it gives it back."""
    known = [v for v in views if isinstance(v, Known)]
    lost = next((v for v in views if isinstance(v, Unknown)), None)
    if lost is not None:
        return lost
    if len(known) == 1:
        return known[0]
    seen = [v.value for v in known]
    standing = {s.receipt_id: s for v in seen for s in v.standing}
    return Known(
        observed_at=min(v.observed_at for v in known),
        value=GuardView(
            domain=seen[0].domain,
            halted=next((v.halted for v in seen if v.halted), None),
            halted_since=min((v.halted_since for v in seen if v.halted_since), default=None),
            resumed_at=max((v.resumed_at for v in seen if v.resumed_at), default=None),
            breaker=next((v.breaker for v in seen if v.breaker), None),
            dirty=next((v.dirty for v in seen if v.dirty), None),
            holder=mine if any(v.holder == mine for v in seen) else next((v.holder for v in seen if v.holder), None),
            held_since=min((v.held_since for v in seen if v.held_since), default=None),
            queue=max(v.queue for v in seen),
            correlated=next((v.correlated for v in seen if v.correlated), None),
            asked=tuple(dict.fromkeys(a for v in seen for a in v.asked)),
            last_change_at=max((v.last_change_at for v in seen if v.last_change_at), default=None),
            standing=tuple(standing.values()),
            acts_last_hour=max(v.acts_last_hour for v in seen),
            # Each domain has its own budget, and the act counts in each: the one that has spent most decides.
            spent=Spent(
                endpoints={p: max(v.spent.endpoints.get(p, 0) for v in seen) for v in seen for p in v.spent.endpoints},
                nodes=max(v.spent.nodes for v in seen),
                gpus=max(v.spent.gpus for v in seen),
                share=max(v.spent.share for v in seen),
            ),
            attempts={k: max((v.attempts.get(k, ()) for v in seen), key=len) for v in seen for k in v.attempts},
            ineffective={
                k: max(v.ineffective[k] for v in seen if k in v.ineffective) for v in seen for k in v.ineffective
            },
            shadow={k: max(v.shadow.get(k, 0) for v in seen) for v in seen for k in v.shadow},
        ),
    )


def one_picture(pools: Sequence[Known[dict[str, PoolState]] | Unknown]) -> Known[dict[str, PoolState]] | Unknown:
    """The pools of all the domains. Those of a domain that cannot be read make the whole unknown."""
    lost = next((p for p in pools if isinstance(p, Unknown)), None)
    if lost is not None:
        return lost
    known = [p for p in pools if isinstance(p, Known)]
    return Known(
        value={name: state for p in known for name, state in p.value.items()},
        observed_at=min(p.observed_at for p in known),
    )


def one_state(states: Sequence[ClusterState]) -> ClusterState | str:
    """The clusters as one; or why they cannot be told apart."""
    nodes = [n for s in states for n in s.nodes]
    pods = [p for s in states for p in s.pods]
    pools = [w for s in states for w in s.workloads]
    for names, what in ((nodes, "node"), (pods, "pod"), (pools, "pool")):
        twice = next((n for n in names if names.count(n) > 1), None)
        if twice is not None:
            return f"two clusters have a {what} named {twice}"
    return ClusterState(
        nodes={k: v for s in states for k, v in s.nodes.items()},
        pods={k: v for s in states for k, v in s.pods.items()},
        workloads={k: v for s in states for k, v in s.workloads.items()},
    )
