"""A case that hands its fault over to the domain's: what comes meanwhile is in somebody's record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from runbooks.detection import Target, member
from runbooks.record import CaseRecord
from tests import lab as labs
from tests.scenarios.held import HeldJournal
from tests.scenarios.hostile import asking, ended, hang, measured


async def test_what_fires_and_is_resolved_while_its_case_is_being_closed_is_in_a_record(lab: labs.Lab) -> None:
    """The case's own record is made by then, and of a firing and its resolution the resolution alone was handed on."""
    rules = asking()
    rules = rules.model_copy(update={"domain": rules.domain.model_copy(update={"correlate_targets": 2})})
    one, two = (lab.engines[n] for n in ("a0", "b0"))
    journal = HeldJournal(lab.journal_url)
    wide = Target(cluster=labs.CLUSTER)
    whole = lab.client.get_workflow_handle(f"remediate:{labs.CLUSTER}")
    try:
        async with labs.running_worker(replace(lab.parts(rules), journal=journal)), ended(lab) as cases:
            await measured(lab)
            for engine in (one, two):
                await hang(lab, engine)
            first = lab.hang(one)
            journal.arm("close", first.workflow_id)
            handles = [await lab.start(first), await lab.start(lab.hang(two))]
            cases += [*handles, whole]
            await journal.reached.wait()
            now = datetime.now(UTC)
            again = first.model_copy(update={"started_at": now, "observed_at": now})
            over = now + timedelta(milliseconds=1)
            await handles[0].signal("detect", again)
            await handles[0].signal("detect", again.model_copy(update={"status": "resolved", "observed_at": over}))
            journal.go.set()
            assert [(await h.result())["outcome"] for h in handles] == ["handed_over"] * 2

            async def recorded() -> bool:
                records = [CaseRecord.model_validate_json(r) for r in await journal.cases(50)]
                key = member(again, wide).key
                said = [d for r in records if r.workflow_id == whole.id for d in r.detections if d.key == key]
                return any(d.seen_at >= now for d in said)

            other = lab.hang(two).model_copy(update={"status": "resolved"})
            await whole.signal("detect", member(other, wide))  # nothing fires any more: the domain's case ends
            await labs.until(recorded, "the second firing is in a record of the domain's case", 60)
    finally:
        journal.dispose()
