"""Cancelled in Temporal, wherever that lands: nothing more is done, and what was done is recorded, told and counted."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.worker import Replayer

from activities.adapters.sql import SqlJournal
from runbooks.change import Receipt
from runbooks.policy import LeverPolicy
from runbooks.record import CaseRecord, StepRecord
from tests import lab as labs
from tests.scenarios.held import held_journal
from tests.scenarios.hostile import Handle, Pager, asking, ended, hang, measured, mitigated, send, signed
from tests.scenarios.test_guard_workflow import guard, start_guard, view
from worker.plugin import interlock_plugin
from workflows.rounds import unproven

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)

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


@pytest.mark.parametrize("call", CALLS)
async def test_a_cancel_that_lands_while_it_judges_or_acts_ends_the_case_with_what_stands_counted(
    lab: labs.Lab, call: str
) -> None:
    """An act that waits a cancel out ends well, and says nothing of it: the case went on as if nobody had cancelled."""
    engine = lab.engines["a1"]
    with held_journal(lab.journal_url) as journal:
        async with labs.running_worker(replace(lab.parts(), journal=journal)), ended(lab) as cases:
            await start_guard(lab, look_every_s=1)
            await measured(lab)
            await hang(lab, engine)
            detection = lab.hang(engine)
            journal.arm(call, detection.workflow_id, each=True)
            handle = await lab.start(detection)
            cases.append(handle)
            await journal.reached.wait()
            await handle.cancel()
            await labs.until(lambda: told(handle), "its workflow has been told")
            journal.go.set()
            result = await handle.result()

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


async def test_a_cancel_that_lands_in_a_tick_of_a_verify_is_not_taken_for_a_lost_tick(lab: labs.Lab) -> None:
    """The tick waits for an edge that answers nothing; after it the case would go on to verify, and restore later."""
    engine = lab.engines["a1"]
    with held_journal(lab.journal_url) as journal:
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


async def test_a_cancel_that_lands_in_a_look_at_the_fault_ends_the_watch(lab: labs.Lab) -> None:
    """Taken for a look that could not be had, it would be watched on, and restored once the fault was gone."""
    engine = lab.engines["a1"]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        handle, _ = await mitigated(lab, cases, engine)
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
    with held_journal(lab.journal_url) as journal:
        async with labs.running_worker(replace(lab.parts(), journal=journal)), ended(lab) as cases:
            await start_guard(lab, look_every_s=1)
            handle, _ = await mitigated(lab, cases, engine)
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


async def test_what_fires_while_a_cancelled_case_is_being_closed_is_in_a_record_and_is_not_acted_on(
    lab: labs.Lab,
) -> None:
    """Its run was cancelled: the round after it records and tells, and touches nothing."""
    engine, other = lab.engines["a1"], lab.engines["a0"]
    with held_journal(lab.journal_url) as journal:
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


async def test_a_cancel_that_is_swallowed_by_a_release_is_heard_all_the_same(lab: labs.Lab) -> None:
    """It comes while the gates are asked, in whose task nothing is heard; they deny, and the domain is given back in it."""
    engine = lab.engines["a1"]
    isolate = LeverPolicy(max_endpoints_down=0, max_acts_per_hour=1000, attempts=1000)
    rules = labs.policy()
    rules = rules.model_copy(update={"levers": {**rules.levers, "isolate_endpoint": isolate}})
    with held_journal(lab.journal_url) as journal:
        async with labs.running_worker(replace(lab.parts(rules), journal=journal)), ended(lab) as cases:
            await measured(lab)
            await hang(lab, engine)
            detection = lab.hang(engine)
            journal.arm("left", detection.workflow_id)
            handle = await lab.start(detection)
            cases.append(handle)
            await journal.reached.wait()
            await handle.cancel()
            journal.go.set()
            result = await handle.result()
            assert (result["outcome"], result["why"]) == ("aborted", "cancelled in Temporal; nothing of it stands")
            assert await acts_after(handle) == []


async def test_an_alert_that_comes_while_a_bad_start_is_told_is_recorded_though_the_case_is_cancelled(
    lab: labs.Lab,
) -> None:
    """The pager is away; whoever cancels the case that waits for it must not lose what came meanwhile."""
    detection = lab.hang(lab.engines["a1"])
    pager = Pager(holds="could not be read")
    async with labs.running_worker(replace(lab.parts(), notify=pager)), ended(lab) as cases:
        handle = await lab.client.start_workflow(
            "Remediation", "junk", id=detection.workflow_id, task_queue=lab.task_queue
        )
        cases.append(handle)
        await pager.reached.wait()
        await handle.signal("detect", detection)
        await handle.cancel()
        await labs.until(lambda: told(handle), "its workflow has been told")
        pager.go.set()
        result = await handle.result()
        journal = SqlJournal(lab.journal_url)
        record = CaseRecord.model_validate_json(await journal.record(result["case"]) or "")
        journal.dispose()
        assert [d.alert for d in record.detections] == [detection.alert]
        assert result["outcome"] == "aborted"


async def test_a_cancel_that_comes_while_the_last_record_is_written_changes_nothing_of_it(lab: labs.Lab) -> None:
    """Written anew, a restored case would be an aborted one, and people would be told of nothing that stands."""
    engine = lab.engines["a1"]
    with held_journal(lab.journal_url) as journal:
        async with labs.running_worker(replace(lab.parts(), journal=journal)), ended(lab) as cases:
            await measured(lab)
            await hang(lab, engine)
            detection = lab.hang(engine)
            handle = await lab.start(detection)
            cases.append(handle)
            await lab.in_state(handle, "mitigated")
            journal.arm("close", handle.id)
            engine.go_on()
            await lab.resolve(detection)
            await asyncio.wait_for(journal.reached.wait(), 60)
            await handle.cancel()
            await labs.until(lambda: told(handle), "its workflow has been told")
            journal.go.set()
            assert (await handle.result())["outcome"] == "restored"


async def test_a_guard_that_is_cancelled_goes_on_and_forgets_no_halt(lab: labs.Lab) -> None:
    """Its journal is away: a Guard that ended now would be followed by one that grants."""
    async with labs.running_worker(lab.parts()):
        await start_guard(lab)
        await labs.until(lambda: view(lab), "it has begun")
        await guard(lab).signal("halt", {"who": "ana", "reason": "a look"})
        await guard(lab).cancel()
        await labs.until(lambda: told(guard(lab)), "it has been told")
        assert (await view(lab))["halted"]
        status = (await guard(lab).describe()).status
        assert status is WorkflowExecutionStatus.RUNNING
        history = await guard(lab).fetch_history()
        await Replayer(workflows=[], plugins=[interlock_plugin()]).replay_workflow(history)
        await lab.forget()


def test_what_a_cancelled_case_leaves_and_nothing_counts_is_named() -> None:
    """A reboot stands nowhere, and an act of which nobody knows has no receipt: "nothing stands" would be all that is said."""
    done = Receipt(
        id="r", permit_id="p", case="c", case_workflow_id="w", step_id="1", lever="reboot_node", target_id="lab/node/n1",
        domain="lab", epoch=1, before={}, after={}, acted_at=NOON,
    )  # fmt: skip
    steps = [
        StepRecord(step_id="1", lever="restart_engine", back="irreversible", receipts=[done], end="mitigated"),
        StepRecord(step_id="2", lever="reroute_traffic", back="restorable", end="uncertain"),
        StepRecord(step_id="3", lever="reboot_node", back="irreversible", receipts=[done]),
    ]
    assert unproven(CaseRecord(case="c", workflow_id="w", run_id="r", opened_at=NOON, steps=steps)) == [
        "reroute_traffic may or may not have been applied",
        "reboot_node was done, cannot be taken back, and is not proven to help",
    ]


async def told(handle: Handle) -> bool:
    """True once a task of the workflow has begun after its cancel, so that it has heard."""
    events = (await handle.fetch_history()).events
    heard = [n for n, e in enumerate(events) if e.HasField("workflow_execution_cancel_requested_event_attributes")]
    return bool(heard) and any(e.HasField("workflow_task_started_event_attributes") for e in events[heard[0] :])


async def under_way(handle: Handle, activity: str) -> bool:
    """True while such an activity runs."""
    pending = (await handle.describe()).raw_description.pending_activities
    return any(p.activity_type.name == activity for p in pending)
