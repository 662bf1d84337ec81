"""G15 by a table: freezes and the error budget stop changes, and never what takes load from a sick part."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question
from runbooks.levers import (
    FreezeChanges,
    IncreaseCapacity,
    IsolateEndpoint,
    Page,
    RebalanceNodes,
    RebootNode,
    RecycleConnections,
    RerouteTraffic,
    ResetGpu,
    RestartEngine,
    RollbackChange,
    RolloutHotfix,
    ShedLoad,
    Step,
    is_change,
)
from runbooks.plan import GateVerdict
from runbooks.policy import ErrorBudget, Freeze
from tests.runbooks.gate_lab import NOW, STEP, agrees, approval, facts, known, policy, question, table, verdict

HOTFIX = RolloutHotfix(rings=(("pool-a",),), image="engine:2")


def at(seconds: float) -> datetime:
    """So many seconds from now."""
    return NOW + timedelta(seconds=seconds)


def freeze(starts: float = -60, ends: float = 3600, **more: Any) -> Freeze:
    """Changes stop for the launch."""
    base: dict[str, Any] = {"name": "launch", "reason": "new model", "starts": at(starts), "ends": at(ends)}
    return Freeze(**{**base, **more})


def rollout(*freezes: Freeze, domains: tuple[str, ...] = ("lab",), then: Any = "ask", **more: Any) -> Question:
    """May this hotfix go out?"""
    step = STEP.model_copy(update={"step": HOTFIX, "domains": domains})
    rules = policy(freezes=freezes, error_budget=ErrorBudget(least_left=0.1, then=then), **more)
    return question(step=step, policy=rules)


FROZEN = "changes are frozen in lab until 2026-11-24 13:00 (launch: new model)"
MAY = "; a named, verified person may allow it"
NO_BUDGET = "no error budget is declared for this route"
FREE = verdict("G15", "allow", f"no freeze in lab; {NO_BUDGET}")
DENIED = verdict("G15", "deny", FROZEN, lasting=True)
ASKED = verdict("G15", "ask", FROZEN + MAY)
SOFT = freeze(then="ask")
LOW = facts(error_budget=known(0.05))
NOT_MEASURED = facts(error_budget=Unknown(why="no data"))
NO_CHANGE = verdict("G15", "allow", "no change: it takes load from what is sick, or goes back to what stood before")
SPENT = "5% of the error budget is left; a change wants 10%"
G15 = [
    (FREE, rollout(), facts()),
    (DENIED, rollout(freeze()), facts()),
    (DENIED, rollout(freeze(starts=0)), facts()),
    (FREE, rollout(freeze(starts=0.001)), facts()),
    (FREE, rollout(freeze(ends=0)), facts()),
    (verdict("G15", "deny", "changes are frozen in lab until 2026-11-24 12:00 (launch: new model)", lasting=True),
     rollout(freeze(ends=0.001)), facts()),
    (DENIED, rollout(freeze()), facts(approval=approval())),
    (DENIED, rollout(freeze(domains=("other", "lab"))), facts()),
    (FREE, rollout(freeze(domains=("other",))), facts()),
    (verdict("G15", "allow", f"no freeze in other; {NO_BUDGET}"), rollout(freeze(domains=("lab",)), domains=("other",)), facts()),
    (DENIED, rollout(freeze(domains=("lab",)), domains=("other", "lab")), facts()),
    (DENIED, rollout(freeze(domains=("lab",)), domains=()), facts()),
    (verdict("G15", "allow", f"no freeze in lab; no freeze in other; {NO_BUDGET}"), rollout(domains=("lab", "other")), facts()),
    (ASKED, rollout(SOFT), facts()),
    (ASKED, rollout(SOFT), facts(approval=approval(verified=False))),
    (ASKED, rollout(SOFT), facts(approval=approval(approvers=()))),
    (ASKED, rollout(SOFT), facts(approval=approval(digest="other"))),
    (ASKED, rollout(SOFT), facts(approval=approval(expires_at=NOW))),
    (verdict("G15", "allow", f"{FROZEN}; allowed by ana; {NO_BUDGET}"), rollout(SOFT), facts(approval=approval(expires_at=at(0.001)))),
    (verdict("G15", "allow", f"{FROZEN}; allowed by ana, ben; {NO_BUDGET}"),
     rollout(SOFT), facts(approval=approval(approvers=("ana", "ben")))),
    # What people may lift hides nothing that they may not.
    (DENIED, rollout(SOFT, freeze(ends=3600)), facts()),
    (verdict("G15", "deny", "changes are frozen in other until 2026-11-24 13:00 (launch: new model)", lasting=True),
     rollout(freeze(then="ask", domains=("lab",)), freeze(domains=("other",)), domains=("lab", "other")), facts()),
    (verdict("G15", "deny", SPENT, lasting=True), rollout(SOFT, then="deny"), LOW),
    (verdict("G15", "deny", "what is left of the error budget is unknown: no data", unknown=True), rollout(SOFT), NOT_MEASURED),
    (verdict("G15", "allow", "no freeze in lab; 10% of the error budget is left"), rollout(), facts(error_budget=known(0.1))),
    (verdict("G15", "ask", "10% of the error budget is left; a change wants 10%" + MAY), rollout(), facts(error_budget=known(0.0999))),
    (verdict("G15", "ask", SPENT + MAY), rollout(), LOW),
    (verdict("G15", "ask", SPENT + MAY), rollout(), facts(error_budget=known(0.05), approval=approval(verified=False))),
    (verdict("G15", "allow", f"no freeze in lab; {SPENT}; allowed by ana"),
     rollout(), facts(error_budget=known(0.05), approval=approval())),
    (verdict("G15", "deny", SPENT, lasting=True), rollout(then="deny"), facts(error_budget=known(0.05), approval=approval())),
    (verdict("G15", "deny", "what is left of the error budget is unknown: no data", unknown=True), rollout(), NOT_MEASURED),
    (verdict("G15", "ask", "what is left of the error budget is unknown (no data); policy asks people"),
     rollout(ask_on_unknown=("G15",)), NOT_MEASURED),
    # Mitigation goes on, whatever the calendar says.
    (NO_CHANGE, question(policy=policy(freezes=(freeze(),))), facts(error_budget=known(0.0))),
    (NO_CHANGE, question(policy=policy(freezes=(freeze(),))), NOT_MEASURED),
    (NO_CHANGE, rollout(freeze()).model_copy(update={"purpose": "undo"}), LOW),
    (NO_CHANGE, rollout(freeze()).model_copy(update={"purpose": "restore"}), NOT_MEASURED),
]  # fmt: skip


@table(*G15)
def test_changes_wait_and_mitigation_does_not(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """The first and the last instant of a freeze, whose it is, and who may lift it."""
    agrees(wanted, asked, seen)


@pytest.mark.parametrize(
    "step",
    [
        RerouteTraffic(route="chat", away_from="pool-a"), IsolateEndpoint(pool="pool-a", endpoint="a"),
        RecycleConnections(pool="pool-a"), ShedLoad(route="chat", tier="batch"), RebalanceNodes(node="n1"),
        RestartEngine(pool="pool-a", older_than=NOW), IncreaseCapacity(pool="pool-a"),
        RollbackChange(pool="pool-a", fault_began=NOW), FreezeChanges(cluster="lab"), ResetGpu(node="n1", gpu="0"),
        RebootNode(node="n1"), Page(summary="x"),
    ],
    ids=lambda step: step.lever,
)  # fmt: skip
def test_only_a_hotfix_brings_something_new(step: Step) -> None:
    """All other levers take load away, give room, or return to what was known to be good."""
    assert is_change(step) is False
    assert is_change(HOTFIX) is True
