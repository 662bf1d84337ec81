"""Who notices: each node's condition, told as the rule KubeNodeNotReady of kube-prometheus tells it.

It stands where kube-state-metrics and Prometheus stand in production, and speaks to a real Alertmanager where there is
one; else it sends the intake the webhook that Alertmanager would send.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import httpx

from tests.kube.manifests import condition
from tests.kube.world import World
from worker.demo.interlock import Interlock

ALERT = "KubeNodeNotReady"
FOR_S = 1.0
"""kube-prometheus waits for 15 minutes; a demo does not."""
LOOK_S, AGAIN_S = 0.2, 20.0
"""An alert is repeated while it lasts, as Prometheus does: Alertmanager forgets one that it hears of no more."""
Alert = dict[str, Any]
Tell = Callable[[Alert], Awaitable[None]]


@dataclass(frozen=True)
class Said:
    """What was told for the first time. `at` is Unix time."""

    at: float
    node: str
    status: Literal["firing", "resolved"]


@dataclass
class Alerts:
    """Watches the nodes of one cluster. `record` is what it has told."""

    world: World
    cluster: str
    tell: Tell
    record: list[Said] = field(default_factory=list)
    _since: dict[str, float] = field(default_factory=dict)
    _open: dict[str, tuple[Alert, float]] = field(default_factory=dict)

    async def run(self) -> None:
        """Until cancelled. Raises httpx.HTTPError when nobody hears it."""
        while True:
            for thing in tuple(self.world.nodes.values()):
                name = str(thing["metadata"]["name"])
                await (self._is_ready(name) if condition(thing, "Ready") else self._is_not(name))
            await asyncio.sleep(LOOK_S)

    async def _is_not(self, node: str) -> None:
        now = time.monotonic()
        since = self._since.setdefault(node, now)
        if node in self._open:
            alert, told = self._open[node]
            if now - told >= AGAIN_S:
                await self._tell(node, alert)
        elif now - since >= FOR_S:
            labels = {"alertname": ALERT, "cluster": self.cluster, "node": node, "severity": "critical"}
            notes = {"summary": f"{node} has not been ready for {FOR_S:g} s"}
            await self._tell(node, {"labels": labels, "annotations": notes, "startsAt": _now()})
            self.record.append(Said(time.time(), node, "firing"))

    async def _is_ready(self, node: str) -> None:
        self._since.pop(node, None)
        if node in self._open:
            alert, _ = self._open.pop(node)
            await self.tell({**alert, "endsAt": _now()})
            self.record.append(Said(time.time(), node, "resolved"))

    async def _tell(self, node: str, alert: Alert) -> None:
        await self.tell(alert)
        self._open[node] = (alert, time.monotonic())


def to_alertmanager(http: httpx.AsyncClient, address: str) -> Tell:
    """As Prometheus speaks to it."""

    async def tell(alert: Alert) -> None:
        (await http.post(f"http://{address}/api/v2/alerts", json=[alert])).raise_for_status()

    return tell


def to_intake(http: httpx.AsyncClient, interlock: Interlock) -> Tell:
    """As Alertmanager speaks to the intake."""

    async def tell(alert: Alert) -> None:
        ends = {"status": "resolved"} if "endsAt" in alert else {"status": "firing", "endsAt": "0001-01-01T00:00:00Z"}
        one = {**alert, **ends, "fingerprint": alert["labels"]["node"]}
        body = {"version": "4", "groupKey": f"{{}}:{{alertname={ALERT}}}", "alerts": [one]}
        headers = {"authorization": f"Bearer {interlock.token}"}
        answer = await http.post(f"{interlock.url}/v1/alerts/alertmanager", json=body, headers=headers)
        answer.raise_for_status()

    return tell


def _now() -> str:
    return datetime.now(UTC).isoformat()
