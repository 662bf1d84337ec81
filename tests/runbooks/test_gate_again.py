"""G10 and G14 by tables: attempts and what did not help; and plans that a stop or a long wait has made old."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from runbooks.facts import Facts, GuardView, Unknown
from runbooks.gates.question import Question
from runbooks.plan import GateVerdict
from runbooks.policy import LeverPolicy, Timing
from tests.runbooks.gate_lab import NOW, SICK, agrees, facts, known, policy, question, table, verdict

REMEDY = f"isolate_endpoint|lab/service/pool-a/endpoint/{SICK}|engine.hang"
TARGET = f"lab/service/pool-a/endpoint/{SICK}"


def ago(seconds: float) -> datetime:
    """A moment before the judge's now."""
    return NOW - timedelta(seconds=seconds)


def guard(**more: Any) -> Facts:
    """All is well, and the Guard says so much more."""
    return facts(guard=known(GuardView(domain="lab", **more)))


def tried(*ages: float, of: str = REMEDY) -> Facts:
    """Attempts so many seconds ago."""
    return guard(attempts={of: tuple(ago(a) for a in ages)})


LOST = facts(guard=Unknown(why="it does not answer"))
ONCE = policy(levers={"isolate_endpoint": LeverPolicy(attempts=1, cooldown_s=600.0)})
G10 = [
    (verdict("G10", "allow", "attempt 1 of 2"), question(), facts()),
    (verdict("G10", "allow", "attempt 2 of 2"), question(), tried(10)),
    (verdict("G10", "deny", f"isolate_endpoint was tried 2 time(s) on {TARGET} within 3600 s; 2 is the most, now it is people's",
             lasting=True), question(), tried(10, 3599)),
    (verdict("G10", "allow", "attempt 2 of 2"), question(), tried(10, 3600)),
    (verdict("G10", "deny", f"isolate_endpoint was tried 1 time(s) on {TARGET} within 600 s; 1 is the most, now it is people's",
             lasting=True), question(policy=ONCE), tried(599)),
    (verdict("G10", "allow", "attempt 1 of 1"), question(policy=ONCE), tried(600)),
    (verdict("G10", "allow", "attempt 1 of 2"), question(), tried(1, 2, of="isolate_endpoint|lab/service/pool-a|engine.hang")),
    (verdict("G10", "allow", "attempt 1 of 2"), question(failure_class="engine.crash"), tried(1, 2)),
    (verdict("G10", "allow", "a further increment of an attempt that has begun"), question(increment=1), tried(1, 2, 3)),
    (verdict("G10", "deny",
             f"isolate_endpoint did not help {TARGET} against engine.hang; it is not tried again before 12:00:01", lasting=True),
     question(), guard(ineffective={REMEDY: ago(-1)})),
    (verdict("G10", "deny",
             f"isolate_endpoint did not help {TARGET} against engine.hang; it is not tried again before 12:00:01", lasting=True),
     question(increment=3), guard(ineffective={REMEDY: ago(-1)})),
    (verdict("G10", "allow", "attempt 1 of 2"), question(), guard(ineffective={REMEDY: NOW})),
    (verdict("G10", "allow", "attempt 1 of 2"),
     question(failure_class="engine.crash"), guard(ineffective={REMEDY: ago(-1)})),
    (verdict("G10", "allow", "undo and restore return to what stood before, however often"), question(purpose="undo"), LOST),
    (verdict("G10", "allow", "undo and restore return to what stood before, however often"),
     question(purpose="restore"), guard(ineffective={REMEDY: ago(-9)}, attempts={REMEDY: (NOW, NOW, NOW)})),
    (verdict("G10", "deny", "what was tried on this target before is unknown: it does not answer", unknown=True), question(), LOST),
    (verdict("G10", "ask", "what was tried on this target before is unknown (it does not answer); policy asks people"),
     question(policy=policy(ask_on_unknown=("G10",))), LOST),
]  # fmt: skip

LONG = policy(timing=Timing(scrape_period_s=2.5, replan_after_s=60.0))


def waits(waited: float, age: float) -> Question:
    """Held for so long, on a plan so old; a minute is the most."""
    return question(policy=LONG, waited_s=waited, planned_at=ago(age))


G14 = [
    (verdict("G14", "allow", "planned 1 s ago, with no halt since"), question(), facts()),
    (verdict("G14", "allow", "planned 0 s ago, with no halt since"), question(planned_at=ago(-3)), facts()),
    (verdict("G14", "hold", "planned at 11:59:59, before levers were free at 11:59:59"), question(), guard(resumed_at=ago(1))),
    (verdict("G14", "hold", "planned at 11:59:59, before levers were free at 12:00:00"), question(), guard(resumed_at=NOW)),
    (verdict("G14", "allow", "planned 1 s ago, with no halt since"), question(), guard(resumed_at=ago(1.001))),
    (verdict("G14", "hold", "held for 61 s on a plan that is 62 s old; 60 s is the most"), waits(61, 62), facts()),
    (verdict("G14", "allow", "planned 62 s ago, with no halt since"), waits(60, 62), facts()),
    (verdict("G14", "allow", "planned 60 s ago, with no halt since"), waits(61, 60), facts()),
    (verdict("G14", "allow", "planned 62 s ago, with no halt since"), waits(0, 62), facts()),
    (verdict("G14", "allow", "undo and restore are planned from what stands now"), question(purpose="undo"), LOST),
    (verdict("G14", "allow", "undo and restore are planned from what stands now"),
     question(purpose="restore"), guard(resumed_at=NOW)),
    (verdict("G14", "deny", "whether there was a halt is unknown: it does not answer", unknown=True), question(), LOST),
    (verdict("G14", "deny", "whether there was a halt is unknown: it does not answer", unknown=True),
     question(policy=policy(ask_on_unknown=("G2", "G3", "G8", "G9", "G10", "G13", "G15"))), LOST),
]  # fmt: skip


@table(*G10, *G14)
def test_what_was_tried_and_what_was_planned_before_a_stop(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """The remedy that did not help, the attempt too many, the plan from before the halt."""
    agrees(wanted, asked, seen)
