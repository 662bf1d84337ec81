"""Native detections: what is taken, what is refused and how, what becomes of repeats."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.client import Client

_numbers = itertools.count()


def detection(**changes: Any) -> dict[str, Any]:
    """A whole Detection about a pool that no other test uses."""
    return {
        "alert": "EngineHang",
        "target": {"cluster": "eu1", "service": f"pool-{next(_numbers)}"},
        "started_at": "2026-01-31T12:00:00Z",
        "observed_at": "2026-01-31T12:00:05Z",
        "evidence": {"generations_failed": 3},
    } | changes


async def test_a_detection_starts_the_case_of_its_target(intake: Any) -> None:
    """202 comes with the workflow and run that hold it, and the workflow has it with `received_at` stamped by us."""
    answer = await intake.http.post("/v1/detections", json=detection(received_at="2001-01-01T00:00:00Z"))

    assert answer.status_code == 202
    result = answer.json()["results"][0]
    assert result["result"] == "started"
    seen = (await intake.status(result["workflow_id"]))["seen"]
    assert len(seen) == 1
    assert not seen[0]["received_at"].startswith("2001")


async def test_a_list_is_taken_as_a_whole(intake: Any) -> None:
    """Several detections, several targets, one answer."""
    answer = await intake.http.post("/v1/detections", json=[detection(), detection()])

    assert answer.status_code == 202
    assert [r["result"] for r in answer.json()["results"]] == ["started", "started"]


async def test_another_detection_for_a_running_case_is_signalled(intake: Any) -> None:
    """One Remediation per target: the second alert name reaches the same run."""
    first = detection()
    one = await intake.http.post("/v1/detections", json=first)
    two = await intake.http.post("/v1/detections", json={**first, "alert": "TtftHigh"})

    assert two.json()["results"][0]["result"] == "signalled"
    assert two.json()["results"][0]["run_id"] == one.json()["results"][0]["run_id"]


async def test_a_repeat_is_dropped_while_its_run_is_open_and_only_then(intake: Any, eventually: Any) -> None:
    """After the case has closed, the same words open the next case: nothing is lost between two runs."""
    body = detection()
    first = (await intake.http.post("/v1/detections", json=body)).json()["results"][0]
    again = (await intake.http.post("/v1/detections", json=body)).json()["results"][0]
    assert (again["result"], again["run_id"]) == ("repeat", first["run_id"])
    assert (await intake.status(first["workflow_id"]))["signals"] == 0

    handle = intake.client.get_workflow_handle(first["workflow_id"])
    await handle.signal("finish")
    await handle.result()
    later = (await intake.http.post("/v1/detections", json=body)).json()["results"][0]

    assert later["result"] != "repeat"
    assert later["run_id"] != first["run_id"]
    assert (await intake.status(first["workflow_id"]))["seen"]


async def test_a_graver_repeat_is_news(intake: Any) -> None:
    """Same fault, but critical now: the case must hear it."""
    body = detection()
    await intake.http.post("/v1/detections", json=body)
    answer = await intake.http.post("/v1/detections", json={**body, "severity": "critical"})

    assert answer.json()["results"][0]["result"] == "signalled"


async def test_firing_resolved_firing_again_all_reach_the_case(intake: Any) -> None:
    """The third is equal to the first, but no repeat: meanwhile the case was told that the fault had gone."""
    body = detection()
    results = []
    for status in ("firing", "resolved", "firing"):
        answer = await intake.http.post("/v1/detections", json={**body, "status": status})
        results.append(answer.json()["results"][0])

    assert [r["result"] for r in results] == ["started", "signalled", "signalled"]
    seen = (await intake.status(results[0]["workflow_id"]))["seen"]
    assert [d["status"] for d in seen] == ["firing", "resolved", "firing"]


async def test_resolved_before_firing_opens_nothing_and_the_late_firing_is_not_lost(intake: Any) -> None:
    """Out of order: a resolved alert alone opens no case; the firing one does, and the gates judge whether it holds."""
    body = detection()
    resolved = await intake.http.post("/v1/detections", json={**body, "status": "resolved"})
    firing = await intake.http.post("/v1/detections", json=body)

    assert resolved.status_code == 202
    assert resolved.json()["results"][0]["result"] == "nothing open"
    assert firing.json()["results"][0]["result"] == "started"


async def test_hours_old_and_future_detections_are_taken(intake: Any) -> None:
    """Age and skew are for the gates to judge, who have policy; the door only stamps when it came."""
    old = detection(started_at="2020-01-01T00:00:00Z", observed_at="2020-01-01T00:00:00Z")
    ahead = detection(observed_at="2099-01-01T00:00:00Z")

    assert (await intake.http.post("/v1/detections", json=[old, ahead])).status_code == 202


async def test_fifty_at_once_for_one_target_are_one_case_and_none_is_lost(intake: Any) -> None:
    """Merged per target: distinct ones all arrive, equal ones once."""
    body = detection()
    sent = [{**body, "fingerprint": f"f{i % 25}"} for i in range(50)]
    answers = await asyncio.gather(*(intake.http.post("/v1/detections", json=d) for d in sent))

    assert {a.status_code for a in answers} == {202}
    results = [a.json()["results"][0] for a in answers]
    assert len({r["run_id"] for r in results}) == 1
    seen = (await intake.status(results[0]["workflow_id"]))["seen"]
    assert {d["fingerprint"] for d in seen} == {f"f{i}" for i in range(25)}
    assert len(seen) == 25


async def test_a_batch_can_go_as_one_signal(client: Client, make_intake: Any) -> None:
    """With `batch_signals` a storm on one target is a handful of signals, each a list."""
    body = detection()
    async with make_intake(client, batch_signals=True) as intake:
        sent = [{**body, "fingerprint": f"f{i}"} for i in range(200)]
        answer = await intake.http.post("/v1/detections", json=sent)

        assert answer.json()["accepted"] == 200
        status = await intake.status(answer.json()["results"][0]["workflow_id"])
    assert {d["fingerprint"] for d in status["seen"]} == {f"f{i}" for i in range(200)}
    assert status["signals"] == 1


async def test_what_is_too_large_for_one_signal_goes_as_several(client: Client, make_intake: Any) -> None:
    """By number and by size: Temporal refuses an argument of two MiB, and then each would go alone."""
    body = detection()
    async with make_intake(client, batch_signals=True, max_body_bytes=8 << 20) as intake:
        many = [{**body, "fingerprint": f"f{i}"} for i in range(1002)]
        large = [{**detection(), "labels": {"stack": "x" * 100_000}, "fingerprint": f"f{i}"} for i in range(8)]
        large = [{**d, "target": large[0]["target"]} for d in large]
        ends = []
        for sent in (many, large):
            answer = await intake.http.post("/v1/detections", json=sent)
            assert answer.json()["accepted"] == len(sent)
            ends.append(await intake.status(answer.json()["results"][0]["workflow_id"]))

    assert [len(e["seen"]) for e in ends] == [1002, 8]
    # The first of each starts the case; of 100 kB each, two go together.
    assert [e["signals"] for e in ends] == [3, 4]


async def test_without_a_place_for_its_body_a_request_is_503_and_later_it_is_taken(
    client: Client, make_intake: Any, eventually: Any
) -> None:
    """What is being read counts before it is there: slow senders must not fill the memory."""
    taken = asyncio.Event()
    async with make_intake(client, most_waiting_bytes=1 << 20) as intake:

        async def slow() -> Any:
            yield b"["
            await taken.wait()
            yield json.dumps(detection()).encode() + b"]"

        headers = {"content-type": "application/json"}
        first = asyncio.create_task(intake.http.post("/v1/detections", content=slow(), headers=headers))
        await eventually(lambda: intake.app.state.room.bytes)
        refused = await intake.http.post("/v1/detections", json=detection())
        taken.set()
        accepted = [await first, await intake.http.post("/v1/detections", json=detection())]

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert "being taken in already" in refused.json()["error"]
    assert [a.status_code for a in accepted] == [202, 202]


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"alert": None}, "alert", "string"),
        ({"alert": "two words"}, "alert", "one word"),
        ({"target": {}}, "target.cluster", "missing"),
        ({"target": {"cluster": "a/b"}}, "target.cluster", "one word"),
        ({"target": {"cluster": "eu1", "endpoint": "1.2.3.4:80"}}, "target.service", "needs the service"),
        ({"target": {"cluster": "eu1", "gpu": "0"}}, "target.node", "needs the node"),
        ({"target": {"cluster": "c" * 200, "service": "é" * 200, "endpoint": "é" * 200}}, "target", "shorten"),
        ({"target": {"cluster": "eu\u0007"}}, "target", "control characters"),
        ({"status": "burning"}, "status", "firing"),
        ({"started_at": "2026-01-31T12:00:00"}, "started_at", "time zone"),
        ({"started_at": "yesterday"}, "started_at", "datetime"),
        ({"evidence": {"x": [1]}}, "evidence.x", "evidence.x"),
        ({"evidence": {"x": 1e999}}, "evidence.x", "finite"),
        ({"sevrity": "critical"}, "sevrity", "not a field"),
        ({"labels": {str(i): "v" for i in range(65)}}, "labels", "64"),
    ],
)
async def test_a_wrong_field_is_named_with_the_fix(intake: Any, change: Any, field: str, says: str) -> None:
    """422, one sentence, the field; and nothing was started for it."""
    import json

    answer = await intake.http.post(
        "/v1/detections",
        content=json.dumps(detection(**change)).replace("Infinity", "1e999"),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 422
    assert answer.json()["field"] == field
    assert says in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


async def test_one_wrong_in_a_list_refuses_the_list_and_names_its_place(intake: Any) -> None:
    """All or nothing: the sender mends it and sends all again."""
    good = detection()
    answer = await intake.http.post("/v1/detections", json=[good, detection(target={})])

    assert (answer.status_code, answer.json()["field"]) == (422, "1.target.cluster")
    resolved = await intake.http.post("/v1/detections", json={**good, "status": "resolved"})
    assert resolved.json()["results"][0]["result"] == "nothing open"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"evidence": {"x": NaN}}', b"[" * 100_000])
async def test_a_body_that_is_no_detection_is_422(intake: Any, body: bytes) -> None:
    """Empty, cut off, not UTF-8, NaN, nested without end: a sentence, never a 500."""
    answer = await intake.http.post("/v1/detections", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 422
    assert answer.json()["error"]


@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer wrong", "Basic detector-token", "Bearer détecteur"])
async def test_without_the_token_nothing_is_taken(intake: Any, token: str | None) -> None:
    """401 with how to do it right, before the body is read."""
    async with httpx.AsyncClient(base_url=intake.http.base_url) as stranger:
        headers = {} if token is None else {"authorization": token.encode()}
        answer = await stranger.post("/v1/detections", json=detection(), headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_an_oversize_body_is_413_by_its_declared_length(intake: Any) -> None:
    """Refused before it is read."""
    answer = await intake.http.post("/v1/detections", json=[detection(alert="A" * 100)] * 8000)

    assert answer.status_code == 413


async def test_an_oversize_chunked_body_is_413_without_a_length(intake: Any) -> None:
    """Counted while it arrives: a chunked body declares nothing."""

    async def endless() -> Any:
        for _ in range(64):
            yield b" " * 65536

    answer = await intake.http.post("/v1/detections", content=endless(), headers={"content-type": "application/json"})

    assert answer.status_code == 413


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_another_media_type_is_415(intake: Any, headers: dict[str, str]) -> None:
    """And says which header to send."""
    answer = await intake.http.post("/v1/detections", content=b"{}", headers=headers)

    assert answer.status_code == 415


async def test_other_addresses_and_methods_answer_in_the_same_shape(intake: Any) -> None:
    """404 and 405 are JSON with a sentence too."""
    assert (await intake.http.get("/nowhere")).json()["error"]
    assert (await intake.http.get("/v1/detections")).status_code == 405


async def test_the_trace_of_the_request_goes_on_into_workflow_and_activity(
    intake: Any, spans: InMemorySpanExporter, eventually: Any
) -> None:
    """One trace id, the caller's own `traceparent`: request → start → workflow → activity → what an adapter opens."""
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    await intake.http.post(
        "/v1/detections", json=detection(), headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    )

    def names() -> set[str]:
        return {s.name for s in spans.get_finished_spans() if s.context and f"{s.context.trace_id:032x}" == trace_id}

    await eventually(lambda: "envoy write" in names())
    assert {"POST /v1/detections", "StartWorkflow:Remediation", "RunActivity:recorder_write"} <= names()


async def test_alerts_are_counted_by_result(intake: Any, metric_reader: InMemoryMetricReader) -> None:
    """interlock.intake.alerts, with what became of each."""
    await intake.http.post("/v1/detections", json=detection())

    data = metric_reader.get_metrics_data()
    assert data is not None
    found = {
        point.attributes["result"]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "interlock.intake.alerts"
        for point in metric.data.data_points
    }
    assert "started" in found
