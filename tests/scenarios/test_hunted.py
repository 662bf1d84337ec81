"""What a hostile reader found: each test is a sequence of events that once broke an invariant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from activities.adapters.sql import SqlJournal
from runbooks.change import Change, Permit, Receipt
from runbooks.guard import Answer, Release
from runbooks.plan import GateVerdict, Verdict
from runbooks.record import CaseRecord, Judged, sealed
from tests import lab as labs
from tests.scenarios.held import held_journal
from tests.scenarios.hostile import ended, hang, measured, mitigated, send, signed
from tests.scenarios.test_guard_workflow import guard, held_by_another, question, start_guard, view

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def patient() -> Any:
    """The lab's policy, with time to wait for a turn."""
    rules = labs.policy()
    return rules.model_copy(update={"timing": rules.timing.model_copy(update={"hold_limit_s": 60.0})})


async def test_a_person_who_takes_a_queued_case_does_not_keep_the_domain_from_everybody(lab: labs.Lab) -> None:
    """Its turn would come while he has it, and no clock ends a lock: undo of others would wait for as long as he likes."""
    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts(patient())), ended(lab) as cases:
        await start_guard(lab, look_every_s=60)
        await measured(lab)
        held = await held_by_another(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        await lab.in_state(handle, "waiting_domain")
        assert (await send(handle, signed(handle, "takeover"))).accepted
        await lab.in_state(handle, "taken_over")
        await guard(lab).signal(
            "release", Release(case=held.case, workflow_id=held.workflow_id, applied=False, at=datetime.now(UTC))
        )

        async def free() -> bool:
            return (await view(lab))["holder"] is None

        await labs.until(free, "the domain is free")
        assert engine.address in await lab.rotation("chat-a")


async def test_a_lock_that_its_open_case_does_not_know_of_is_given_up(lab: labs.Lab) -> None:
    """A Guard that was Reset hears what was given back before it hears what was granted, and grants it to nobody's use.
    While its permit may still act, or its case has something under way, nobody takes a lock from it."""
    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts(patient())), ended(lab) as cases:
        await start_guard(lab, look_every_s=1)
        await measured(lab)
        other = await held_by_another(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        await lab.in_state(handle, "waiting_domain")
        assert (await send(handle, signed(handle, "takeover"))).accepted
        await lab.in_state(handle, "taken_over")
        given = Release(case=other.case, workflow_id=other.workflow_id, applied=False, at=datetime.now(UTC))
        await guard(lab).signal("release", given)
        run = (await handle.describe()).run_id
        for attempt, ended_s in ((1, 0.0), (2, 20.0)):
            own = question(
                attempt, workflow_id=handle.id, run_id=run, case=f"{handle.id}#x", permit_ttl_s=5.0,
                facts_oldest_at=datetime.now(UTC) - timedelta(seconds=5.0 + ended_s),
            )  # fmt: skip
            answer: Answer = await guard(lab).execute_update("acquire", own, result_type=Answer)
            assert answer.kind == "permit"
            looks = await looked(lab)
            if not ended_s:

                async def looked_twice(before: int = looks) -> bool:
                    return await looked(lab) >= before + 3

                await labs.until(looked_twice, "its holder was looked at three times")
                assert (await view(lab))["holder"] == handle.id

        async def free() -> bool:
            return (await view(lab))["holder"] is None

        await labs.until(free, "the domain is free")
        assert await looked(lab) >= looks + 2, "once is not enough: its word may have been on its way"


async def test_a_case_that_takes_back_what_it_did_keeps_its_lock_however_long_that_takes(lab: labs.Lab) -> None:
    """Its state says that something stands; its undo is written, and the journal does not take the receipt."""
    engine = lab.engines["a1"]
    with held_journal(lab.journal_url) as journal:
        async with labs.running_worker(replace(lab.parts(), journal=journal)), ended(lab) as cases:
            await start_guard(lab, look_every_s=1)
            handle, _ = await mitigated(lab, cases, engine)
            journal.arm("receive", handle.id, each=True)
            assert (await send(handle, signed(handle, "abort"))).accepted
            await journal.reached.wait()
            looks = await looked(lab)

            async def long_over() -> bool:
                return await looked(lab) >= looks + 25

            await labs.until(long_over, "its permit has ended long ago, and it was looked at again and again", 60)
            assert (await lab.status(handle))["at_work"] is True
            assert (await view(lab))["holder"] == handle.id
            journal.go.set()
            assert (await handle.result())["outcome"] == "aborted"
            assert (await view(lab))["holder"] is None


async def looked(lab: labs.Lab) -> int:
    """How often the Guard has looked after a holder."""
    events = (await guard(lab).fetch_history()).events
    kinds = [e.activity_task_scheduled_event_attributes.activity_type.name for e in events]
    return kinds.count("describe_holder")


async def test_an_alert_after_terminate_does_not_hide_what_the_dead_case_left_standing(lab: labs.Lab) -> None:
    """The next run has the same id: as the holder it would free the lock, and nobody would be told of the receipt."""
    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts(patient())), ended(lab) as cases:
        await start_guard(lab, look_every_s=2)
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        await lab.in_state(handle, "verifying")
        told = len(lab.pages())
        await handle.terminate("a hostile test")
        await lab.start(lab.hang(engine))

        async def owned() -> Any:
            return [p for p in lab.pages()[told:] if "interlock undo" in p["body"] and "isolate_endpoint" in p["body"]]

        await labs.until(owned, "people are told of the receipt")

        async def counted() -> bool:
            return [s["endpoints_down"] for s in (await view(lab))["standing"]] == [{"chat-a": 1}]

        await labs.until(counted, "the Guard counts what stands")
        assert engine.address not in await lab.rotation("chat-a")


