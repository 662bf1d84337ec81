"""What a closed case adds to the metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from runbooks.plan import Classification, GateVerdict, Verdict
from runbooks.record import CaseRecord, Judged
from worker.telemetry import setup
from worker.telemetry_record import recorder

NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def measured(case: CaseRecord) -> dict[str, list[tuple[dict[str, Any], float]]]:
    """Metric → attributes and sum (or count) of each series, after one case."""
    reader = InMemoryMetricReader()
    recorder(setup(metric_readers=[reader]).instruments)(case)
    data = reader.get_metrics_data()
    assert data is not None
    return {
        m.name: [(dict(p.attributes), p.sum if hasattr(p, "sum") else p.value) for p in m.data.data_points]
        for r in data.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
    }


def case(**changes: Any) -> CaseRecord:
    """A mitigated case: began at noon, taken in 4 s later, acted after 5 s, Better after 30 s."""
    detection = {
        "alert": "EngineHang",
        "target": {"cluster": "eu1"},
        "started_at": NOON,
        "observed_at": NOON,
        "received_at": NOON + timedelta(seconds=4),
    }
    verdict = Verdict(outcome="allow", gates=(GateVerdict(gate="G1", outcome="allow", reason="fresh"),), policy="p")
    return CaseRecord.model_validate(
        {
            "case": "c-1",
            "workflow_id": "remediate:eu1",
            "run_id": "r",
            "detections": [detection],
            "classification": Classification(failure_class="engine.hang", confidence=1.0, rule="r", evidence=()),
            "opened_at": NOON + timedelta(seconds=4.1),
            "first_act_at": NOON + timedelta(seconds=5),
            "mitigated_at": NOON + timedelta(seconds=30),
            "outcome": "restored",
            "verdicts": [Judged(at=NOON, step="1", purpose="act", verdict=verdict)],
        }
        | changes
    )


def test_a_mitigated_case_gives_all_times_by_class() -> None:
    """Seconds, and one count by outcome and per gate."""
    found = measured(case())

    by_class = {"class": "engine.hang"}
    assert found["interlock.time_to_detect"] == [(by_class, 4.0)]
    assert found["interlock.time_to_first_act"] == [(by_class, 1.0)]
    assert found["interlock.time_to_mitigate"] == [(by_class, 30.0)]
    assert found["interlock.cases"] == [({**by_class, "outcome": "restored"}, 1)]
    assert found["interlock.verdicts"] == [({"gate": "G1", "outcome": "allow"}, 1)]


def test_what_was_not_measured_is_not_recorded_as_zero() -> None:
    """No act, no detection that could be read, or clocks that differ: no point in the histogram."""
    unacted = measured(case(first_act_at=None, mitigated_at=None))
    unread = measured(case(detections=[], classification=None))
    skewed = measured(case(first_act_at=NOON))

    assert "interlock.time_to_mitigate" not in unacted
    assert "interlock.time_to_detect" not in unread
    assert "interlock.time_to_first_act" not in skewed


def test_a_resolved_detection_does_not_hide_when_the_first_was_taken_in() -> None:
    """The record keeps the newest word of a fingerprint, which came in when the fault was over."""
    resolved = (
        case().detections[0].model_copy(update={"status": "resolved", "received_at": NOON + timedelta(seconds=90)})
    )
    found = measured(case(detections=[resolved], opened_at=NOON + timedelta(seconds=4)))

    assert found["interlock.time_to_detect"] == [({"class": "engine.hang"}, 4.0)]
    assert found["interlock.time_to_first_act"] == [({"class": "engine.hang"}, 1.0)]
