"""What a hostile reader found in a Guard's first moments and in what it counts after it was terminated."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from activities.adapters.sql import SqlJournal
from activities.guard_client import GuardClient
from runbooks.change import Change, Permit, Receipt
from tests import lab as labs
from tests.scenarios.test_guard_workflow import guard, start_guard, view, written

CASE, WORKFLOW = "remediate:lab/service/gone#00000000.1", "remediate:lab/service/gone"


async def stood(journal: SqlJournal) -> Receipt:
    """A change of a case that Temporal does not know any more, by the journal."""
    now = datetime.now(UTC)
    change = Change(before={"k": "in"}, after={"k": "out"}, last=True)
    permit = Permit(
        id="lab.1.gone", domain="lab", case=CASE, step_id="1", change_digest=change.digest, purpose="act", epoch=1,
        act_before=now + timedelta(seconds=5),
    )  # fmt: skip
    receipt = Receipt(
        id="r-gone", permit_id=permit.id, case=CASE, case_workflow_id=WORKFLOW, step_id="1", lever="isolate_endpoint",
        target_id="lab/service/gone", domain="lab", epoch=1, before=change.before, after=change.after, acted_at=now,
    )  # fmt: skip
    await journal.intend(permit, change, receipt)
    await journal.receive(receipt)
    return receipt


async def counts(lab: labs.Lab, number: int) -> None:
    """So many changes stand by the Guard's word."""

    async def so() -> bool:
        return len((await view(lab))["standing"]) == number

    await labs.until(so, f"{number} stand", 60)


async def test_a_change_that_was_put_back_while_no_guard_was_there_bars_nobody_for_ever(lab: labs.Lab) -> None:
    """The next Guard knows it from the journal, and nobody tells it more: the case has told the one before. When it closes
    the journal says that nothing stands; as people's it would count for ever, and they would be told to end nothing."""
    journal = SqlJournal(lab.journal_url)
    try:
        receipt = await stood(journal)
        async with labs.running_worker(lab.parts()):
            await start_guard(lab, look_every_s=8)
            await counts(lab, 1)
            told = len(lab.pages())
            await journal.settle(receipt.id, "restored", CASE)
            await journal.close(CASE, WORKFLOW, json.dumps({"case": CASE}))
            await counts(lab, 0)
            assert lab.pages()[told:] == []
            await lab.forget()
    finally:
        journal.dispose()


async def test_a_change_of_which_the_journal_knows_no_end_is_counted_on_and_told(lab: labs.Lab) -> None:
    """What the case gave to people before it closed, too: the page names the command that ends it."""
    journal = SqlJournal(lab.journal_url)
    try:
        receipt = await stood(journal)
        await journal.settle(receipt.id, "adopted", CASE)
        await journal.close(CASE, WORKFLOW, json.dumps({"case": CASE}))
        async with labs.running_worker(lab.parts()):
            told = len(lab.pages())
            await start_guard(lab, look_every_s=1)

            async def page() -> str:
                return "\n".join(p["body"] for p in lab.pages()[told:])

            assert f"interlock undo {receipt.id}" in await labs.until(page, "people are told")
            await counts(lab, 1)
            await journal.settle(receipt.id, "settled", "a test")
            await lab.forget()
    finally:
        journal.dispose()


async def test_a_guard_that_has_just_begun_never_says_that_a_halted_domain_is_free(lab: labs.Lab) -> None:
    """Whoever holds a permit of the Guard before it asks in this moment, and would write."""
    asked = GuardClient(lab.client)
    async with labs.running_worker(lab.parts()):
        await start_guard(lab)
        await guard(lab).signal("halt", {"who": "ana", "reason": "a look"})
        await written(lab, "halted")
        for _ in range(3):
            await guard(lab).terminate("a hostile test")
            assert (await asked.view(labs.CLUSTER)).halted == "halted by ana: a look"
        await lab.forget()