async def test_a_permit_that_was_refused_is_not_known_as_one_that_acted(tmp_path: Path) -> None:
    """The worker dies after it wrote the refusal down and before it said so; the next attempt reads the journal first."""
    journal = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    change = Change(before={"k": "in"}, after={"k": "out"}, last=True)
    permit = Permit(
        id="p1", domain="lab", case="c", step_id="1", change_digest=change.digest, purpose="act", epoch=1,
        act_before=NOON + timedelta(seconds=5),
    )  # fmt: skip
    receipt = Receipt(
        id="r-1", permit_id="p1", case="c", case_workflow_id="w", step_id="1", lever="isolate_endpoint",
        target_id="lab/service/x", domain="lab", epoch=1, before=change.before, after=change.after, acted_at=NOON,
    )  # fmt: skip
    try:
        assert await journal.intend(permit, change, receipt)
        await journal.settle(receipt.id, "not_standing", "fenced")
        assert await journal.receipt("p1") is None
        await journal.receive(receipt)  # it had written all the same, and its own attempt read that back
        assert [r.id for r in await journal.standing("lab")] == ["r-1"]
    finally:
        journal.dispose()


def test_a_case_that_was_held_for_days_still_fits_into_one_payload() -> None:
    """Temporal ends a workflow that sends more than 2 MB: no record, no page, and a change that nobody owns."""
    gates = tuple(GateVerdict(gate=f"G{n}", outcome="hold", reason="x" * 200) for n in range(9))
    one = Judged(
        at=NOON, step="1", purpose="act", verdict=Verdict(outcome="hold", gates=gates, policy="p"), guard="none"
    )
    record = CaseRecord(case="c", workflow_id="w", run_id="r", opened_at=NOON, verdicts=[one] * 3000)
    assert len(record.model_dump_json()) > 5_000_000
    text = sealed(record).text
    assert len(text) < 1_000_000
    assert CaseRecord.model_validate_json(text).verdicts
    assert one.like(one.model_copy(update={"at": NOON + timedelta(hours=1)}))
