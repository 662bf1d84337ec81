"""The Guard as a workflow: turns, halt, memory, dead holders, and the Reset button."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus

from activities.adapters.sql import SqlJournal
from runbooks.change import Blast
from runbooks.detection import Target, guard_id
from runbooks.guard import AcquireRequest, Answer, Release
from tests import lab as labs
from tests.scenarios.hostile import Handle, clean, ended, hang, measured, raw_signal
from tests.scenarios.test_engine_crash import lose
from tests.unbounded import UNBOUNDED


def guard(lab: labs.Lab) -> Handle:
    """The Guard of the lab's domain."""
    return lab.client.get_workflow_handle(guard_id(labs.CLUSTER))


async def start_guard(lab: labs.Lab, look_every_s: float = 1.0) -> Handle:
    """A Guard that looks at its holder often."""
    await clean(lab)
    return await lab.client.start_workflow(
        "Guard", {"domain": labs.CLUSTER, "look_every_s": look_every_s}, id=guard_id(labs.CLUSTER),
        task_queue=lab.task_queue,
    )  # fmt: skip


async def view(lab: labs.Lab) -> dict[str, Any]:
    """What the Guard says."""
    found: dict[str, Any] = await guard(lab).query("view")
    return found


def question(attempt: int, **more: Any) -> AcquireRequest:
    """A question of nobody's case."""
    base: dict[str, Any] = {
        "domain": labs.CLUSTER, "case": "remediate:lab/x#1", "workflow_id": "remediate:lab/x", "run_id": "r",
        "target": Target(cluster=labs.CLUSTER, service="x"), "step_id": "1", "increment": 0, "attempt": attempt,
        "purpose": "undo", "lever": "isolate_endpoint", "change_digest": "d", "blast": Blast(),
        "facts_oldest_at": datetime.now(UTC), "seen_epoch": 0, "priority": 0, "settle_s": 0.0, "permit_ttl_s": 5.0,
        "max_acts_per_hour": 1000, "attempts": 1000, "cooldown_s": 0.0, "ineffective_s": 3600.0,
        "failure_class": "engine.hang", "limits": UNBOUNDED,
    }  # fmt: skip
    return AcquireRequest.model_validate({**base, **more})


async def held_by_another(lab: labs.Lab) -> AcquireRequest:
    """The question by which nobody's case got the domain."""
    held = question(1)

    async def holds() -> bool:
        answer: Answer = await guard(lab).execute_update("acquire", held, result_type=Answer)
        return answer.kind == "permit"

    await labs.until(holds, "another case holds the domain")
    return held


