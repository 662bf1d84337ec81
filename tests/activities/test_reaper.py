"""What is told, and counted, of a case that closed with its domain in its hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from temporalio.client import Client

from activities.adapters.sql import SqlJournal
from activities.reaper import ReaperActivities, ReapRequest
from runbooks.change import Change, Permit, Receipt
from tests.scenarios.hostile import Pager

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
CASE, WORKFLOW = "remediate:lab/service/a#00000000.1", "remediate:lab/service/a"


async def stood(journal: SqlJournal, number: int, before: str, after: str, case: str = CASE) -> Receipt:
    """An increment of step 1 that moved a weight."""
    change = Change(before={"weight/r/a": before}, after={"weight/r/a": after}, last=True)
    permit = Permit(
        id=f"lab.{number}", domain="lab", case=case, step_id="1", change_digest=change.digest, purpose="act", epoch=number,
        act_before=NOON + timedelta(seconds=5),
    )  # fmt: skip
    receipt = Receipt(
        id=f"r-{number}", permit_id=permit.id, case=case, case_workflow_id=WORKFLOW, step_id="1", lever="reroute_traffic",
        target_id="lab/service/a", domain="lab", epoch=number, before=change.before, after=change.after, acted_at=NOON,
    )  # fmt: skip
    await journal.intend(permit, change, receipt)
    await journal.receive(receipt)
    return receipt


async def test_what_a_cancelled_case_gave_to_people_and_what_it_did_not_know_of_are_one_change(tmp_path: Path) -> None:
    """In the order of the journal: the newest first, 100 → 90 → 80 would be a weight that nobody has moved."""
    journal = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    try:
        first = await stood(journal, 1, "100", "90")
        await stood(journal, 2, "90", "80")
        await stood(journal, 3, "100", "50", case="remediate:lab/service/a#00000000.0")
        await journal.settle(first.id, "adopted", CASE)
        await journal.settle("r-3", "adopted", "an earlier case of this target: counted since then")
        reaper = ReaperActivities(cast(Client, None), journal, Pager(), ["lab"])
        reaped = await reaper.reap(ReapRequest(domain="lab", workflow_id=WORKFLOW, run_id="run", case=CASE))
        assert [(s.receipt_id, s.settings) for s in reaped.left.standing] == [(f"{CASE}/1", ("weight/r/a",))]
        assert reaped.receipts == ("r-2",)
    finally:
        journal.dispose()
