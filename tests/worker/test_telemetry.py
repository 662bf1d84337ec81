"""Export by OTLP only when an endpoint is set; search attributes registered once, or the command that would."""

from __future__ import annotations

import asyncio
import http.server
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest

from worker.settings import TemporalSettings
from worker.telemetry import Telemetry, setup
from worker.temporal import (
    SEARCH_ATTRIBUTES,
    SearchAttributesRefused,
    TemporalAway,
    connect,
    create_command,
    register_search_attributes,
)


@contextmanager
def otlp_sink() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A real receiver of OTLP over HTTP: its URL and what was posted to it."""
    got: list[tuple[str, bytes]] = []

    class Sink(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


EXPORTER = """
import sys
from worker.telemetry import setup
telemetry = setup(sys.argv[1], service="interlock-test")
with telemetry.request_span("POST /v1/detections", {}):
    telemetry.instruments.verdicts.add(1, {"gate": "G1", "outcome": "allow"})
    telemetry.instruments.time_to_mitigate.record(12.5, {"class": "engine.hang"})
telemetry.flush()
"""


async def test_spans_and_metrics_go_to_the_endpoint_when_one_is_set() -> None:
    """As protobuf over HTTP, from a process of its own: the tracer provider is global. `flush` sends what waits."""
    with otlp_sink() as (url, got):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", EXPORTER, url)
        assert await child.wait() == 0

    spans = [ExportTraceServiceRequest.FromString(b) for p, b in got if p == "/v1/traces"]
    names = {s.name for r in spans for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans}
    assert "POST /v1/detections" in names
    metrics = [ExportMetricsServiceRequest.FromString(b) for p, b in got if p == "/v1/metrics"]
    found = {m.name for r in metrics for rm in r.resource_metrics for sm in rm.scope_metrics for m in sm.metrics}
    assert {"interlock.verdicts", "interlock.time_to_mitigate"} <= found


def test_the_tracer_provider_is_set_once(telemetry: Telemetry) -> None:
    """A second set-up in the same process joins the first: the plugin needs the global one to be ours."""
    assert setup().tracer_provider is telemetry.tracer_provider


async def test_connect_says_which_address_does_not_answer(free_port: int) -> None:
    """One sentence for the operator."""
    with pytest.raises(TemporalAway, match=str(free_port)):
        await connect(TemporalSettings(address=f"127.0.0.1:{free_port}"))


async def test_search_attributes_are_registered_once(new_dev_server: Any) -> None:
    """The second worker finds them there."""
    async with new_dev_server() as env:
        address = env.client.service_client.config.target_host
        client = await connect(TemporalSettings(address=address))

        assert set(await register_search_attributes(client)) == set(SEARCH_ATTRIBUTES)
        assert await register_search_attributes(client) == ()


async def test_where_they_are_refused_the_exact_command_is_said(new_dev_server: Any) -> None:
    """A server that is full refuses for real: ten Keyword attributes are the dev server's limit."""
    async with new_dev_server() as env:
        address = env.client.service_client.config.target_host
        client = await connect(TemporalSettings(address=address))
        keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace="default", search_attributes={f"Other{i}": keyword for i in range(9)})
        )
        with pytest.raises(SearchAttributesRefused) as caught:
            await register_search_attributes(client)

    assert create_command(client) in str(caught.value)
    assert f"temporal operator search-attribute create --address {address} --namespace default" in str(caught.value)


async def test_an_attribute_of_another_type_is_refused(new_dev_server: Any) -> None:
    """Overwriting somebody's attribute is not ours to do."""
    async with new_dev_server() as env:
        client = await connect(TemporalSettings(address=env.client.service_client.config.target_host))
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(
                namespace="default",
                search_attributes={"InterlockClass": IndexedValueType.INDEXED_VALUE_TYPE_INT},
            )
        )
        with pytest.raises(SearchAttributesRefused, match="InterlockClass"):
            await register_search_attributes(client)
