"""One trace from the alert to the write, and the metrics, each named once here.

The trace goes request → StartWorkflow → RunWorkflow → RunActivity → whatever the adapter opens, as one trace id. We use
`OpenTelemetryPlugin`, not the older `TracingInterceptor`: only with it do spans opened inside a workflow keep their
true length and their parent, and replay ends none twice. Its price: the process's global tracer provider must be ours.

| metric | kind, unit | attributes | what |
|---|---|---|---|
| interlock.time_to_detect | histogram, s | class | fault began → intake took the detection in |
| interlock.time_to_first_act | histogram, s | class | intake → first actuator call |
| interlock.time_to_mitigate | histogram, s | class | fault began → verified Better |
| interlock.verdicts | counter | gate, outcome | one per gate and check |
| interlock.cases | counter | class, outcome | one per closed case |
| interlock.intake.alerts | counter | result | one per alert: started, signalled, repeat, nothing_open, bad, away |

What `interlock watch` measures is in `WATCHED`, below. It goes out as Prometheus text (worker/watchman_text.py) and not
through the meter: the SDK keeps every set of attributes for ever and from the 2,000th on adds up what it should not, and
cases come and go. docs/alerts/ has the rules over it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, ReplaySafeTracerProvider, create_tracer_provider

_lock = threading.Lock()
_W3C = TraceContextTextMapPropagator()
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)


WATCHED: Mapping[str, tuple[Literal["gauge", "counter"], str]] = {
    "interlock_guard_answering": (
        "gauge",
        "1: the Guard of the domain runs and answered. 0: it did not, so nothing moves.",
    ),
    "interlock_guard_answer_seconds": ("gauge", "How long the Guard took to answer."),
    "interlock_guard_task_attempt": (
        "gauge",
        "Attempt of the Guard's pending workflow task; 0: none. Over 1: tasks fail.",
    ),
    "interlock_guard_task_age_seconds": ("gauge", "How long the Guard's pending workflow task has waited; 0: none."),
    "interlock_guard_halted": ("gauge", "1: people halted the domain."),
    "interlock_guard_halted_seconds": ("gauge", "How long it has been halted; absent while it is not."),
    "interlock_guard_breaker": ("gauge", "1: the breaker has tripped; only a person resets it."),
    "interlock_guard_dirty": ("gauge", "1: a holder died without release, and what it left is not settled."),
    "interlock_guard_queue": ("gauge", "Cases that wait for the domain."),
    "interlock_guard_held_seconds": ("gauge", "How long the domain has been held; 0 while it is free."),
    "interlock_cases_open": ("gauge", "Open cases, by state. starting: it has not said anything yet."),
    "interlock_cases_state_seconds": ("gauge", "Longest time that an open case has been in this state."),
    "interlock_cases_not_answering": ("gauge", "Cases waiting for an approval that did not answer when asked."),
    "interlock_cases_unread": ("gauge", "Cases that were too many to be looked at this round."),
    "interlock_approval_seconds_left": ("gauge", "Until the approval that this case waits for expires."),
    "interlock_intake_ready": (
        "gauge",
        "1: this intake takes alerts. 0: it does not answer, or Temporal does not answer it.",
    ),
    "interlock_watch_last_good_round_timestamp_seconds": (
        "gauge",
        "When a round last read all that it had to (Unix time).",
    ),
    "interlock_watch_rounds_total": ("counter", "Rounds made since the watch started."),
    "interlock_watch_rounds_failed_total": ("counter", "Rounds in which the open cases could not be read."),
}
"""Metric of `interlock watch` → kind, and what it says. What could not be measured is absent, never 0."""


class _Evicted(logging.Filter):
    """Drops one false alarm, no more: when a worker evicts an open workflow (each time it stops), Python closes the
    workflow's coroutine in another context than the span was opened in, and the span's token cannot be reset there."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, ValueError) and isinstance(error.__context__, GeneratorExit))


class Instruments:
    """Every metric of Interlock. Record with these and nowhere else make an instrument."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.time_to_detect = self._seconds(meter, "interlock.time_to_detect", "Fault began to detection taken in.")
        self.time_to_first_act = self._seconds(meter, "interlock.time_to_first_act", "Taken in to first actuator call.")
        self.time_to_mitigate = self._seconds(meter, "interlock.time_to_mitigate", "Fault began to verified Better.")
        self.verdicts = meter.create_counter("interlock.verdicts", description="Gate answers, by gate and outcome.")
        self.cases = meter.create_counter("interlock.cases", description="Closed cases, by class and outcome.")
        self.intake_alerts = meter.create_counter("interlock.intake.alerts", description="Alerts taken in, by result.")

    @staticmethod
    def _seconds(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
        return meter.create_histogram(
            name, unit="s", description=description, explicit_bucket_boundaries_advisory=_BUCKETS_S
        )


@dataclass(frozen=True)
class Telemetry:
    """What `setup` returns. Give `plugin` to the client; the worker of that client gets it from there."""

    tracer_provider: ReplaySafeTracerProvider
    meter_provider: MeterProvider
    plugin: OpenTelemetryPlugin
    instruments: Instruments

    @contextmanager
    def request_span(self, name: str, headers: Mapping[str, str]) -> Iterator[trace.Span]:
        """A server span whose parent is the caller's W3C `traceparent`, when there is a valid one."""
        parent: Context = _W3C.extract(dict(headers))
        tracer = self.tracer_provider.get_tracer("interlock.worker")
        with tracer.start_as_current_span(name, context=parent, kind=SpanKind.SERVER) as span:
            yield span

    def flush(self) -> None:
        """Sends what is waiting: at most 5 s."""
        self.tracer_provider.force_flush(5000)
        self.meter_provider.force_flush(5000)


def setup(
    otlp_endpoint: str | None = None,
    *,
    service: str = "interlock",
    span_exporters: Sequence[SpanExporter] = (),
    metric_readers: Sequence[MetricReader] = (),
) -> Telemetry:
    """Providers and instruments. Exports by OTLP/HTTP only when an endpoint is given; tests pass in-memory exporters.

    The tracer provider is global and can be set once a process: a later call adds its exporters to the one that stands.
    """
    resource = Resource.create({"service.name": service})
    readers = list(metric_readers)
    with _lock:
        current = trace.get_tracer_provider()
        if isinstance(current, ReplaySafeTracerProvider):
            tracers = current
        else:
            tracers = create_tracer_provider(resource=resource)
            trace.set_tracer_provider(tracers)
            logging.getLogger("opentelemetry.context").addFilter(_Evicted())
        for exporter in span_exporters:
            tracers.add_span_processor(SimpleSpanProcessor(exporter))
        if otlp_endpoint is not None:
            base = otlp_endpoint.rstrip("/")
            tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{base}/v1/traces")))
            readers.append(PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{base}/v1/metrics")))
    meters = MeterProvider(metric_readers=readers, resource=resource)
    return Telemetry(
        tracer_provider=tracers,
        meter_provider=meters,
        plugin=OpenTelemetryPlugin(add_temporal_spans=True),
        instruments=Instruments(meters.get_meter("interlock")),
    )
