"""What stands in the Guard's book after a part of the way back."""

from __future__ import annotations

from runbooks.change import Change, Receipt
from runbooks.facts import Settings
from runbooks.planning import plan_restore
from runbooks.standing import counted
from tests.runbooks import clusters as c
from workflows.standing import left

FREE: Settings = {"paused/big": "off", "autoscale/big": "on"}
FROZEN: Settings = {"paused/big": "on", "autoscale/big": "off"}


def receipt(before: Settings, after: Settings) -> Receipt:
    """Of a change from before to after."""
    return Receipt(
        id="r", permit_id="p", case="w#1.1", case_workflow_id="w", step_id="1-freeze_changes", lever="freeze_changes",
        target_id="west", domain="west", epoch=1, before=before, after=after, acted_at=c.NOW,
    )  # fmt: skip


def test_nothing_of_a_freeze_stands_that_the_cases_own_rollback_has_lifted_in_part() -> None:
    """The rollout was resumed by the rollback, the autoscaler by the restore: together that is all of it."""
    stands = receipt(FREE, FROZEN)
    back = plan_restore(FREE, {**FROZEN, "paused/big": "off"}, FROZEN, 1.0)
    assert isinstance(back, Change)

    assert left(stands, receipt(back.before, back.after), whole=True) is None


def test_after_a_part_of_the_ramp_the_rest_stands() -> None:
    """Half of the replicas are still there."""
    found = left(receipt({"replicas/big": 2}, {"replicas/big": 6}), receipt({"replicas/big": 6}, {"replicas/big": 4}))

    assert found is not None
    assert (found.before, found.after) == ({"replicas/big": 2}, {"replicas/big": 4})


def test_the_guards_book_names_the_settings_that_a_standing_change_would_put_back() -> None:
    """Not those that it only held to be as they are, and nothing that cannot be put back."""
    before: Settings = {"paused/big": "off", "autoscale/big": "off", "pod/big-0": "u1"}
    stands = receipt(before, {"paused/big": "on", "autoscale/big": "off", "pod/big-0": "u2"})

    assert counted("r", stands).settings == ("paused/big",)
