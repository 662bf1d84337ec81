"""The API server's audit log, read as what it is: who wrote what, and what the server answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, verbs: [get, list, watch]}
  - level: None
    resources: [{group: coordination.k8s.io, resources: [leases]}, {group: "", resources: [events]}]
  - level: None
    resources: [{group: events.k8s.io, resources: [events]}, {group: authorization.k8s.io}]
  - level: Metadata
    resources: [{group: "", resources: [secrets, serviceaccounts/token]}, {group: authentication.k8s.io}]
  - {level: Request}
"""
"""Every write with its body; without one where it may hold a token. Leases, events and access reviews change nothing."""


@dataclass(frozen=True)
class Write:
    """One write that the API server answered. `body` is the request's, None where the policy keeps it out."""

    at: datetime
    user: str
    verb: str
    uri: str
    namespace: str
    resource: str
    subresource: str
    name: str
    status: int
    dry_run: bool
    body: Any

    @property
    def applied(self) -> bool:
        """True when the server took it and it was no dry run."""
        return 200 <= self.status < 300 and not self.dry_run


def writes(log: Path, **filters: Any) -> list[Write]:
    """All writes in the order of the log whose fields equal the filters, e.g. `user="admin", resource="pods"`.

    A last line that is still being written is left out. The log is written before the answer is sent ("blocking").
    """
    found = []
    for line in log.read_text().splitlines(keepends=True) if log.exists() else []:
        if line.endswith("\n"):
            write = _parse(json.loads(line))
            if all(getattr(write, key) == value for key, value in filters.items()):
                found.append(write)
    return found


def _parse(event: dict[str, Any]) -> Write:
    where = event.get("objectRef", {})
    body = event.get("requestObject")
    options = body if isinstance(body, dict) else {}
    asked = [*options.get("dryRun", []), *options.get("deleteOptions", {}).get("dryRun", [])]
    return Write(
        at=datetime.fromisoformat(event["stageTimestamp"].replace("Z", "+00:00")),
        user=event["user"]["username"],
        verb=event["verb"],
        uri=event["requestURI"],
        namespace=where.get("namespace", ""),
        resource=where.get("resource", ""),
        subresource=where.get("subresource", ""),
        name=where.get("name", ""),
        status=int(event.get("responseStatus", {}).get("code", 0)),
        dry_run="dryRun=" in event["requestURI"] or "All" in asked,
        body=body,
    )
