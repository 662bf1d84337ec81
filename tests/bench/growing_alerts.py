"""Groups of alerts that no rule names a class for: Interlock tells people and touches nothing, whatever the engines do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from tests.bench.contestant import Target


def group(alerts: Sequence[tuple[Target, str]]) -> bytes:
    """One webhook of Alertmanager. Each alert is a target and the fingerprint that makes it distinct."""
    now = datetime.now(UTC).isoformat()
    told = [
        {
            "status": "firing",
            "labels": {
                "alertname": "SomethingIsOdd",
                "severity": "warning",
                "cluster": target.cluster,
                "service": target.pool,
                "endpoint": target.endpoint,
                "bench_id": fingerprint,
            },
            "annotations": {"observed_at": now},
            "startsAt": now,
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.invalid/graph",
            "fingerprint": fingerprint,
        }
        for target, fingerprint in alerts
    ]
    body = {
        "version": "4",
        "groupKey": f"{{}}:{{first={alerts[0][1]}}}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "bench",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.invalid",
        "alerts": told,
    }
    return json.dumps(body).encode()
