"""G7: a step whose class rests on no proof asks people, whatever policy lets its class do."""

from __future__ import annotations

from runbooks.gates.people import g7_approval
from tests.runbooks.gate_lab import STEP, approval, facts, question

ATTENDED = STEP.model_copy(update={"attended": True})


def test_a_class_that_policy_lets_act_asks_people_where_it_rests_on_no_proof() -> None:
    """The same step, the same policy: only the proof is missing."""
    assert g7_approval(question(), facts()).outcome == "allow"

    asked = g7_approval(question(step=ATTENDED), facts())

    assert (asked.outcome, asked.reason) == ("ask", "policy wants 1 of group sre-oncall to approve")


def test_and_acts_once_they_have_agreed() -> None:
    """What they agree to is the same envelope."""
    assert g7_approval(question(step=ATTENDED), facts(approval=approval())).outcome == "allow"
