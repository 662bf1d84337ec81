"""A receiver of OTLP over HTTP in this process, for what an exporter really sends."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Sink:
    """Where it listens, and what came: spans and names of metrics, each with the service that sent it."""

    url: str
    spans: list[tuple[str, Span]] = field(default_factory=list)
    metrics: set[tuple[str, str]] = field(default_factory=set)

    def take(self, path: str, body: bytes) -> None:
        """One export."""
        if path == "/v1/traces":
            request = ExportTraceServiceRequest.FromString(body)
            for r in request.resource_spans:
                self.spans += [(_service(r.resource), s) for scope in r.scope_spans for s in scope.spans]
        elif path == "/v1/metrics":
            sent = ExportMetricsServiceRequest.FromString(body)
            for m in sent.resource_metrics:
                self.metrics |= {(_service(m.resource), x.name) for scope in m.scope_metrics for x in scope.metrics}


def _service(resource: Resource) -> str:
    return next(a.value.string_value for a in resource.attributes if a.key == "service.name")


@contextmanager
def otlp_sink() -> Iterator[Sink]:
    """Serves until the block ends."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sink.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sink = Sink(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
