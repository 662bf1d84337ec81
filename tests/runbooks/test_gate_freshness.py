"""G1 and G16 by tables: the picture is young, the clock can be trusted, and the fault is there (or gone) now."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runbooks.facts import Facts, FaultNow, GuardView, StandingReceipt, Unknown
from runbooks.gates.freshness import freshness_bound_s, goes_on
from runbooks.gates.question import Question
from runbooks.levers import RolloutHotfix
from runbooks.plan import GateVerdict
from runbooks.policy import Timing
from tests.runbooks import clusters as c
from tests.runbooks import gate_cluster as k
from tests.runbooks.gate_lab import KEY, NOW, STEP, agrees, facts, known, policy, question, table, verdict

ALL_ASK: Any = ("G2", "G3", "G8", "G9", "G10", "G13", "G15")
FRESH = "evidence 1.0 s old, facts 0.5 s (limit 5 s)"
GONE = known(FaultNow(holds=False, detail="3 tokens"))
X = Unknown(why="x")
RING = question(step=STEP.model_copy(update={"step": RolloutHotfix(rings=(("pool-a",), ("pool-b",)), image="e:2")}))


def rings(case: str = "me#1.1", lever: str = "rollout_hotfix") -> Any:
    """What the first ring left standing."""
    receipt = StandingReceipt(receipt_id="r", case=case, lever=lever, target_id="t", since=NOW)
    return known(GuardView(domain="lab", standing=(receipt,)))


def evidence(age_s: float, **more: Any) -> Facts:
    """The newest evidence is so old."""
    return facts(evidence_at=known(NOW - timedelta(seconds=age_s)), **more)


def old(age_s: float) -> Facts:
    """One fact is so old."""
    return facts(before=known({KEY: "in"}, age_s))


G1 = [
    (verdict("G1", "allow", FRESH), question(), facts()),
    (verdict("G1", "allow", "evidence 0.0 s old, facts 0.5 s (limit 5 s)"), question(), evidence(-3)),
    (verdict("G1", "allow", "evidence 5.0 s old, facts 0.5 s (limit 5 s)"), question(), evidence(5)),
    (verdict("G1", "deny", "the newest evidence is 5.1 s old; 5 s is the most"), question(), evidence(5.1)),
    (verdict("G1", "deny", "the newest evidence is 5.1 s old; 5 s is the most", unknown=True), question(), evidence(5.1, fault=X)),
    (verdict("G1", "allow", "evidence 1.0 s old, facts 5.0 s (limit 5 s)"), question(), old(5)),
    (verdict("G1", "deny", "the oldest fact is 5.1 s old; 5 s is the most", unknown=True), question(), old(5.1)),
    (verdict("G1", "allow", "evidence 1.0 s old, facts 5.1 s (limit 30 s)"), question(policy=policy(timing=Timing())), old(5.1)),
    (verdict("G1", "deny", "the oldest fact is 5.1 s old; 5 s is the most", unknown=True), question(purpose="undo"), old(5.1)),
    (verdict("G1", "allow", "facts are 0.5 s old"), question(purpose="undo"), evidence(99, skew_s=X)),
    (verdict("G1", "allow", "facts are 0.5 s old"), question(purpose="restore"), evidence(99, skew_s=X)),
    (verdict("G1", "deny", "the detector's clock is +11 s off ours; its times prove nothing"), question(), facts(skew_s=known(10.6))),
    (verdict("G1", "deny", "the detector's clock is -11 s off ours; its times prove nothing"), question(), facts(skew_s=known(-10.6))),
    (verdict("G1", "allow", FRESH), question(), facts(skew_s=known(10.0))),
    (verdict("G1", "allow", FRESH), question(), facts(skew_s=known(-10.0))),
    (verdict("G1", "deny", "the detector's clock is unknown: x", unknown=True), question(policy=policy(ask_on_unknown=ALL_ASK)),
     facts(skew_s=X)),
    (verdict("G1", "deny", "the time of the evidence is unknown: x", unknown=True),
     question(policy=policy(ask_on_unknown=ALL_ASK)), facts(evidence_at=X)),
    (verdict("G1", "allow", FRESH), question(alert_age_s=900.0), facts()),
    (verdict("G1", "allow", FRESH), question(alert_age_s=None), facts()),
    (verdict("G1", "deny", "the alert was 60 min old when it came; 15 min is the most"), question(alert_age_s=3600.0), facts()),
    (verdict("G1", "deny", "the alert was 15 min old when it came; 15 min is the most"), question(alert_age_s=900.1), facts()),
    (verdict("G1", "deny", "the alert was 600 min old when it came; 100 min is the most"),
     question(alert_age_s=36000.0, policy=policy(timing=Timing(scrape_period_s=2.5, max_alert_age_s=6000.0))), facts()),
    # Later rings of a rollout rest on the ring before, and not on the alert that began it.
    (verdict("G1", "allow", "facts are 0.5 s old; the rings before are the evidence"), RING, evidence(99, guard=rings())),
    (verdict("G1", "deny", "the newest evidence is 99.0 s old; 5 s is the most"), RING, evidence(99)),
    (verdict("G1", "deny", "the newest evidence is 99.0 s old; 5 s is the most"), RING, evidence(99, guard=rings("me-too#1"))),
    (verdict("G1", "deny", "the newest evidence is 99.0 s old; 5 s is the most"),
     RING, evidence(99, guard=rings(lever="rollback_change"))),
    (verdict("G1", "deny", "the newest evidence is 99.0 s old; 5 s is the most"), RING, evidence(99, guard=X)),
    (verdict("G1", "deny", "the newest evidence is 99.0 s old; 5 s is the most"),
     question(), evidence(99, guard=rings(lever="isolate_endpoint"))),
    (verdict("G1", "deny", "the oldest fact is 9.0 s old; 5 s is the most", unknown=True),
     k.ask(k.DRAIN, k.CORDON), k.facts(cluster=k.known(c.state(), 9))),
    (verdict("G1", "deny", "the oldest fact is 9.0 s old; 5 s is the most", unknown=True),
     k.ask(k.GROW, {"gpus": 1}), k.facts(dependencies=k.known({"registry": 5.0}, 9))),
]  # fmt: skip

NO_WORD = "whether the fault still holds is unknown: x"
G16 = [
    (verdict("G16", "allow", "the fault holds: no token"), question(), facts()),
    (verdict("G16", "hold", "the fault cannot be seen now: 3 tokens"), question(), facts(fault=GONE)),
    (verdict("G16", "hold", "the fault is still there: no token"), question(purpose="restore"), facts()),
    (verdict("G16", "allow", "the fault is gone: 3 tokens"), question(purpose="restore"), facts(fault=GONE)),
    (verdict("G16", "allow", "undo does not need the fault"), question(purpose="undo"), facts(fault=X)),
    (verdict("G16", "deny", NO_WORD, unknown=True), question(), facts(fault=X)),
    (verdict("G16", "deny", NO_WORD, unknown=True), question(purpose="restore"), facts(fault=X)),
    (verdict("G16", "deny", NO_WORD, unknown=True), question(policy=policy(ask_on_unknown=ALL_ASK)), facts(fault=X)),
    (verdict("G16", "allow", "the rings before have mended it: 3 tokens"), RING, facts(fault=GONE, guard=rings())),
    (verdict("G16", "allow", "the fault holds: no token"), RING, facts(guard=rings())),
    (verdict("G16", "hold", "the fault cannot be seen now: 3 tokens"), RING, facts(fault=GONE)),
    (verdict("G16", "hold", "the fault cannot be seen now: 3 tokens"), RING, facts(fault=GONE, guard=X)),
    (verdict("G16", "hold", "the fault is still there: no token"),
     RING.model_copy(update={"purpose": "restore"}), facts(guard=rings())),
]  # fmt: skip


@table(*G1, *G16)
def test_only_on_young_facts_and_only_while_the_fault_is_there(
    wanted: GateVerdict, asked: Question, seen: Facts
) -> None:
    """At the bound it is allowed, a tenth of a second later it is not."""
    agrees(wanted, asked, seen)


@pytest.mark.parametrize(("period_s", "bound_s"), [(2.5, 5.0), (1.0, 5.0), (15.0, 30.0)])
def test_facts_may_be_two_scrape_periods_old_and_five_seconds_always(period_s: float, bound_s: float) -> None:
    """A fast scrape must not make a human-sized check impossible."""
    assert freshness_bound_s(policy(timing=Timing(scrape_period_s=period_s))) == bound_s


def test_only_an_act_of_a_later_ring_goes_on() -> None:
    """A way back rests on what stands, and on nothing that the rings before have shown."""
    assert goes_on(RING, facts(guard=rings()))
    for purpose in ("undo", "restore"):
        assert not goes_on(RING.model_copy(update={"purpose": purpose}), facts(guard=rings()))
