"""G6 and G7 by tables: who must have agreed, and to what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from runbooks.change import NothingToDo
from runbooks.facts import Facts
from runbooks.gates.question import Question
from runbooks.levers import FreezeChanges
from runbooks.plan import GateVerdict
from runbooks.policy import ClassPolicy, LeverPolicy
from tests.runbooks import clusters as c
from tests.runbooks import gate_cluster as k
from tests.runbooks.gate_lab import ENVELOPE, NOW, agrees, approval, change, facts, policy, question, table, verdict

NEEDED = "reboot_node cannot be taken back: a named, verified person must approve"
ELSEWHERE = "the approval is for another plan, or has ended"
SOON = c.NOW + timedelta(milliseconds=1)


def by(**more: Any) -> Facts:
    """An approval of the reboot."""
    return k.facts(approval=k.approval(k.REBOOT, k.PLAIN, **more))


G6 = [
    (verdict("G6", "allow", "it can be taken back"), k.ask(k.DRAIN, k.CORDON), k.facts()),
    (verdict("G6", "allow", "it can be taken back"), k.ask(k.ROLLBACK, {}), k.facts()),
    (verdict("G6", "allow", "it can be taken back"), k.ask(k.REBOOT, {}, purpose="undo"), k.facts()),
    (verdict("G6", "allow", "it can be taken back"), k.ask(k.REBOOT, {}, purpose="restore"), k.facts()),
    (verdict("G6", "ask", NEEDED), k.ask(k.REBOOT, k.CORDON), k.facts()),
    (verdict("G6", "ask", "reset_gpu cannot be taken back: a named, verified person must approve"),
     k.ask(k.RESET, {"gpus": 1}), k.facts()),
    (verdict("G6", "ask", "restart_engine cannot be taken back: a named, verified person must approve"),
     k.ask(k.RESTART, k.EVICT), k.facts()),
    (verdict("G6", "allow", "policy lets restart_engine act without a named person"),
     k.ask(k.RESTART, k.EVICT, k.UNATTENDED), k.facts()),
    (verdict("G6", "allow", "observe mode: decided and recorded, nothing is touched"),
     k.ask(k.REBOOT, k.CORDON, k.policy("observe")), k.facts()),
    (verdict("G6", "ask", NEEDED), k.ask(k.REBOOT, k.CORDON), by(verified=False)),
    (verdict("G6", "ask", NEEDED), k.ask(k.REBOOT, k.CORDON), by(approvers=())),
    (verdict("G6", "ask", ELSEWHERE), k.ask(k.REBOOT, k.CORDON), k.facts(approval=k.approval(k.RESET, k.PLAIN))),
    (verdict("G6", "ask", ELSEWHERE), k.ask(k.REBOOT, k.CORDON), by(expires_at=c.NOW)),
    (verdict("G6", "allow", "approved by ana, verified"), k.ask(k.REBOOT, k.CORDON), by(expires_at=SOON)),
    (verdict("G6", "allow", "approved by ana, ben, verified"), k.ask(k.REBOOT, k.CORDON), by(approvers=("ana", "ben"))),
]  # fmt: skip

OUTSIDE = f"the change (no note) is outside of the plan's envelope {ENVELOPE.digest}"
AUTO = verdict("G7", "allow", "class engine.hang runs unattended by policy")
WANTS = verdict("G7", "ask", "policy wants 1 of group sre-oncall to approve")
OBSERVED = verdict("G7", "allow", "observe mode: decided and recorded, nothing is touched")


def rule(mode: str = "ask", limits: dict[str, Any] | None = None, blast: Any = None, **more: Any) -> Question:
    """By this class policy."""
    rules = policy(
        ClassPolicy.model_validate({"mode": mode, **more}), levers={"isolate_endpoint": LeverPolicy(**limits or {})}
    )
    return question(policy=rules, **({"change": change(**blast)} if blast else {}))


def agreed(**more: Any) -> Facts:
    """People have agreed, so far."""
    return facts(approval=approval(**more))


G7 = [
    (AUTO, question(), facts()),
    (AUTO, question(change=NothingToDo(why="done")), facts()),
    (verdict("G7", "allow", "undo and restore return to what stood before"), question(purpose="undo", change=change(gpus=9)), facts()),
    (verdict("G7", "allow", "undo and restore return to what stood before"), question(purpose="restore"), facts()),
    # The envelope: at its bounds it covers, beyond any of them it does not, whatever people said.
    (verdict("G7", "deny", OUTSIDE), question(change=change(endpoints_down={"pool-a": 2})), facts()),
    (verdict("G7", "deny", OUTSIDE), question(change=change(restarting={"pool-a": 2})), facts()),
    (AUTO, question(change=change(share_moved={"chat": 0.5})), facts()),
    (verdict("G7", "deny", OUTSIDE), question(change=change(share_moved={"chat": 0.51})), facts()),
    (verdict("G7", "deny", OUTSIDE), question(change=change(nodes=("n1",))), facts()),
    (verdict("G7", "deny", OUTSIDE), question(change=change(gpus=1)), facts()),
    (verdict("G7", "deny", OUTSIDE.replace("no note", "both at once")),
     question(change=change(gpus=1).model_copy(update={"note": "both at once"})), agreed()),
    (verdict("G7", "deny", OUTSIDE), rule("observe", blast={"gpus": 1}), facts()),
    (verdict("G7", "allow", "class infra.node_down runs unattended by policy"), k.ask(k.DRAIN, k.CORDON), k.facts()),
    (verdict("G7", "allow", "class infra.node_down runs unattended by policy"),
     k.ask(FreezeChanges(cluster="west"), {}), k.facts()),
    # The mode.
    (OBSERVED, rule("observe"), facts()),
    (WANTS, rule("ask"), facts()),
    (verdict("G7", "ask", "policy wants 2 of group leads to approve"), rule("ask", quorum=2, approvers="leads"), facts()),
    (AUTO, rule("auto", {"ask_over_share": 0.2}, {"share_moved": {"chat": 0.2}}), facts()),
    (WANTS, rule("auto", {"ask_over_share": 0.2}, {"share_moved": {"chat": 0.21}}), facts()),
    (WANTS, rule("auto", {"ask_over_share": 0.0}, {"share_moved": {"chat": 0.01}}), facts()),
    (AUTO, rule("auto", {"ask_over_share": 0.0}), facts()),
    (AUTO, rule("auto", {"ask_over_share": 0.0}).model_copy(update={"change": NothingToDo(why="done")}), facts()),
    (WANTS, rule("ask", {"ask_over_share": 0.5}, {"share_moved": {"chat": 0.2}}), facts()),
    # The approval.
    (verdict("G7", "ask", f"the approval is for plan old, this is {ENVELOPE.digest}"), rule(), agreed(digest="old")),
    (verdict("G7", "ask", "the approval ended at 12:00:00"), rule(), agreed(expires_at=NOW)),
    (verdict("G7", "allow", "approved by ana"), rule(), agreed(expires_at=NOW + timedelta(milliseconds=1))),
    (verdict("G7", "ask", "1 of 2 have approved"), rule(quorum=2), agreed(approvers=("ana", "ana"))),
    (verdict("G7", "ask", "2 of 3 have approved"), rule(quorum=3), agreed(approvers=("ana", "ben"))),
    (verdict("G7", "allow", "approved by ana, ben"), rule(quorum=2), agreed(approvers=("ana", "ben"))),
    (verdict("G7", "ask", "0 of 1 have approved"), rule(), agreed(approvers=())),
    (verdict("G7", "ask", "an unverified decision does not count for this class"), rule(), agreed(verified=False)),
    (verdict("G7", "allow", "approved by ana (unverified)"), rule(accept_unverified=True), agreed(verified=False)),
    (verdict("G7", "ask", "an unverified decision does not count for this class"),
     rule(accept_unverified=True, quorum=2), agreed(verified=False, approvers=("ana", "ben"))),
    (verdict("G7", "allow", "approved by ana"), rule(accept_unverified=True), agreed()),
]  # fmt: skip


@table(*G6, *G7)
def test_who_must_have_agreed_and_to_exactly_what(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """Another plan, an end that has come, one voice counted twice, an unverified word."""
    agrees(wanted, asked, seen)
