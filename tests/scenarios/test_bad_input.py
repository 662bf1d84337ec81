"""What is wrong, late, doubled, re-ordered or not measurable: answered, told, and never acted on."""

from __future__ import annotations

import json
import signal
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload, Payloads, WorkflowType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from runbooks.detection import Detection, Target
from runbooks.policy import ClassPolicy, Policy
from tests import lab as labs
from tests.scenarios.hostile import HOSTILE_PAYLOADS, Handle, ended, hang, measured, raw_signal, waiting_case


async def raw_start(lab: labs.Lab, workflow_id: str, *payloads: tuple[bytes, bytes]) -> Handle:
    """Starts a Remediation with bytes, past every converter."""
    await lab.client.workflow_service.start_workflow_execution(
        StartWorkflowExecutionRequest(
            namespace=lab.client.namespace,
            workflow_id=workflow_id,
            workflow_type=WorkflowType(name="Remediation"),
            task_queue=TaskQueue(name=lab.task_queue),
            input=Payloads(payloads=[Payload(metadata={"encoding": e}, data=d) for e, d in payloads]),
            request_id=str(uuid.uuid4()),
        )
    )
    return lab.client.get_workflow_handle(workflow_id)


def timeline(status: dict[str, Any]) -> str:
    """All lines."""
    return "\n".join(f"{e['what']}: {e['text']}" for e in status["timeline"])


async def acts(lab: labs.Lab) -> dict[str, int]:
    """What Envoy has taken in."""
    return {k: v for k, v in (await lab.envoy_counts()).items() if "update_success" in k or "load_success" in k}


async def paged_untouched(lab: labs.Lab, detection: Detection, rules: Policy | None = None) -> dict[str, Any]:
    """Runs a case that must end as paged with Envoy as it was; returns its status."""
    before, told = await acts(lab), len(lab.pages())
    async with labs.running_worker(lab.parts(rules)), ended(lab) as cases:
        handle = await lab.start(detection)
        cases.append(handle)
        result = await handle.result()
        status = await lab.status(handle)
        assert result["outcome"] == "paged", timeline(status)
    assert await acts(lab) == before
    assert len(lab.pages()) > told
    return status


# --- payloads --------------------------------------------------------------------------------------------------------


async def test_a_run_that_is_started_with_garbage_closes_as_refused_and_people_are_told_why(lab: labs.Lab) -> None:
    """Bytes, broken JSON, a list, null, deep JSON, half a character, nothing, two payloads, an empty object."""
    odd: dict[str, tuple[tuple[bytes, bytes], ...]] = {k: (v,) for k, v in HOSTILE_PAYLOADS.items()}
    odd |= {"nothing": (), "two": ((b"json/plain", b"{}"),) * 2, "empty": ((b"json/plain", b"{}"),)}
    odd |= {"no known encoding": ((b"zip/secret", b"{}"),)}
    told = len(lab.pages())
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        for n, (what, payloads) in enumerate(odd.items()):
            handle = await raw_start(lab, f"remediate:lab/garbage-{n}", *payloads)
            cases.append(handle)
            result = await labs.until(lambda h=handle: h.result(), what)  # type: ignore[misc]
            assert result["outcome"] == "refused_input", what
            assert result["why"], what
    assert len(lab.pages()) == told + len(odd)


async def test_garbage_to_a_running_case_is_noted_on_its_page_and_changes_nothing(lab: labs.Lab) -> None:
    """Also what does not decode at all: an alert that cannot be read must not vanish without a line."""
    async with waiting_case(lab) as case:
        for payload in HOSTILE_PAYLOADS.values():
            await raw_signal(lab, case.handle, "detect", payload)

        async def noted() -> bool:
            found = timeline(await lab.status(case.handle)).count("input refused")
            return found == len(HOSTILE_PAYLOADS)

        await labs.until(noted, "each is noted")
        await case.untouched()


async def test_a_detection_under_the_id_of_another_target_reaches_the_right_case(lab: labs.Lab) -> None:
    """Started under a wrong id, and sent to a running case of another target: both are forwarded, neither is merged."""
    wrong = "remediate:lab/service/elsewhere"
    stray = lab.hang(lab.engines["b1"], alert="NeverHeardOf")
    async with waiting_case(lab) as case, ended(lab) as cases:
        handle = await raw_start(lab, wrong, (b"json/plain", stray.model_dump_json().encode()))
        right = lab.client.get_workflow_handle(stray.workflow_id)
        cases.extend([handle, right])
        assert (await handle.result())["outcome"] == "forwarded"
        assert (await right.result())["outcome"] == "paged"

        await case.handle.signal("detect", lab.hang(lab.engines["b2"], alert="NeverHeardOf"))
        second = lab.client.get_workflow_handle(lab.hang(lab.engines["b2"]).workflow_id)
        cases.append(second)

        async def arrived() -> bool:
            return "forwarded" in timeline(await lab.status(case.handle))

        await labs.until(arrived, "the stray detection is forwarded")
        assert (await second.result())["outcome"] == "paged"
        status = await lab.status(case.handle)
        assert len(status["record"]["detections"]) == 1
        assert status["state"] == "waiting_approval"


