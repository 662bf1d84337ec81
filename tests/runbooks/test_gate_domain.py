"""G4 and G13 by tables: one change at a time in a domain, and many faults are one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from runbooks.change import Change, NothingToDo
from runbooks.detection import Target
from runbooks.facts import Facts, GuardView, Settings, StandingReceipt, Unknown
from runbooks.gates.question import Question
from runbooks.levers import FreezeChanges, IncreaseCapacity, ResetGpu
from runbooks.plan import GateVerdict
from tests.runbooks.gate_lab import KEY, NOW, STEP, agrees, facts, known, policy, question, table, verdict


def guard(**more: Any) -> Facts:
    """All is well, and the Guard says so much more."""
    return facts(guard=known(GuardView(domain="lab", **more)))


def between(lever: str = "rebalance_nodes", under_way: bool = True, case: str = "other#1.1") -> Facts:
    """A change of a case, between two of its increments."""
    stands = StandingReceipt(
        receipt_id="r", case=case, lever=lever, target_id="lab/node/n1", since=NOW, under_way=under_way
    )
    return guard(standing=(stands,))


def step(what: Any, **more: Any) -> Question:
    """Of another case, in the same domain."""
    return question(step=STEP.model_copy(update={"step": what}), **more)


def held(*keys: str, case: str = "other#1.1") -> Facts:
    """Settings that a standing change of a case would put back."""
    stands = StandingReceipt(
        receipt_id="r", case=case, lever="shed_load", target_id="lab/service/b", since=NOW, settings=keys
    )
    return guard(standing=(stands,))


def moving(before: Settings, after: Settings, **more: Any) -> Question:
    """A change of these settings."""
    return question(change=Change(before=before, after=after, last=True), **more)


TAKEN = verdict(
    "G4", "deny",
    f"{KEY} was set by shed_load of other, which stands: of two changes to one setting neither could be taken back",
)  # fmt: skip
RESETS = "gpu/n1/0"
GROW = IncreaseCapacity(pool="pool-a")
WAITS = verdict(
    "G4", "hold", "rebalance_nodes of other on lab/node/n1 is under way: its next increment comes first",
    until=NOW + timedelta(seconds=policy().timing.hold_s),
)  # fmt: skip
LOST = facts(guard=Unknown(why="it does not answer"))
ALL_ASK: Any = ("G2", "G3", "G8", "G9", "G10", "G13", "G15")
FREE = verdict("G4", "allow", "the domain is free")
G4 = [
    (FREE, question(), facts()),
    (FREE, question(), guard(holder="me")),
    (verdict("G4", "allow", "held by other: the Guard will queue this step"), question(), guard(holder="other")),
    (verdict("G4", "hold", "the domain is dirty: x closed"), question(), guard(dirty="x closed")),
    (verdict("G4", "hold", "the domain is dirty: x closed"), question(purpose="undo"), guard(dirty="x closed", halted="by ana")),
    (verdict("G4", "hold", "halted by ana"), question(), guard(halted="halted by ana", holder="other")),
    (verdict("G4", "hold", "halted by ana"), question(), guard(halted="halted by ana", breaker="61 acts")),
    (verdict("G4", "hold", "61 acts"), question(), guard(breaker="61 acts")),
    (FREE, question(purpose="undo"), guard(halted="halted by ana")),
    # oai-2022-11-17: who takes places in a cluster waits for a drain that still needs them; who takes load away does not.
    (WAITS, step(GROW), between()),
    (WAITS, step(ResetGpu(node="n2", gpu="0")), between()),
    *(
        (WAITS.model_copy(update={"reason": WAITS.reason.replace("rebalance_nodes", lever)}), step(GROW), between(lever))
        for lever in ("rollout_hotfix", "rollback_change", "increase_capacity")
    ),
    (FREE, step(GROW), between(under_way=False)),
    (FREE, step(GROW), between(case="me#1.1")),
    (FREE, step(GROW), between(lever="reroute_traffic")),
    (FREE, step(GROW, purpose="restore"), between()),
    (FREE, step(FreezeChanges(cluster="lab")), between()),
    (FREE, question(), between()),
    (FREE, question(purpose="restore"), guard(breaker="61 acts")),
    # Seed 156, incident 35: two cases that shed one tier each found the other's value, and it stayed shed.
    (TAKEN, question(), held(KEY)),
    (TAKEN, question(), held("admit/chat/batch", KEY)),
    (FREE, question(), held("admit/chat/batch")),
    (FREE, question(), held(KEY, case="me#1.1")),
    (FREE, question(purpose="undo"), held(KEY)),
    (FREE, question(purpose="restore"), held(KEY)),
    (FREE, question(change=NothingToDo(why="it is out")), held(KEY)),
    # What stays as it is, or is no value that could be put back, is nobody's.
    (FREE, moving({KEY: "in", "x": 1}, {KEY: "in", "x": 2}), held(KEY)),
    (FREE, moving({RESETS: 1}, {RESETS: 2}), held(RESETS)),
    (verdict("G4", "deny", "the Guard could not be asked: it does not answer", unknown=True), question(), LOST),
    (verdict("G4", "deny", "the Guard could not be asked: it does not answer", unknown=True), question(purpose="undo"), LOST),
    (verdict("G4", "deny", "the Guard could not be asked: it does not answer", unknown=True),
     question(policy=policy(ask_on_unknown=ALL_ASK)), LOST),
]  # fmt: skip

WHY = "5 targets fell sick within 120 s: they are one fault"
ASKED = ("lab/node/n1", "lab/node/n2")
DOMAIN = Target(cluster="lab")


def left_by(case: str) -> StandingReceipt:
    """Something that this case left standing."""
    return StandingReceipt(receipt_id="r", case=case, lever="isolate_endpoint", target_id="t", since=NOW)


MEMBER = verdict("G13", "deny", f"{WHY}; the domain's case has it", lasting=True)
G13 = [
    (verdict("G13", "allow", "0 target(s) of the domain asked lately: each for itself"), question(), facts()),
    (verdict("G13", "allow", "2 target(s) of the domain asked lately: each for itself"), question(), guard(asked=ASKED)),
    (MEMBER, question(), guard(correlated=WHY, asked=ASKED)),
    (MEMBER, question(), guard(correlated=WHY, standing=(left_by("other#1.1"),))),
    (MEMBER, question(), guard(correlated=WHY, standing=(left_by("me-too#1.1"),))),
    (verdict("G13", "allow", "it has changed something already, and finishes or undoes that first"),
     question(), guard(correlated=WHY, standing=(left_by("other#1.1"), left_by("me#1.1")))),
    (verdict("G13", "allow", f"this is the domain's own case: {WHY}"), question(target=DOMAIN), guard(correlated=WHY)),
    (verdict("G13", "allow", "0 target(s) of the domain asked lately: each for itself"), question(target=DOMAIN), facts()),
    (verdict("G13", "allow", "what a case has changed it also takes back"), question(purpose="undo"), guard(correlated=WHY)),
    (verdict("G13", "allow", "what a case has changed it also takes back"), question(purpose="restore"), LOST),
    (verdict("G13", "deny", "whether other targets of the domain are sick too is unknown: it does not answer", unknown=True),
     question(), LOST),
    (verdict("G13", "deny", "whether other targets of the domain are sick too is unknown: it does not answer", unknown=True),
     question(target=DOMAIN), LOST),
    (verdict("G13", "ask", "whether other targets of the domain are sick too is unknown (it does not answer); "
             "policy asks people"), question(policy=policy(ask_on_unknown=("G13",))), LOST),
]  # fmt: skip


@table(*G4, *G13)
def test_one_change_at_a_time_and_one_case_for_one_fault(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """Halt and breaker stop acts and never what goes back to normal."""
    agrees(wanted, asked, seen)
