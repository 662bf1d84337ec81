"""What a change of ours explains, by a table: never an alert that has another reason, never for longer than it is so."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.cluster import ClusterState
from runbooks.detection import Detection, Target
from runbooks.explained import explained
from runbooks.facts import GuardView, StandingReceipt
from tests.runbooks import clusters as c

N1, BIG = Target(cluster="west", node="n1"), Target(cluster="west", service="big")
GONE = Target(cluster="west", service="big", endpoint="big-9:8000")
GONE_SMALL = Target(cluster="west", service="small", endpoint="small-9:8000")
OUT = c.state(nodes=(c.node("n1", cordoned=True), c.node("n2")))


def alert(target: Target, status: str = "firing", **labels: str) -> Detection:
    """A moment ago."""
    base: dict[str, Any] = {
        "alert": "A", "target": target, "severity": "critical", "status": status, "detector": "d", "labels": labels,
        "started_at": c.ago(1), "observed_at": c.ago(0), "fingerprint": f"{status}-{labels}",
    }  # fmt: skip
    return Detection.model_validate(base)


def view(node: str = "n1", case: str = "other#1.1") -> GuardView:
    """A drain of the node stands."""
    drain = StandingReceipt(
        receipt_id="r", case=case, lever="rebalance_nodes", target_id="node", nodes=(node,), gpus=4, since=c.ago(9)
    )
    return GuardView(domain="west", standing=(drain,))


ROWS: list[tuple[str, Target, tuple[Detection, ...], GuardView, ClusterState | None, str]] = [
    ("the node that is out", N1, (alert(N1),), view(), OUT, "node n1 is out"),
    ("our own change", N1, (alert(N1),), view(case="mine#1.1"), OUT, ""),
    ("a service all of whose alerts name the node", BIG, (alert(BIG, node="n1"),), view(), OUT, "node n1 is out"),
    ("a service that has another alert as well", BIG, (alert(BIG, node="n1"), alert(BIG)), view(), OUT, ""),
    ("the alert that named the node is resolved", BIG, (alert(BIG, "resolved", node="n1"), alert(BIG)), view(), OUT, ""),
    ("an address whose replica was moved", GONE, (alert(GONE),), view(), OUT, "big-9:8000 belonged"),
    ("an address of a pool that is not on that node", GONE_SMALL, (alert(GONE_SMALL),), view("n2"),
     c.state(nodes=(c.node("n1"), c.node("n2", cordoned=True))), ""),
    ("a node that takes replicas again, though the books say that it is out", N1, (alert(N1),), view(), c.state(), ""),
    ("a cluster that does not answer", N1, (alert(N1),), view(), None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("what", "target", "detections", "seen", "state", "why"), ROWS, ids=[r[0] for r in ROWS])
def test_only_what_surely_follows_from_a_change_that_still_stands_is_explained(
    what: str,
    target: Target,
    detections: tuple[Detection, ...],
    seen: GuardView,
    state: ClusterState | None,
    why: str,
) -> None:
    """Whatever else is wrong goes on its way."""
    found = explained(target, detections, seen, state, "mine", c.FLEET)
    assert found.startswith(why) if why else found == "", found
