"""`interlock undo` while the case that made the change is open: it hears of it, says so, and does not fight for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from activities.adapters.sql import SqlJournal
from runbooks.policy import ClassPolicy, Policy
from tests import lab as labs
from tests.scenarios.held import held_journal
from tests.scenarios.hostile import Handle, ended, mitigated, send, signed
from tests.scenarios.test_ends import settings_of
from tests.scenarios.test_engine_crash import lose, weights
from tests.scenarios.test_guard_workflow import view
from worker.commands import undo


def lingering(**classes: ClassPolicy) -> Policy:
    """The lab's policy, but a case that people own stays open while its alert fires."""
    rules = labs.policy(**classes)
    return rules.model_copy(update={"timing": rules.timing.model_copy(update={"linger_s": 60.0})})


def receipts(status: dict[str, Any]) -> list[str]:
    """Of the first step, the oldest first."""
    return [r["id"] for r in status["record"]["steps"][0]["receipts"]]


async def test_what_is_taken_back_by_hand_is_peoples_and_is_not_done_anew(lab: labs.Lab) -> None:
    """The fault is still there. The page says so, nothing stands for the Guard, and a resolution ends the case."""
    engine = lab.engines["a1"]
    async with labs.running_worker(lab.parts(lingering())), ended(lab) as cases:
        handle, receipt = await mitigated(lab, cases, engine)
        said = await undo._undo(settings_of(lab), receipt)
        assert "undone" in said
        status = await lab.in_state(handle, "handed_over")
        assert status["record"]["steps"][0]["standing"] is None
        assert [e["text"] for e in status["timeline"] if e["what"] == "by hand"]
        assert any("by hand" in page["title"] for page in lab.pages())
        assert (await view(lab))["standing"] == []
        again = lab.hang(engine).model_copy(update={"observed_at": datetime.now(UTC)})
        await handle.signal("detect", again)
        await lab.in_state(handle, "handed_over")
        assert engine.address in await lab.rotation("chat-a")
        engine.go_on()
        await lab.resolve(again)
        assert (await handle.result())["outcome"] == "adopted"
        journal = SqlJournal(lab.journal_url)
        assert await journal.state(receipt) == "undone"
        journal.dispose()


async def test_who_takes_over_undoes_and_hands_back_has_it_planned_anew(lab: labs.Lab) -> None:
    """In the README's order for 3 am."""
    engine = lab.engines["a1"]
    async with labs.running_worker(lab.parts(lingering())), ended(lab) as cases:
        handle, receipt = await mitigated(lab, cases, engine)
        assert (await send(handle, signed(handle, "takeover"))).accepted
        await lab.in_state(handle, "taken_over")
        await undo._undo(settings_of(lab), receipt)
        assert engine.address in await lab.rotation("chat-a")
        assert (await send(handle, signed(handle, "hand_back"))).accepted

        async def out_again() -> bool:
            return engine.address not in await lab.rotation("chat-a")

        await labs.until(out_again, "it is isolated anew")
        status = await lab.in_state(handle, "mitigated")
        stands = [s["standing"] for s in status["record"]["steps"]]
        assert [s is not None for s in stands] == [False, True]
        assert len((await view(lab))["standing"]) == 1


async def test_an_abort_after_an_undo_by_hand_finds_nothing_to_take_back(lab: labs.Lab) -> None:
    """Compare-and-set would refuse it, as if a stranger had changed it, and people would be told that it stands."""
    engine = lab.engines["a1"]
    async with labs.running_worker(lab.parts(lingering())), ended(lab) as cases:
        handle, receipt = await mitigated(lab, cases, engine)
        assert (await send(handle, signed(handle, "takeover"))).accepted
        await lab.in_state(handle, "taken_over")
        await undo._undo(settings_of(lab), receipt)
        assert (await send(handle, signed(handle, "abort"))).accepted
        result = await handle.result()
        assert result["outcome"] == "aborted"
        assert "nothing of it stands" in result["why"]


async def test_while_nobody_knows_what_people_settled_nothing_is_put_back(lab: labs.Lab) -> None:
    """It is meant to stay, and the fault is gone: a restore would undo what a person has decided."""
    engine = lab.engines["a1"]
    with held_journal(lab.journal_url) as journal:
        parts = replace(lab.parts(lingering()), journal=journal)
        async with labs.running_worker(parts), ended(lab) as cases:
            handle, receipt = await mitigated(lab, cases, engine)
            journal.blind = True
            await undo._settle(settings_of(lab), receipt, "it stays out")
            engine.go_on()
            await lab.resolve(lab.hang(engine))
            began = await looks(handle)

            async def looked_on() -> bool:
                return await looks(handle) >= began + 5

            await labs.until(looked_on, "it was looked at again and again", 60)
            assert engine.address not in await lab.rotation("chat-a")
            journal.blind = False
            assert (await handle.result())["outcome"] == "adopted"
            assert engine.address not in await lab.rotation("chat-a")


async def looks(handle: Handle) -> int:
    """How often it was looked whether the fault is gone."""
    events = (await handle.fetch_history()).events
    return [e.activity_task_scheduled_event_attributes.activity_type.name for e in events].count("watch")


async def test_of_a_step_in_two_increments_the_one_that_is_left_is_watched_on(lab: labs.Lab) -> None:
    """The command names the next one, newest first; when both are back, the case knows it."""
    unattended = ClassPolicy(mode="auto")
    async with labs.running_worker(lab.parts(lingering(engine__crash=unattended))), ended(lab) as cases:
        await lose(lab, "a0", "a1")
        detection = lab.lost("chat-a", 1)
        handle = await lab.start(detection)
        cases.append(handle)
        status = await lab.in_state(handle, "mitigated", 60)
        first, second = receipts(status)
        assert f"interlock undo {first}" in await undo._undo(settings_of(lab), second)

        async def half() -> bool:
            stands = (await lab.status(handle))["record"]["steps"][0]["standing"]
            return stands is not None and set(stands["after"].values()) == set(receipt_of(status, 0)["after"].values())

        await labs.until(half, "the first increment is what stands")
        await undo._undo(settings_of(lab), first)
        await lab.in_state(handle, "handed_over")
        assert await weights(lab) == {"chat-a": 50, "chat-b": 50}
        await lab.heal()


def receipt_of(status: dict[str, Any], number: int) -> dict[str, Any]:
    """One of the first step."""
    found: dict[str, Any] = status["record"]["steps"][0]["receipts"][number]
    return found
