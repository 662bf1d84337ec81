"""G11 by a table: a lever does not go through what is sick."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.detection import Target
from runbooks.facts import ControlNow, Facts, Unknown
from runbooks.fleet import ControlPlane, Fleet
from runbooks.gates.control import control_kind
from runbooks.gates.question import Question
from runbooks.levers import FreezeChanges
from runbooks.plan import GateVerdict
from runbooks.policy import Timing
from tests.runbooks import clusters as c
from tests.runbooks import gate_cluster as k
from tests.runbooks.gate_lab import FLEET, STEP, agrees, facts, known, policy, question, table, verdict


def fleet(kind: str, *runs_on: str, base: Fleet = FLEET, cluster: str = "lab") -> Fleet:
    """One kind of control only, on these targets."""
    only = ControlPlane.model_validate({"cluster": cluster, "kind": kind, "runs_on": runs_on})
    return base.model_copy(update={"controls": (only,)})


def west(kind: str, *runs_on: str) -> Fleet:
    """The same for the small cluster."""
    return fleet(kind, *runs_on, base=c.FLEET, cluster="west")


def answered(seconds: float) -> Facts:
    """The control answers after so long."""
    return facts(control=known(ControlNow(kind="traffic", answered_in_s=seconds)))


AWAY = facts(control=Unknown(why="connection refused"))
HERE = k.facts(control=k.known(ControlNow(kind="cluster", answered_in_s=0.2)))
FREEZE = FreezeChanges(cluster="west")
CP1 = Target(cluster="west", node="cp-1")
ALL_ASK: Any = ("G2", "G3", "G8", "G9", "G10", "G13", "G15")
BOTH = STEP.model_copy(update={"domains": ("lab", "other")})
NOWHERE = STEP.model_copy(update={"domains": ()})
NOT_SAID = "the fleet does not say what the {} control of {} runs on; add it to `controls`"
WELL = "the {} control answered in {} s and does not run on what is sick"
SICK_PLANE = "infra.control_plane means that the cluster control itself is sick: nothing is moved through it"


def on_cp(kind: str, target: Target, *runs_on: str, **more: Any) -> Question:
    """A drain because of this target, with a control that runs on that."""
    return k.ask(k.DRAIN, k.CORDON, target=target, fleet=west(kind, *runs_on), **more)


G11 = [
    (verdict("G11", "allow", WELL.format("traffic", "0.1")), question(), facts()),
    (verdict("G11", "allow", WELL.format("traffic", "2.0")), question(), answered(2.0)),
    (verdict("G11", "deny", "the traffic control took 2.1 s to answer; 2 s is the most", unknown=True), question(), answered(2.1)),
    (verdict("G11", "deny", "the traffic control took 0.6 s to answer; 0.5 s is the most", unknown=True),
     question(policy=policy(timing=Timing(scrape_period_s=2.5, control_answer_s=0.5))), answered(0.6)),
    (verdict("G11", "deny", "the traffic control took 2.1 s to answer; 2 s is the most", unknown=True),
     question(purpose="undo"), answered(2.1)),
    (verdict("G11", "deny", "whether the traffic control answers is unknown: connection refused", unknown=True), question(), AWAY),
    (verdict("G11", "deny", "whether the traffic control answers is unknown: connection refused", unknown=True),
     question(policy=policy(ask_on_unknown=ALL_ASK)), AWAY),
    (verdict("G11", "deny", "whether the traffic control answers is unknown: connection refused", unknown=True),
     question(purpose="undo"), AWAY),
    (verdict("G11", "deny", NOT_SAID.format("traffic", "lab"), lasting=True), question(fleet=fleet("cluster")), facts()),
    (verdict("G11", "deny", NOT_SAID.format("traffic", "lab"), lasting=True),
     question(fleet=fleet("cluster"), purpose="restore"), facts()),
    (verdict("G11", "deny", NOT_SAID.format("traffic", "other"), lasting=True), question(step=BOTH), facts()),
    (verdict("G11", "deny", NOT_SAID.format("traffic", "lab"), lasting=True),
     question(step=NOWHERE, fleet=fleet("cluster")), facts()),
    (verdict("G11", "allow", WELL.format("traffic", "0.1")), question(step=NOWHERE), facts()),
    (verdict("G11", "allow", "the traffic control answers, and an undo is not kept from trying"),
     question(fleet=fleet("cluster"), purpose="undo"), facts()),
    (verdict("G11", "allow", WELL.format("cluster", "0.2")), k.ask(k.DRAIN, k.CORDON), HERE),
    (verdict("G11", "allow", WELL.format("cluster", "0.2")), on_cp("cluster", k.N1, "west/node/cp-1", "west/node/cp-2"), HERE),
    (verdict("G11", "deny", "the cluster control of west runs on west/node/cp-1, which west/node/cp-1 is or carries, "
             "and that is sick", lasting=True), on_cp("cluster", CP1, "west/node/cp-0", "west/node/cp-1"), HERE),
    (verdict("G11", "deny", "the cluster control of west runs on west/node/cp-1, which west is or carries, and that is sick",
             lasting=True), on_cp("cluster", Target(cluster="west"), "west/node/cp-1"), HERE),
    (verdict("G11", "allow", WELL.format("cluster", "0.2")), on_cp("cluster", k.N1, "west"), HERE),
    (verdict("G11", "allow", WELL.format("cluster", "0.2")),
     on_cp("cluster", CP1, "west/node/cp-1", purpose="restore"), HERE),
    (verdict("G11", "deny", SICK_PLANE, lasting=True), k.ask(k.DRAIN, k.CORDON, failure_class="infra.control_plane"), HERE),
    (verdict("G11", "deny", SICK_PLANE, lasting=True), k.ask(k.GROW, {}, failure_class="infra.control_plane"), HERE),
    (verdict("G11", "allow", WELL.format("cluster", "0.2")), k.ask(FREEZE, {}, failure_class="infra.control_plane"), HERE),
    (verdict("G11", "allow", WELL.format("cluster", "0.2")),
     k.ask(k.DRAIN, {}, failure_class="infra.control_plane", purpose="restore"), HERE),
    # Edge routes must work alone when the cluster's own plane is sick (oai-2024-12-11).
    (verdict("G11", "allow", WELL.format("traffic", "0.1")), question(failure_class="infra.control_plane"), facts()),
    (verdict("G11", "allow", WELL.format("node", "0.2")), k.ask(k.REBOOT, k.CORDON), HERE),
    (verdict("G11", "deny", NOT_SAID.format("node", "west"), lasting=True),
     k.ask(k.RESET, {"gpus": 1}, fleet=west("cluster")), HERE),
]  # fmt: skip


@table(*G11)
def test_no_lever_goes_through_what_is_sick(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """Undeclared, away, slow, or standing on the very target."""
    agrees(wanted, asked, seen)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (question(), "traffic"),
        (k.ask(k.DRAIN, {}), "cluster"),
        (k.ask(FREEZE, {}), "cluster"),
        (k.ask(k.REBOOT, {}), "node"),
        (k.ask(k.RESET, {}), "node"),
    ],
    ids=["isolate_endpoint", "rebalance_nodes", "freeze_changes", "reboot_node", "reset_gpu"],
)
def test_each_lever_is_known_to_work_through_one_plane(asked: Question, kind: str) -> None:
    """The proxy, the Kubernetes API, or the node's own agent."""
    assert control_kind(asked) == kind
