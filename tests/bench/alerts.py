"""What every contestant is sent: Alertmanager's webhook, version 4, one firing or resolved alert in it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

ALERT = "EngineHang"
EVIDENCE = {"generations_failed": "3", "generations_ok": "0", "siblings_ok": "2", "tokens_rising": "false"}


@dataclass(frozen=True)
class Alert:
    """One alert about one engine. `fingerprint` makes it distinct."""

    cluster: str
    pool: str
    endpoint: str
    fingerprint: str = field(default_factory=lambda: uuid.uuid4().hex)
    status: Literal["firing", "resolved"] = "firing"
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def body(self) -> bytes:
        """The webhook's body, its observation made now."""
        now = datetime.now(UTC).isoformat()
        labels = {"alertname": ALERT, "severity": "critical", "cluster": self.cluster, "service": self.pool}
        labels |= {"endpoint": self.endpoint, "bench_id": self.fingerprint}
        annotations = {"observed_at": now, **{f"evidence_{k}": v for k, v in EVIDENCE.items()}}
        alert = {
            "status": self.status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": self.started.isoformat(),
            "endsAt": now if self.status == "resolved" else "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus.invalid/graph",
            "fingerprint": self.fingerprint,
        }
        group = {
            "version": "4",
            "groupKey": f"{{}}:{{bench_id={self.fingerprint}}}",
            "truncatedAlerts": 0,
            "status": self.status,
            "receiver": "bench",
            "groupLabels": {},
            "commonLabels": labels,
            "commonAnnotations": annotations,
            "externalURL": "http://alertmanager.invalid",
            "alerts": [alert],
        }
        return json.dumps(group).encode()
