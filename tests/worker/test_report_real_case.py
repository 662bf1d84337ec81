"""One real case on the real server, approved by a person, as the report reads it: the words of the timeline are the workflows'."""

from __future__ import annotations

from datetime import UTC, datetime

from tests import lab as labs
from tests.runbooks.report_lab import GROUPS
from tests.scenarios.test_engine_crash import lose
from worker.report_read import from_journal
from worker.scores import open_journal


async def test_a_case_that_a_person_approved_is_read_from_the_journal(lab: labs.Lab) -> None:
    """Asked by G7 for a reroute, approved, done, helped, restored: by Interlock, and people's part is the time to decide."""
    before = datetime.now(UTC)
    async with labs.running_worker(lab.parts()):
        await lose(lab, "a0", "a1")
        detection = lab.lost("chat-a", 1)
        handle = await lab.start(detection)
        waiting = (await lab.in_state(handle, "waiting_approval"))["waiting"]
        await handle.signal(
            "decide", {"step": waiting["step"], "plan": waiting["digest"], "decision": "approve", "reason": "go"}
        )
        await lab.in_state(handle, "mitigated", 60)
        await lab.heal()
        await lab.resolve(detection)
        result = await handle.result()
    journal = open_journal(lab.journal_url)
    try:
        found = await from_journal(journal, GROUPS, before)
    finally:
        journal.dispose()
    (row,) = [r for r in found.rows if r.name == result["case"]]
    (asked,) = row.asked

    assert (row.label, row.group, row.by, row.mode, row.outcome) == (
        "engine.crash",
        "engine",
        "approved",
        "ask",
        "restored",
    )
    assert (asked.lever, asked.gates, asked.answer, asked.acted, asked.helped) == (
        "reroute_traffic", ("G7",), "approved", True, True,
    )  # fmt: skip
    assert row.people_s == asked.waited_s
    assert row.people_s is not None
    assert 0 < row.people_s < (row.mitigated_after_s or 0.0)
    assert (row.hotfix, row.false_alarm, row.automatic) == (False, False, True)
