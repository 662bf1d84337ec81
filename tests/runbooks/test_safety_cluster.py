"""The gates on levers of clusters and nodes, by a table: G2 nodes and GPUs, G3 dependencies, G5 and G6, G9's rejoin."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runbooks.facts import (
    Facts,
    Rejoin,
    Unknown,
)
from runbooks.gates.proof import REJOIN_FOR_S
from runbooks.gates.question import Question
from runbooks.levers import (
    FreezeChanges,
    IncreaseCapacity,
)
from runbooks.safety import judge
from tests.runbooks import clusters as c
from tests.runbooks.gate_cluster import (
    BACK,
    CORDON,
    DRAIN,
    EVICT,
    GONE_NOW,
    GROW,
    PLAIN,
    REBOOT,
    RESET,
    RESTART,
    ROLLBACK,
    UNATTENDED,
    approval,
    ask,
    facts,
    known,
    policy,
    pool,
    rejoin,
    stands,
)

TABLE: list[tuple[str, str, str, Question, Facts]] = [
    ("G2", "allow", "0 standing", ask(DRAIN, CORDON), facts()),
    ("G2", "deny", "2 nodes would be out (n1, n2); the limit is 1",
     ask(DRAIN, CORDON), facts(guard=stands(nodes=("n2",)))),
    ("G2", "allow", "1 standing", ask(DRAIN, CORDON), facts(guard=stands(target="west/node/n1", nodes=("n1",), gpus=4))),
    ("G2", "allow", "1 standing", ask(DRAIN, CORDON, policy(max_nodes_out=2)), facts(guard=stands(nodes=("n2",)))),
    ("G2", "allow", "1 standing", ask(REBOOT, {"nodes": ("n1",), "gpus": 4}),
     facts(guard=stands(target="west/node/n1", nodes=("n1",), gpus=4))),
    ("G2", "deny", "4 GPUs would be taken; the limit is 3", ask(DRAIN, CORDON, policy(max_gpus=3)), facts()),
    ("G2", "deny", "9 GPUs would be taken; the limit is 8 (increase_capacity on west/service/big stands)",
     ask(GROW, {"gpus": 2}), facts(guard=stands("increase_capacity", "west/service/big", gpus=7))),
    ("G2", "deny", "2 replicas of big would be down; the limit is 1", ask(DRAIN, {"restarting": {"big": 2}}), facts()),
    ("G2", "deny", "2 replicas of big would be down; the limit is 1 (isolate_endpoint on x stands)",
     ask(RESTART, EVICT), facts(guard=stands("isolate_endpoint", "x", endpoints_down={"big": 1}))),
    ("G2", "deny", "what already stands in the domain is unknown", ask(DRAIN, CORDON), facts(guard=Unknown(why="x"))),
    ("G3", "allow", "registry has room for 5 more", ask(GROW, {"gpus": 2}), facts()),
    ("G3", "deny", "registry has room for 1 more replica(s), and 2 are wanted",
     ask(GROW, {"gpus": 2}), facts(dependencies=known({"registry": 1.0}))),
    ("G3", "deny", "the headroom of registry is unknown: it was not measured",
     ask(GROW, {"gpus": 2}), facts(dependencies=None)),
    ("G3", "deny", "the headroom of registry is unknown: it was not measured",
     ask(GROW, {"gpus": 2}), facts(dependencies=known({}))),
    ("G3", "deny", "the headroom of registry is unknown: away",
     ask(GROW, {"gpus": 2}), facts(dependencies=Unknown(why="away"))),
    ("G3", "allow", "nothing receives more load", ask(IncreaseCapacity(pool="small"), {"gpus": 1}), facts(dependencies=None)),
    ("G3", "allow", "big carries 40 of 60 tokens/s", ask(DRAIN, EVICT), facts()),
    ("G3", "deny", "the 2 endpoint(s) left can serve 60",
     ask(DRAIN, EVICT), facts(pools=known({"big": pool("big", load=70.0)}))),
    ("G3", "deny", "the load of big is unknown", ask(DRAIN, EVICT), facts(pools=known({"big": pool("big", load=None)}))),
    ("G5", "allow", "2 of 3 in big answer meanwhile (minimum 2)", ask(DRAIN, EVICT), facts()),
    ("G5", "deny", "1 replica(s) of big would answer meanwhile; 2 is the minimum",
     ask(RESTART, EVICT), facts(pools=known({"big": pool("big", 2)}))),
    ("G5", "deny", "how many endpoints of big answer is unknown: they could not be probed",
     ask(RESTART, EVICT), facts(pools=known({"big": pool("big", None)}))),
    ("G5", "deny", "the state of pool big is unknown", ask(RESTART, EVICT), facts(pools=Unknown(why="x"))),
    ("G5", "allow", "no endpoint is taken out", ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW, rejoin=rejoin())),
    ("G6", "allow", "it can be taken back", ask(DRAIN, CORDON), facts()),
    ("G6", "allow", "it can be taken back", ask(ROLLBACK, {}), facts()),
    ("G6", "ask", "reboot_node cannot be taken back: a named, verified person must approve", ask(REBOOT, CORDON), facts()),
    ("G6", "ask", "reset_gpu cannot be taken back", ask(RESET, {"gpus": 1}), facts()),
    ("G6", "ask", "restart_engine cannot be taken back", ask(RESTART, EVICT), facts()),
    ("G6", "allow", "policy lets restart_engine act without a named person", ask(RESTART, EVICT, UNATTENDED), facts()),
    ("G6", "allow", "observe mode", ask(REBOOT, CORDON, policy("observe")), facts()),
    ("G6", "ask", "a named, verified person must approve",
     ask(REBOOT, CORDON), facts(approval=approval(REBOOT, PLAIN, verified=False))),
    ("G6", "ask", "a named, verified person must approve",
     ask(REBOOT, CORDON), facts(approval=approval(REBOOT, PLAIN, approvers=()))),
    ("G6", "ask", "the approval is for another plan, or has ended",
     ask(REBOOT, CORDON), facts(approval=approval(RESET, PLAIN))),
    ("G6", "ask", "the approval is for another plan, or has ended",
     ask(REBOOT, CORDON), facts(approval=approval(REBOOT, PLAIN, expires_at=c.NOW))),
    ("G6", "allow", "approved by ana, verified", ask(REBOOT, CORDON), facts(approval=approval(REBOOT, PLAIN))),
    ("G7", "deny", "is outside of the plan's envelope", ask(RESET, {"gpus": 2}), facts()),
    ("G7", "deny", "is outside of the plan's envelope", ask(GROW, {"nodes": ("n1",)}), facts()),
    ("G7", "deny", "is outside of the plan's envelope", ask(FreezeChanges(cluster="west"), {"gpus": 1}), facts()),
    ("G7", "ask", "policy wants 1 of group sre-oncall", ask(ROLLBACK, {"changed": {"chat": 0.75}}, policy(ask_over_share=0.5)),
     facts()),
    ("G7", "allow", "runs unattended", ask(ROLLBACK, {"changed": {"chat": 0.25}}, policy(ask_over_share=0.5)), facts()),
    ("G9", "deny", "n1 has not been checked under load", ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW)),
    ("G9", "deny", "n1 has not been checked under load",
     ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW, rejoin=rejoin(node="n2"))),
    ("G9", "deny", "n1 failed under load: no token",
     ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW, rejoin=rejoin(ok=False, why="no token"))),
    ("G9", "deny", "the check of n1 under load is 61 s old; 60 s is the most",
     ask(DRAIN, {}, **BACK),
     facts(fault=GONE_NOW, rejoin=rejoin(observed_at=c.NOW - timedelta(seconds=REJOIN_FOR_S + 1)))),
    ("G9", "allow", "1 indicator(s)", ask(DRAIN, {}, **BACK), facts(fault=GONE_NOW, rejoin=rejoin())),
    ("G9", "allow", "1 indicator(s)", ask(GROW, {}, **BACK), facts(fault=GONE_NOW)),
    ("G9", "allow", "undo returns", ask(DRAIN, {}, purpose="undo"), facts()),
    ("G1", "deny", "the oldest fact is 9.0 s old", ask(DRAIN, CORDON), facts(cluster=known(c.state(), 9))),
    ("G1", "deny", "the oldest fact is 9.0 s old",
     ask(GROW, {"gpus": 1}), facts(dependencies=known({"registry": 5.0}, 9))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "outcome", "reason", "question", "seen"),
    TABLE,
    ids=[f"{g}-{o}-{q.step.step.lever}-{r}" for g, o, r, q, _ in TABLE],
)
def test_each_gate_answers_as_the_table_says_and_gives_its_reason(
    gate: str, outcome: str, reason: str, question: Question, seen: Facts
) -> None:
    """The reason is what an SRE reads at 3 am."""
    found = next(g for g in judge(question, seen).gates if g.gate == gate)

    assert (found.outcome, reason in found.reason) == (outcome, True), found


@pytest.mark.parametrize("rejoined", [None, rejoin(ok=False, why="x")], ids=["unchecked", "failed"])
def test_an_undo_of_a_drain_does_not_wait_for_a_check_under_load(rejoined: Rejoin | None) -> None:
    """Undo returns to what stood before, at once: the drain did harm."""
    verdict = judge(ask(DRAIN, {}, purpose="undo"), facts(rejoin=rejoined, fault=Unknown(why="not needed")))

    assert verdict.outcome == "allow", verdict.because()


def test_the_small_cluster_lets_a_dead_node_be_drained() -> None:
    """All gates together: the table above changes one thing at a time from here."""
    assert judge(ask(DRAIN, CORDON), facts()).outcome == "allow"
    assert judge(ask(GROW, {"gpus": 2}), facts()).outcome == "allow"
    assert judge(ask(REBOOT, CORDON), facts()).outcome == "ask"