async def test_a_case_of_a_held_domain_is_queued_and_gets_its_turn_by_news_not_by_asking_again(lab: labs.Lab) -> None:
    """It would ask again after 30 s; news of the release reaches it at once. Until then nothing is touched."""
    engine = lab.engines["a0"]
    rules = labs.policy()
    rules = rules.model_copy(update={"timing": rules.timing.model_copy(update={"hold_limit_s": 60.0})})
    async with labs.running_worker(lab.parts(rules)), ended(lab) as cases:
        await start_guard(lab, look_every_s=60)
        await measured(lab)
        held = await held_by_another(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        await lab.in_state(handle, "waiting_domain")
        assert engine.address in await lab.rotation("chat-a")
        await guard(lab).signal(
            "release", Release(case=held.case, workflow_id=held.workflow_id, applied=False, at=datetime.now(UTC))
        )
        await lab.in_state(handle, "mitigated", 20)
        assert engine.address not in await lab.rotation("chat-a")


async def test_two_cases_never_change_one_domain_at_the_same_time(lab: labs.Lab) -> None:
    """Two engines of one pool hang together: the second acts only after the first was verified or told."""
    rules = labs.policy().model_copy(update={"min_answering": 0.2})
    wide = rules.levers["isolate_endpoint"].model_copy(update={"max_endpoints_down": 2, "max_share_down": 0.7})
    rules = rules.model_copy(
        update={
            "levers": {**rules.levers, "isolate_endpoint": wide},
            "timing": rules.timing.model_copy(update={"hold_limit_s": 60.0}),
        }
    )
    one, two = lab.engines["a0"], lab.engines["a1"]
    async with labs.running_worker(lab.parts(rules)), ended(lab) as cases:
        await measured(lab)
        await hang(lab, one)
        await hang(lab, two)
        cases += [await lab.start(lab.hang(one)), await lab.start(lab.hang(two))]
        spans = []
        for handle in list(cases):
            status = await lab.in_state(handle, "mitigated", 60)
            effect = next(e["at"] for e in status["timeline"] if e["what"].startswith("effect: "))
            acted = status["record"]["steps"][0]["receipts"][0]["acted_at"]
            spans.append((datetime.fromisoformat(acted), datetime.fromisoformat(effect)))
        spans.sort()
        assert spans[0][1] <= spans[1][0], "the second acted before the first had its verdict"
        assert not {one.address, two.address} & await lab.rotation("chat-a")


async def test_a_halt_stops_every_act_until_it_is_resumed_by_a_verified_person(lab: labs.Lab) -> None:
    """Even an order that does not decode halts; a resume by nobody in particular does not resume."""
    engine = lab.engines["a0"]
    rules = labs.policy()
    rules = rules.model_copy(update={"timing": rules.timing.model_copy(update={"hold_limit_s": 60.0})})
    async with labs.running_worker(lab.parts(rules)), ended(lab) as cases:
        await start_guard(lab)
        await raw_signal(lab, guard(lab), "halt", (b"json/plain", b'{"reason": '))
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        await lab.in_state(handle, "holding")
        await raw_signal(lab, guard(lab), "resume", (b"json/plain", b"{}"))
        await raw_signal(lab, guard(lab), "resume")
        assert (await view(lab))["halted"]
        assert engine.address in await lab.rotation("chat-a")
        await guard(lab).signal("resume", {"who": "ana", "reason": "a name typed into JSON is nobody"})
        assert (await view(lab))["halted"]
        assert (await lab.order("resume", who="mallory")).why
        assert (await lab.order("resume")).accepted
        await lab.in_state(handle, "mitigated")
        assert engine.address not in await lab.rotation("chat-a")


async def test_the_guard_keeps_its_answers_and_its_epoch_across_continue_as_new(lab: labs.Lab) -> None:
    """More than 500 questions: the same question still has the same answer, and epochs go on rising."""
    async with labs.running_worker(lab.parts()), ended(lab):
        handle = await start_guard(lab)
        run = (await handle.describe()).run_id

        async def ask(req: AcquireRequest) -> Answer:
            answer: Answer = await guard(lab).execute_update("acquire", req, result_type=Answer)
            return answer

        epochs = [-1]
        for attempt in range(520):
            req = question(attempt)
            answer = await ask(req)
            if answer.permit is not None:
                assert answer.permit.epoch > epochs[-1]
                epochs.append(answer.permit.epoch)
        assert len(epochs) > 500

        async def renewed() -> bool:
            return (await guard(lab).describe()).run_id != run

        await labs.until(renewed, "the Guard has continued as new")
        assert await ask(req) == answer
        later = (await ask(question(10_000))).permit
        assert later is not None
        assert later.epoch > epochs[-1]


async def test_a_case_that_is_terminated_while_its_change_stands_is_told_and_the_receipt_stays_standing(
    lab: labs.Lab,
) -> None:
    """It held no lock any more; its standing receipt is counted until somebody settles it."""
    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await start_guard(lab)
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        await lab.in_state(handle, "mitigated")
        before = len(lab.pages())
        await handle.terminate("a hostile test")

        async def told() -> Any:
            return [p for p in lab.pages()[before:] if handle.id in p["title"]]

        await labs.until(told, "people are told")
        assert [s["target_id"] for s in (await view(lab))["standing"]] == [lab.endpoint(engine).id]
        assert engine.address not in await lab.rotation("chat-a")


async def test_a_guard_that_is_terminated_under_a_case_costs_neither_the_case_nor_its_receipt(lab: labs.Lab) -> None:
    """The next question starts a new Guard, above the epoch that the actuator has seen; the restore still comes."""
    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await measured(lab)
        await hang(lab, engine)
        detection = lab.hang(engine)
        handle = await lab.start(detection)
        cases.append(handle)
        await lab.in_state(handle, "verifying")
        await guard(lab).terminate("a hostile test")
        await lab.in_state(handle, "mitigated")
        engine.go_on()
        await lab.resolve(detection)
        assert (await handle.result())["outcome"] == "restored"
        assert engine.address in await lab.rotation("chat-a")


async def test_a_guard_that_is_terminated_is_still_halted_when_it_comes_back(lab: labs.Lab) -> None:
    """A click that was meant for a case must not let every lever go: the next Guard knows the halt, and only a person ends it."""
    async with labs.running_worker(lab.parts()):
        await start_guard(lab)
        await guard(lab).signal("halt", {"who": "ana", "reason": "a look"})
        await written(lab, "halted")
        await guard(lab).terminate("a hostile test")
        await start_again(lab)
        await shows(lab, "halted", "halted by ana: a look")
        answer: Answer = await guard(lab).execute_update("acquire", question(1, purpose="act"), result_type=Answer)
        assert answer.kind == "halted"
        assert (await lab.order("resume")).accepted
        assert (await view(lab))["halted"] is None
        await lab.forget()


async def test_a_guard_that_is_terminated_knows_its_holder_its_budget_and_what_was_tried(lab: labs.Lab) -> None:
    """Nobody else gets the domain while a case verifies, and an attempt is not free again."""
    async with labs.running_worker(lab.parts()):
        await start_guard(lab, look_every_s=60)
        asked = question(1, purpose="act")
        first: Answer = await guard(lab).execute_update("acquire", asked, result_type=Answer)
        assert first.kind == "permit"
        await written(lab, "lock")
        await guard(lab).terminate("a hostile test")
        await start_again(lab)
        await shows(lab, "holder", asked.workflow_id)
        shown = await view(lab)
        assert shown["acts_last_hour"] == 1
        assert list(shown["attempts"]) == ["isolate_endpoint|lab/service/x|engine.hang"]
        other = question(1, purpose="act", case="remediate:lab/y#1", workflow_id="remediate:lab/y")
        queued: Answer = await guard(lab).execute_update("acquire", other, result_type=Answer)
        assert queued.kind == "queued"
        assert first.permit is not None
        again: Answer = await guard(lab).execute_update(
            "acquire", question(2, purpose="act", facts_oldest_at=datetime.now(UTC)), result_type=Answer
        )
        assert again.permit is not None
        assert again.permit.epoch > first.permit.epoch, "an epoch is never given twice"
        await lab.forget()


async def test_a_domain_that_was_given_back_while_its_guard_was_gone_is_free_again(lab: labs.Lab) -> None:
    """The release went to nobody. The next Guard knows the old lock, asks its case, and gives the domain to who waits."""
    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await start_guard(lab)
        await measured(lab)
        await hang(lab, engine)
        detection = lab.hang(engine)
        handle = await lab.start(detection)
        cases.append(handle)
        await lab.in_state(handle, "verifying")
        await written(lab, "lock")
        await guard(lab).terminate("a hostile test")
        await lab.in_state(handle, "mitigated")
        await lab.client.start_workflow(
            "Guard", {"domain": labs.CLUSTER, "look_every_s": 1}, id=guard_id(labs.CLUSTER), task_queue=lab.task_queue
        )

        async def free() -> bool:
            shown = await view(lab)
            return shown["holder"] is None and len(shown["standing"]) == 1

        await labs.until(free, "the old lock is gone, and what stands is known")
        engine.go_on()
        await lab.resolve(detection)
        assert (await handle.result())["outcome"] == "restored"
        await lab.forget()


async def test_a_step_that_ends_between_two_increments_holds_nobody_for_the_next(lab: labs.Lab) -> None:
    """The alert resolves after the first: what was moved stands, and nothing of it is under way."""
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await start_guard(lab)
        await lose(lab, "a0", "a1")
        detection = lab.lost("chat-a", 1)
        handle = await lab.start(detection)
        cases.append(handle)
        waiting = (await lab.in_state(handle, "waiting_approval"))["waiting"]
        await handle.signal(
            "decide", {"step": waiting["step"], "plan": waiting["digest"], "decision": "approve", "reason": "go"}
        )
        await lab.in_state(handle, "verifying", 60)
        await lab.resolve(detection)
        await lab.in_state(handle, "mitigated", 60)

        async def rests() -> bool:
            standing = (await view(lab))["standing"]
            return bool(standing) and not any(s["under_way"] for s in standing)

        await labs.until(rests, "it stands, and no increment follows")
        await lab.heal()
        assert (await handle.result())["outcome"] == "restored"


async def start_again(lab: labs.Lab) -> None:
    """As the next question of any case would."""
    await lab.client.start_workflow(
        "Guard", {"domain": labs.CLUSTER, "look_every_s": 60}, id=guard_id(labs.CLUSTER), task_queue=lab.task_queue
    )


async def shows(lab: labs.Lab, field: str, value: str) -> None:
    """The Guard comes to say so."""

    async def so() -> bool:
        return bool((await view(lab))[field] == value)

    await labs.until(so, f"{field} is {value}")


async def written(lab: labs.Lab, field: str) -> None:
    """What the Guard knows is in the journal."""
    journal = SqlJournal(lab.journal_url)

    async def there() -> bool:
        kept = await journal.remembered(labs.CLUSTER)
        return kept is not None and json.loads(kept[1])[field] is not None

    try:
        await labs.until(there, f"{field} is in the journal")
    finally:
        journal.dispose()


async def reset(lab: labs.Lab, handle: Handle, event_id: int) -> Handle:
    """The UI's Reset button."""
    execution = WorkflowExecution(workflow_id=handle.id, run_id=(await handle.describe()).run_id)
    answer = await lab.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=lab.client.namespace, workflow_execution=execution, reason="a hostile test",
            workflow_task_finish_event_id=event_id, request_id=str(uuid.uuid4()),
        )
    )  # fmt: skip
    return lab.client.get_workflow_handle(handle.id, run_id=answer.run_id)


