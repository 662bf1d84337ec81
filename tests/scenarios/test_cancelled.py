"""Cancelled in Temporal, wherever that lands: nothing more is done, and what was done is recorded, told and counted."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest

from runbooks.record import CaseRecord
from tests import lab as labs
from tests.scenarios.held import HeldJournal
from tests.scenarios.hostile import Handle, asking, ended, hang, measured, send, signed
from tests.scenarios.test_guard_workflow import start_guard, view

CALLS = {"left": 0, "intend": 1, "receive": 1}
"""Where it lands (see HeldJournal), and how many changes there are then: what is begun is done to its end."""


async def acts_after(handle: Handle) -> list[str]:
    """The activities that were begun after the cancel, without those that look, tell and write."""
    events = (await handle.fetch_history()).events
    at = next(i for i, e in enumerate(events) if e.HasField("workflow_execution_cancel_requested_event_attributes"))
    begun = [e.activity_task_scheduled_event_attributes.activity_type.name for e in events[at:]]
    return [name for name in begun if name and name not in ("tell", "close_case", "read_back_traffic")]


async def counted(lab: labs.Lab) -> list[dict[str, int]]:
    """What the Guard counts as out of rotation, per standing change."""
    return [s["endpoints_down"] for s in (await view(lab))["standing"]]


@pytest.mark.filterwarnings("ignore:Cannot find activity to cancel")  # of the SDK, for a check that timed out
@pytest.mark.parametrize("call", CALLS)
async def test_a_cancel_that_lands_while_it_judges_or_acts_ends_the_case_with_what_stands_counted(
    lab: labs.Lab, call: str
) -> None:
    """An act that waits a cancel out ends well, and says nothing of it: the case went on as if nobody had cancelled."""
    engine = lab.engines["a1"]
    journal = HeldJournal(lab.journal_url)
    try:
        async with labs.running_worker(replace(lab.parts(), journal=journal)), ended(lab) as cases:
            await start_guard(lab, look_every_s=1)
            await measured(lab)
            await hang(lab, engine)
            detection = lab.hang(engine)
            journal.arm(call, detection.workflow_id)
            handle = await lab.start(detection)
            cases.append(handle)
            await journal.reached.wait()
            await handle.cancel()
            if CALLS[call]:
                journal.go.set()
            result = await handle.result()  # of facts that are never had it hears as its task is prolonged
            journal.go.set()

            assert result["outcome"] == ("adopted" if CALLS[call] else "aborted")
            assert await acts_after(handle) == []
            record = CaseRecord.model_validate_json(await journal.record(result["case"]) or "")
            assert [len(s.receipts) for s in record.steps] == [CALLS[call]]
            assert any("cancelled" in page["title"] for page in lab.pages())

            async def free() -> bool:
                return (await view(lab))["holder"] is None and (await view(lab))["dirty"] is None

            await labs.until(free, "the Guard has found the case closed")
            assert await counted(lab) == [{"chat-a": 1}] * CALLS[call]
            assert (engine.address in await lab.rotation("chat-a")) == (not CALLS[call])
    finally:
        journal.dispose()


async def test_a_cancel_that_lands_in_a_tick_of_a_verify_is_not_taken_for_a_lost_tick(lab: labs.Lab) -> None:
    """The tick waits for an edge that answers nothing; after it the case would go on to verify, and restore later."""
    engine = lab.engines["a1"]
    journal = HeldJournal(lab.journal_url)
    try:
        async with labs.running_worker(replace(lab.parts(), journal=journal)), ended(lab) as cases:
            await start_guard(lab, look_every_s=1)
            await measured(lab)
            await hang(lab, engine)
            detection = lab.hang(engine)
            journal.arm("receive", detection.workflow_id)
            handle = await lab.start(detection)
            cases.append(handle)
            await journal.reached.wait()
            lab.envoy.send_signal(signal.SIGSTOP)
            try:
                journal.go.set()
                await labs.until(lambda: under_way(handle, "verify_tick"), "a tick is under way")
                await handle.cancel()
                result = await handle.result()
            finally:
                lab.envoy.send_signal(signal.SIGCONT)
            assert result["outcome"] == "adopted"
            assert await acts_after(handle) == []

            async def there() -> bool:
                return await counted(lab) == [{"chat-a": 1}] and (await view(lab))["holder"] is None

            await labs.until(there, "the Guard has found the case closed, and counts what stands")
    finally:
        journal.dispose()


async def test_a_cancel_that_lands_in_a_look_at_the_fault_ends_the_watch(lab: labs.Lab) -> None:
    """Taken for a look that could not be had, it would be watched on, and restored once the fault was gone."""
    engine = lab.engines["a1"]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        await lab.in_state(handle, "mitigated")
        lab.envoy.send_signal(signal.SIGSTOP)
        try:
            await labs.until(lambda: under_way(handle, "watch"), "a look is under way")
            await handle.cancel()
            result = await handle.result()
        finally:
            lab.envoy.send_signal(signal.SIGCONT)
        assert result["outcome"] == "adopted"
        assert await acts_after(handle) == []


async def test_a_cancel_while_a_case_takes_back_what_it_did_ends_it_with_nothing_standing(lab: labs.Lab) -> None:
    """The undo that is under way is done to its end; for as long the case is at work, and keeps its domain."""
    engine = lab.engines["a1"]
    journal = HeldJournal(lab.journal_url)
    try:
        async with labs.running_worker(replace(lab.parts(), journal=journal)), ended(lab) as cases:
            await start_guard(lab, look_every_s=1)
            await measured(lab)
            await hang(lab, engine)
            handle = await lab.start(lab.hang(engine))
            cases.append(handle)
            await lab.in_state(handle, "mitigated")
            journal.arm("receive", handle.id)
            assert (await send(handle, signed(handle, "abort"))).accepted
            await journal.reached.wait()
            await handle.cancel()
            assert (await lab.status(handle))["at_work"] is True
            assert (await view(lab))["holder"] == handle.id
            journal.go.set()
            result = await handle.result()
            assert (result["outcome"], await acts_after(handle)) == ("aborted", [])

            async def free() -> bool:
                return (await view(lab))["holder"] is None and await counted(lab) == []

            await labs.until(free, "nothing stands")
    finally:
        journal.dispose()


async def test_what_fires_while_a_cancelled_case_is_being_closed_is_in_a_record_and_is_not_acted_on(
    lab: labs.Lab,
) -> None:
    """Its run was cancelled: the round after it records and tells, and touches nothing."""
    engine, other = lab.engines["a1"], lab.engines["a0"]
    journal = HeldJournal(lab.journal_url)
    try:
        async with labs.running_worker(replace(lab.parts(asking()), journal=journal)), ended(lab) as cases:
            await measured(lab)
            await hang(lab, engine)
            detection = lab.hang(engine)
            handle = await lab.start(detection)
            cases.append(handle)
            await lab.in_state(handle, "waiting_approval")
            journal.arm("close", handle.id)
            await handle.cancel()
            await journal.reached.wait()
            again = detection.model_copy(update={"alert": "FiredAgain", "fingerprint": "again"})
            await handle.signal("detect", again)
            journal.go.set()
            result = await handle.result()
            assert (result["outcome"], await acts_after(handle)) == ("aborted", [])
            record = CaseRecord.model_validate_json(await journal.record(result["case"]) or "")
            assert [d.alert for d in record.detections if d.status == "firing"] == ["FiredAgain"]
            assert {engine.address, other.address} <= await lab.rotation("chat-a")
    finally:
        journal.dispose()


async def under_way(handle: Handle, activity: str) -> bool:
    """True while such an activity runs."""
    pending = (await handle.describe()).raw_description.pending_activities
    return any(p.activity_type.name == activity for p in pending)
