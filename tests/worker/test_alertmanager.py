"""Alertmanager's webhook: good alerts are taken whatever else is in the group, bad ones reach people."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from runbooks.detection import Severity
from runbooks.fleet import Fleet
from worker import alertmanager
from worker.settings import IntakeSettings

_numbers = itertools.count()
NOW = datetime(2026, 1, 31, 12, 1, tzinfo=UTC)
FLEET = Fleet.model_validate(
    {
        "routes": [{"name": "chat", "pools": ["pool-a"]}],
        "pools": [
            {
                "name": "pool-a",
                "cluster": "eu1",
                "dialect": "vllm",
                "endpoints": [{"address": "10.0.0.1:8000"}],
                "tokens_per_second": 100.0,
                "workload": {"namespace": "models", "deployment": "chat-a", "replicas": 1},
            }
        ],
        "nodes": [{"name": "gpu-7", "cluster": "eu1", "pools": ["pool-a"], "gpus": 8}],
    }
)


def alert(labels: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """A whole alert as Alertmanager sends it."""
    return {
        "status": "firing",
        "labels": {"alertname": "EngineHang", "cluster": "eu1", "service": f"am-{next(_numbers)}", **(labels or {})},
        "annotations": {"summary": "it hangs", "evidence_generations_failed": "3"},
        "startsAt": "2026-01-31T12:00:00.123456789Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": "c0ffee",
    } | changes


def group(*alerts: Any, **changes: Any) -> dict[str, Any]:
    """A webhook body, version 4."""
    return {
        "version": "4",
        "groupKey": f"{{}}:{next(_numbers)}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "interlock",
        "alerts": list(alerts),
    } | changes


def one(found: dict[str, Any], **settings: Any) -> Any:
    """The Detection that one alert becomes."""
    parsed = alertmanager.parse(group(found), NOW, IntakeSettings(**settings), FLEET)
    assert not parsed.bad
    return parsed.good[0]


async def test_an_alert_becomes_a_detection_of_its_target() -> None:
    """Name, target, severity, times, fingerprint and evidence are taken over; `received_at` is ours."""
    found = one(alert({"severity": "critical", "service": "pool-a", "xid": "79", "gpu_model": "H100"}))

    assert (found.alert, found.severity, found.fingerprint) == ("EngineHang", Severity.CRITICAL, "c0ffee")
    assert found.target.id == "eu1/service/pool-a"
    assert found.evidence == {"xid": 79.0, "generations_failed": 3.0}
    assert found.started_at == found.observed_at
    assert found.received_at == NOW


EXPORTER = {
    "service": "kube-state-metrics",
    "endpoint": "http",
    "instance": "10.0.0.3:8080",
    "job": "kube-state-metrics",
}


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        ({"pool": "p1", "service": ""}, "eu1/service/p1"),
        ({"model_pool": "p1", "service": ""}, "eu1/service/p1"),
        ({"service": "p1", "instance": "http://10.0.0.9:8000/metrics"}, "eu1/service/p1/endpoint/10.0.0.9:8000"),
        (
            {"service": "p1", "endpoint": "metrics", "instance": "10.0.0.9:8000"},
            "eu1/service/p1/endpoint/10.0.0.9:8000",
        ),
        ({"service": "", "cluster": "", "instance": "10.0.0.1:8000"}, "eu1/service/pool-a/endpoint/10.0.0.1:8000"),
        ({"service": "", "Hostname": "n1", "gpu": "3", "instance": "10.0.0.7:9400"}, "eu1/node/n1/gpu/3"),
        ({"service": "", "kubernetes_node": "n1", "instance": "10.0.0.7:9100"}, "eu1/node/n1"),
        ({"service": ""}, "eu1"),
        # As kube-prometheus has them: `service`, `instance` and `endpoint` are those of the exporter.
        ({**EXPORTER, "cluster": "", "node": "gpu-7", "condition": "Ready"}, "eu1/node/gpu-7"),
        ({**EXPORTER, "service": "nvidia-dcgm-exporter", "Hostname": "gpu-7", "gpu": "3"}, "eu1/node/gpu-7/gpu/3"),
        ({**EXPORTER, "cluster": "", "namespace": "models", "deployment": "chat-a"}, "eu1/service/pool-a"),
        ({**EXPORTER, "node": "gpu-7", "namespace": "models", "deployment": "chat-a"}, "eu1/service/pool-a"),
        (
            {"service": "chat-svc", "endpoint": "http", "instance": "10.0.0.1:8000", "node": "gpu-7"},
            "eu1/service/pool-a/endpoint/10.0.0.1:8000",
        ),
        (
            {**EXPORTER, "namespace": "other", "deployment": "chat-a"},
            "eu1/service/kube-state-metrics/endpoint/10.0.0.3:8080",
        ),
    ],
)
def test_labels_name_the_target(labels: dict[str, str], target: str) -> None:
    """The usual label names; the fleet knows which pool and cluster an address is in."""
    assert one(alert(labels)).target.id == target


def test_label_names_can_be_configured() -> None:
    """Another house, other names; and one cluster for rules that know of no clusters."""
    found = one(alert({"cluster": "", "service": "", "app": "p1"}), service_labels=("app",), default_cluster="eu2")

    assert found.target.id == "eu2/service/p1"


def test_a_name_with_spaces_is_kept_readable() -> None:
    """Alertmanager allows them, workflow ids and pages do not."""
    found = one(alert({"alertname": "High <b>TTFT</b> now"}))

    assert found.alert == "High_b_TTFT_b_now"
    assert found.labels["alertname"] == "High <b>TTFT</b> now"


def test_evidence_that_is_nan_was_not_measured() -> None:
    """It stays out, so that nobody takes it for a number."""
    found = one(alert(annotations={"evidence_ttft_p99": "NaN", "evidence_up": "false", "evidence_note": "slow"}))

    assert found.evidence == {"up": False, "note": "slow"}


def test_a_rule_can_say_when_it_measured() -> None:
    """Annotation `observed_at`: then a repeat is as fresh as its last evaluation."""
    found = one(alert(annotations={"observed_at": "2026-01-31T12:00:59Z"}))

    assert found.observed_at == datetime(2026, 1, 31, 12, 0, 59, tzinfo=UTC)


def test_a_resolved_alert_was_observed_when_it_ended() -> None:
    """endsAt is the newest that the detector says."""
    found = one(alert(status="resolved", endsAt="2026-01-31T12:00:30Z"))

    assert (found.status, found.observed_at) == ("resolved", datetime(2026, 1, 31, 12, 0, 30, tzinfo=UTC))


BAD = [
    (7, "alerts.1.", "JSON object"),
    (alert({"alertname": ""}), "alerts.1.labels.alertname", "missing"),
    (alert(labels=None) | {"labels": {"alertname": "X"}}, "alerts.1.labels", "no label names a target"),
    (alert() | {"labels": {"alertname": "X", "service": "p9"}}, "alerts.1.labels", "cluster"),
    (alert({"service": "", "gpu": "1"}), "alerts.1.labels", "needs its node"),
    (alert({"service": "", "instance": "10.9.9.9:1"}), "alerts.1.labels", "no known pool"),
    (alert({"service": "a/b"}), "alerts.1.labels (service)", "one word"),
    (alert(status="pending"), "alerts.1.status", "firing or resolved"),
    (alert(startsAt="0001-01-01T00:00:00Z"), "alerts.1.startsAt", "not set"),
    (alert(startsAt="noon"), "alerts.1.startsAt", "time zone"),
    (alert(status="resolved"), "alerts.1.endsAt", "not set"),
    (alert(labels=None) | {"labels": {"alertname": 1}}, "alerts.1.labels", "map names to texts"),
    (alert({f"l{i}": "v" for i in range(70)}), "alerts.1.labels", "64"),
    (alert(fingerprint="f" * 200), "alerts.1.fingerprint", "128"),
]


@pytest.mark.parametrize(("bad", "field", "says"), BAD, ids=[b[1] + " " + b[2] for b in BAD])
async def test_a_bad_alert_is_paged_about_and_the_good_ones_go_on(intake: Any, bad: Any, field: str, says: str) -> None:
    """A 4xx would make Alertmanager drop the whole group without another try."""
    answer = await intake.http.post("/v1/alerts/alertmanager", json=group(alert(), bad, alert()))

    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
    assert answer.json()["bad"][0]["field"] == field
    assert says in answer.json()["bad"][0]["error"]
    assert len(intake.people.pages) == 1
    assert says in intake.people.pages[0][2]


async def test_the_same_bad_alert_has_the_same_dedup_key(intake: Any) -> None:
    """Alertmanager repeats itself; people are told once."""
    body = group(alert(), alert(status="pending"))
    for _ in range(2):
        await intake.http.post("/v1/alerts/alertmanager", json=body)

    assert len({key for key, _, _ in intake.people.pages}) == 1


async def test_when_people_cannot_be_told_the_group_is_not_acknowledged(intake: Any) -> None:
    """503: it comes again, the good ones are repeats then, and the bad one is not forgotten."""
    body = group(alert(), alert(status="pending"))
    intake.people.deaf = True
    first = await intake.http.post("/v1/alerts/alertmanager", json=body)
    intake.people.deaf = False
    second = await intake.http.post("/v1/alerts/alertmanager", json=body)

    assert (first.status_code, second.status_code) == (503, 202)
    assert first.headers["retry-after"]
    assert second.json()["results"][0]["result"] == "repeat"
    assert len(intake.people.pages) == 1


async def test_truncated_alerts_are_noticed(intake: Any) -> None:
    """Alertmanager cut some off: in the answer, and people are told."""
    answer = await intake.http.post("/v1/alerts/alertmanager", json=group(alert(), truncatedAlerts=12))

    assert answer.json()["truncated"] == 12
    assert "12 more alerts" in intake.people.pages[0][2]


async def test_an_unknown_alert_name_is_taken(intake: Any) -> None:
    """What it means is for classify to say: `unknown` pages."""
    answer = await intake.http.post("/v1/alerts/alertmanager", json=group(alert({"alertname": "NeverHeardOf"})))

    assert (answer.status_code, intake.people.pages) == (202, [])


@pytest.mark.parametrize("body", [[], {}, {"alerts": {}}, "text", 7])
async def test_a_body_that_is_no_group_is_refused_and_people_are_told(intake: Any, body: Any) -> None:
    """422, and a page: Alertmanager would not try again."""
    answer = await intake.http.post("/v1/alerts/alertmanager", json=body)

    assert (answer.status_code, answer.json()["field"]) == (422, "alerts")
    assert len(intake.people.pages) == 1


async def test_a_group_that_is_too_large_is_refused_and_people_are_told(intake: Any) -> None:
    """413 loses the group as well: it must not be lost in silence."""
    answer = await intake.http.post("/v1/alerts/alertmanager", json=group(*[alert()] * 5000))

    assert answer.status_code == 413
    assert "larger than" in intake.people.pages[0][2]


async def test_an_empty_group_is_nothing(intake: Any) -> None:
    """No alerts, no case, no page."""
    answer = await intake.http.post("/v1/alerts/alertmanager", json=group())

    assert (answer.json()["accepted"], intake.people.pages) == (0, [])


async def test_one_group_of_one_target_is_one_case(intake: Any) -> None:
    """Three alerts about one pool: one start, the others told to the same run."""
    name = {"service": "shared-pool"}
    alerts = [alert(name, fingerprint=f"f{i}") for i in range(3)]
    answer = await intake.http.post("/v1/alerts/alertmanager", json=group(*alerts))

    results = answer.json()["results"]
    assert [r["result"] for r in results] == ["started", "signalled", "signalled"]
    assert len({r["run_id"] for r in results}) == 1