async def task_before(handle: Handle, activity: str) -> int:
    """The workflow task that scheduled an activity: resetting to it does the activity again."""
    found = 0
    async for event in handle.fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            found = event.event_id
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.activity_type.name == activity:
            return found
    raise AssertionError(f"{activity} was never scheduled")


async def test_a_reset_in_the_middle_of_a_step_does_not_act_twice_and_the_case_goes_on(lab: labs.Lab) -> None:
    """Reset to just before the act, while it is verified: the permit is known, the receipt is read, Envoy sees one act."""
    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await start_guard(lab)
        await measured(lab)
        await hang(lab, engine)
        detection = lab.hang(engine)
        before, told = await lab.envoy_counts(), len(lab.pages())
        handle = await lab.start(detection)
        cases.append(handle)
        await lab.in_state(handle, "verifying")
        again = await reset(lab, handle, await task_before(handle, "apply_traffic"))
        status = await lab.in_state(again, "mitigated", 40)
        after = await lab.envoy_counts()
        assert after["cluster.chat-a.update_success"] - before["cluster.chat-a.update_success"] == 1
        assert len(status["record"]["steps"][0]["receipts"]) == 1
        assert not [p for p in lab.pages()[told:] if handle.id in p["title"]], "a reset case is not dead"
        engine.go_on()
        await lab.resolve(detection)
        assert (await again.result())["outcome"] == "restored"
        assert engine.address in await lab.rotation("chat-a")


