"""One trace from the alert to the write on Envoy, the metrics of the case, and both by OTLP when an endpoint is set."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr
from temporalio.client import Client

from activities.adapters.webhook import LogNotify
from tests import lab as labs
from tests.e2e.conftest import served
from tests.e2e.otlp import otlp_sink
from tests.e2e.processes import TOKEN, environment, interlock
from worker.intake import IntakeDeps, build_intake
from worker.plugin import interlock_plugin
from worker.telemetry import Telemetry, setup
from worker.telemetry_record import recorder


@asynccontextmanager
async def traced(lab: labs.Lab, telemetry: Telemetry) -> AsyncIterator[tuple[labs.Lab, str]]:
    """Worker and intake with both plugins, as production wires them. Yields the lab with that client, and the intake."""
    client = await Client.connect(
        lab.client.service_client.config.target_host, plugins=[telemetry.plugin, interlock_plugin()]
    )
    traced = replace(lab, client=client)
    notify = LogNotify(lab.folder / "pages.jsonl")
    intake = build_intake(IntakeDeps(client=client, notify=notify, token=SecretStr(TOKEN), telemetry=telemetry))
    async with (
        labs.running_worker(traced.parts(observe=recorder(telemetry.instruments))),
        served(intake) as address,
    ):
        yield traced, f"http://{address}"


async def hang_and_recover(lab: labs.Lab, sick: labs.Engine, intake: str, trace_id: str) -> None:
    """A whole case whose alert comes in under a trace of its detector."""
    headers = {"Authorization": f"Bearer {TOKEN}", "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    sick.stop()
    detection = lab.hang(sick)
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=10) as http:
        answer = await http.post(f"{intake}/v1/detections", json=detection.model_dump(mode="json"))
        assert answer.status_code == 202, answer.text
        handle = lab.client.get_workflow_handle(detection.workflow_id)
        await lab.in_state(handle, "mitigated")
        sick.go_on()
        await lab.resolve(detection)
        result = await handle.result()
    assert result["outcome"] == "restored"


async def test_one_trace_leads_from_the_alert_to_the_write_on_envoy_and_the_case_is_measured(lab: labs.Lab) -> None:
    """The detector's own trace id is that of the request, the start, the run, the check and the act."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    telemetry = setup(span_exporters=[spans], metric_readers=[reader])
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with traced(lab, telemetry) as (traced_lab, intake):
        await hang_and_recover(traced_lab, lab.engines["b0"], intake, trace_id)

    mine = [s for s in spans.get_finished_spans() if format(s.context.trace_id, "032x") == trace_id]
    chain = (
        "POST /v1/detections",
        "StartWorkflow:Remediation",
        "RunWorkflow:Remediation",
        "StartActivity:check",
        "RunActivity:check",
    )
    assert parents(mine, "RunActivity:apply_traffic") == [*chain[:3], "StartActivity:apply_traffic"]
    assert parents(mine, "RunActivity:check") == list(chain[:4])
    assert parents(mine, "HandleUpdate:acquire") == [*chain, "StartUpdateWithStartWorkflow:Guard"]

    found = points(reader)
    by_class = {"class": "engine.hang"}
    detect, act, better = (
        one(found, f"interlock.time_to_{what}", by_class) for what in ("detect", "first_act", "mitigate")
    )
    assert 0 <= detect < 2
    assert 0 < act < better - detect
    assert one(found, "interlock.cases", {**by_class, "outcome": "restored"}) == 1
    assert one(found, "interlock.intake.alerts", {"result": "started"}) == 1
    assert one(found, "interlock.verdicts", {"gate": "G16", "outcome": "allow"}) >= 2


async def test_worker_and_intake_as_processes_send_one_trace_and_the_metrics_to_the_otlp_endpoint(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """`interlock intake` and `interlock worker`, set up by the environment: what they export comes together by trace id."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    port = labs.free_port()
    with otlp_sink() as sink:
        env = environment(lab, tmp_path, port, sink.url)
        log = tmp_path / "worker.log"
        with interlock("intake", env, tmp_path / "intake.log") as intake, interlock("worker", env, log) as worker:

            async def ready() -> bool:
                assert intake.poll() is None, (tmp_path / "intake.log").read_text()
                assert worker.poll() is None, log.read_text()
                with contextlib.suppress(httpx.TransportError):
                    answer = await lab.http.get(f"http://127.0.0.1:{port}/readyz")
                    return answer.status_code == 200 and "polling interlock" in log.read_text()
                return False

            await labs.until(ready, "intake and worker are ready", 60)
            await hang_and_recover(lab, lab.engines["b2"], f"http://127.0.0.1:{port}", trace_id)

    mine = {(service, s.name) for service, s in sink.spans if s.trace_id.hex() == trace_id}
    assert {("interlock-intake", "POST /v1/detections"), ("interlock-intake", "StartWorkflow:Remediation")} <= mine
    for name in ("RunWorkflow:Remediation", "RunActivity:check", "RunActivity:apply_traffic"):
        assert ("interlock-worker", name) in mine
    assert ("interlock-intake", "interlock.intake.alerts") in sink.metrics
    for name in ("time_to_detect", "time_to_first_act", "time_to_mitigate", "cases", "verdicts"):
        assert ("interlock-worker", f"interlock.{name}") in sink.metrics


def parents(spans: Sequence[ReadableSpan], name: str) -> list[str]:
    """Names from the root of the trace, whose parent is the detector's, down to the parent of the first of this name."""
    by_id = {s.context.span_id: s for s in spans}
    span = min((s for s in spans if s.name == name), key=lambda s: s.start_time or 0)
    path: list[str] = []
    while span.parent is not None and span.parent.span_id in by_id:
        span = by_id[span.parent.span_id]
        path.insert(0, span.name)
    return path


def one(found: dict[str, list[dict[str, Any]]], metric: str, attributes: dict[str, str]) -> float:
    """The value of one series."""
    (value,) = (p["value"] for p in found[metric] if {k: v for k, v in p.items() if k != "value"} == attributes)
    return float(value)


def points(reader: InMemoryMetricReader) -> dict[str, list[dict[str, Any]]]:
    """Every point by the name of its metric."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        m.name: [
            {**dict(p.attributes or {}), "value": p.value if isinstance(p, NumberDataPoint) else p.sum}
            for p in m.data.data_points
        ]
        for r in data.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
    }
