"""Parts of the picture that the gates get, and what of it goes into the history. Nothing is read here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from activities.standing_now import Declared
from runbooks.change import Change
from runbooks.cluster import ClusterState
from runbooks.facts import ControlNow, Facts, GuardView, Known, Settings, Unknown
from runbooks.fleet import Fleet, homes_of
from runbooks.guard_book import remedy
from runbooks.levers import ClusterStep, NodeStep
from runbooks.plan import CheckRequest

ASKED_TOLD = 20
SMALL_CLUSTER = 60
"""Nodes and pods up to which the whole state goes into the history."""


def domain_of(change: Change, fleet: Fleet, domains: Sequence[str]) -> str | None:
    """The domain whose permit writes the change: the first that all of its settings lie in. None: there is no such one."""
    homes = [homes_of(key, fleet) for key in change.after]
    return next((d for d in sorted(domains) if all(d in h for h in homes)), None)


def control_now(
    req: CheckRequest, acted: Known[Declared] | Unknown, before: Known[Settings] | Unknown, took_s: float
) -> Known[ControlNow] | Unknown:
    """How the system that the step works through answers. An agent of a node is asked by its queue (`_deaf`)."""
    if isinstance(acted, Unknown):
        return acted
    kind: Literal["traffic", "cluster", "node"] = "traffic"
    if isinstance(req.step.step, NodeStep):
        kind = "node"
    elif isinstance(req.step.step, ClusterStep):
        kind = "cluster"
    seen = before.observed_at if isinstance(before, Known) else acted.observed_at
    return Known(value=ControlNow(kind=kind, answered_in_s=took_s), observed_at=seen)


def state_of(placed: Known[Declared] | Unknown | None) -> Known[ClusterState] | Unknown | None:
    if isinstance(placed, Unknown) or placed is None:
        return placed
    if placed.value.state is None:
        return Unknown(why="this actuator tells no state of a cluster")
    return Known[ClusterState](value=placed.value.state, observed_at=placed.observed_at)


def told(facts: Facts, req: CheckRequest) -> Facts:
    """What of the picture goes into the history: what this step may touch, and whatever is not as it should be."""
    return facts.model_copy(update={"cluster": _cluster(facts.cluster, req), "guard": _guard(facts.guard, req)})


def _guard(view: Known[GuardView] | Unknown, req: CheckRequest) -> Known[GuardView] | Unknown:
    """Of the Guard's counters those of this remedy: all of them would be a few hundred kilobytes in each check."""
    if isinstance(view, Unknown):
        return view
    what = remedy(req.step.step.lever, req.target.id, req.failure_class)
    own = {
        "attempts": {k: v for k, v in view.value.attempts.items() if k == what},
        "ineffective": {k: v for k, v in view.value.ineffective.items() if k == what},
        "asked": view.value.asked[-ASKED_TOLD:],
    }
    return Known(value=view.value.model_copy(update=own), observed_at=view.observed_at)


def _cluster(state: Known[ClusterState] | Unknown | None, req: CheckRequest) -> Known[ClusterState] | Unknown | None:
    if not isinstance(state, Known) or len(state.value.nodes) + len(state.value.pods) <= SMALL_CLUSTER:
        return state
    pools = {t.split("/")[2] for t in req.step.targets if "/service/" in t} | {req.target.service}
    named = {req.target.node, getattr(req.step.step, "node", None)}
    pods = {k: p for k, p in state.value.pods.items() if p.pool in pools or p.node in named}
    nodes = {
        k: n
        for k, n in state.value.nodes.items()
        if k in named or n.cordoned or n.sick_gpus or any(p.node == k for p in pods.values())
    }
    left_out = len(state.value.nodes) - len(nodes) + len(state.value.pods) - len(pods)
    told = ClusterState(nodes=nodes, pods=pods, workloads=state.value.workloads, left_out=left_out)
    return Known[ClusterState](value=told, observed_at=state.observed_at)