async def test_an_alert_that_no_rule_knows_is_unknown_and_only_pages(lab: labs.Lab) -> None:
    """Triage looks and sees nothing: no class, and nothing moves. (What it does see asks people: test_triage_look.py.)"""
    engine = lab.engines["a0"]
    status = await paged_untouched(lab, lab.hang(engine, alert="SomethingNew", evidence={}))
    assert status["class"] == "unknown"


async def test_an_endpoint_that_is_not_in_the_fleet_is_told_and_not_touched(lab: labs.Lab) -> None:
    """What is not in the inventory is nobody's to move."""
    stranger = Target(cluster=labs.CLUSTER, service="chat-a", endpoint="127.0.0.1:9")
    status = await paged_untouched(lab, lab.hang(lab.engines["a0"], target=stranger))
    assert "not in the fleet" in json.dumps(status["record"])


# --- time and order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "why"),
    [(timedelta(hours=-3), "min old when it came"), (timedelta(seconds=60), "clock is +")],
    ids=["hours old", "a minute in the future"],
)
async def test_an_alert_of_another_time_is_denied_by_g1_and_paged(lab: labs.Lab, off: timedelta, why: str) -> None:
    """The fault is there, but this evidence does not prove it."""
    engine = lab.engines["a0"]
    await hang(lab, engine)
    then = datetime.now(UTC) + off
    status = await paged_untouched(lab, lab.hang(engine, observed_at=then, started_at=min(then, datetime.now(UTC))))
    assert "deny: 1-isolate_endpoint (act): G1" in timeline(status)
    assert why in timeline(status)


async def test_repeats_are_one_case_and_an_older_firing_after_a_resolved_does_not_open_it_again(lab: labs.Lab) -> None:
    """Alertmanager repeats and networks re-order; the newest word of a detector counts."""
    async with waiting_case(lab) as case:
        for _ in range(5):
            await lab.start(case.detection)
        status = await lab.status(case.handle)
        assert len(status["record"]["detections"]) == 1
        assert timeline(status).count("alert firing") == 1
        assert timeline(status).count("approval asked") == 1

        old = case.detection
        await lab.resolve(case.detection)
        await case.handle.signal("detect", old)
        result = await case.handle.result()
        assert result["outcome"] == "self_resolved"
        assert case.engine.address in await lab.rotation("chat-a")


async def test_an_alert_that_resolves_before_anything_is_done_closes_without_an_act(lab: labs.Lab) -> None:
    """The approval that was asked for is void."""
    before = await acts(lab)
    async with waiting_case(lab) as case:
        await lab.resolve(case.detection)
        assert (await case.handle.result())["outcome"] == "self_resolved"
        assert await acts(lab) == before


# --- facts -----------------------------------------------------------------------------------------------------------


async def test_a_fault_that_cannot_be_seen_now_is_held_and_then_told_to_people(lab: labs.Lab) -> None:
    """G16: the engine answers, whatever the alert says."""
    status = await paged_untouched(lab, lab.hang(lab.engines["a0"]))
    assert "hold: 1-isolate_endpoint (act): G16" in timeline(status)
    assert "held too long" in timeline(status) or "step refused" in timeline(status)


async def test_while_envoy_answers_nothing_the_facts_are_unknown_and_nothing_is_acted_on(lab: labs.Lab) -> None:
    """SIGSTOP of Envoy: held until policy's limit, then people are told; the files are as they were."""
    engine = lab.engines["a0"]
    files = {p.name: p.read_bytes() for p in (lab.folder / "edge").rglob("*.yaml")}
    told = len(lab.pages())
    async with labs.running_worker(lab.parts()), ended(lab) as cases:
        await hang(lab, engine)
        lab.envoy.send_signal(signal.SIGSTOP)
        try:
            handle = await lab.start(lab.hang(engine))
            cases.append(handle)
            result = await handle.result()
            status = await lab.status(handle)
        finally:
            lab.envoy.send_signal(signal.SIGCONT)

        async def live() -> bool:
            return bool((await lab.http.get(f"{lab.admin}/ready")).text.strip() == "LIVE")

        await labs.until(live, "Envoy goes on")
    assert result["outcome"] == "paged", timeline(status)
    assert not status["record"]["steps"][0]["receipts"]
    assert {p.name: p.read_bytes() for p in (lab.folder / "edge").rglob("*.yaml")} == files
    assert len(lab.pages()) > told
    assert engine.address in await lab.rotation("chat-a")


async def test_without_metrics_nothing_is_acted_on_and_the_page_names_what_is_missing(lab: labs.Lab) -> None:
    """No engine of the pool can be scraped or asked: the load is Unknown, and Unknown is not zero."""
    pool = [e for e in lab.engines.values() if e.pool == "chat-a"]
    for engine in pool:
        await hang(lab, engine)
    status = await paged_untouched(lab, lab.hang(pool[0]))
    assert "deny" in timeline(status)


async def test_observe_mode_decides_and_records_and_touches_nothing(lab: labs.Lab) -> None:
    """The same fault that is isolated unattended elsewhere."""
    engine = lab.engines["a0"]
    before = await acts(lab)
    rules = labs.policy(engine__hang=ClassPolicy(mode="observe"))
    async with labs.running_worker(lab.parts(rules)), ended(lab) as cases:
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)
        result = await handle.result()
        status = await lab.status(handle)
    assert result["outcome"] == "observed", timeline(status)
    assert "would allow" in timeline(status)
    assert await acts(lab) == before
    assert engine.address in await lab.rotation("chat-a")