async def test_a_reset_to_the_start_of_a_case_whose_change_stands_forgets_nothing(lab: labs.Lab) -> None:
    """All is planned anew, nothing is left to change; what stands must still have an owner and a page, or a way back."""
    engine = lab.engines["a0"]
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await start_guard(lab)
        await measured(lab)
        await hang(lab, engine)
        detection = lab.hang(engine)
        handle = await lab.start(detection)
        cases.append(handle)
        await lab.in_state(handle, "mitigated")
        again = await reset(lab, handle, 4)

        async def safe() -> Any:
            journal = SqlJournal(lab.journal_url)
            try:
                owed = await journal.unsettled(handle.id)
            finally:
                journal.dispose()
            closed = (await again.describe()).status is not WorkflowExecutionStatus.RUNNING
            watched = not closed and (await lab.status(again))["state"] == "mitigated"
            told = [p for p in lab.pages() if owed and owed[0].id in p["body"]]
            return watched or (closed and (told or not owed))

        await labs.until(safe, "what stands is watched, or people were told of it", 40)
        standing = [s["target_id"] for s in (await view(lab))["standing"]]
        assert standing == [lab.endpoint(engine).id]


async def test_a_resume_that_waited_for_a_worker_does_not_lift_a_halt_that_came_after_it(lab: labs.Lab) -> None:
    """While no worker answers both wait, and signals are handled before updates: the order of sending must count."""
    async with labs.running_worker(lab.parts()):
        await start_guard(lab)
        await guard(lab).signal("halt", {"who": "bob", "reason": "first"})
        assert (await view(lab))["halted"]
    order = asyncio.create_task(lab.order("resume"))
    await asyncio.sleep(2)  # it is on its way, and nobody is there
    await guard(lab).signal("halt", {"who": "bob", "reason": "it gets worse"})
    async with labs.running_worker(lab.parts()), ended(lab):
        assert "stopped again after this order" in (await order).why
        assert "it gets worse" in (await view(lab))["halted"]
        assert (await lab.order("resume")).accepted
        assert (await view(lab))["halted"] is None
