"""What the kubelet says about a pod, as the body of a patch of its status. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


def now() -> str:
    """As Kubernetes writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class PodState:
    """What is true of one pod on its node. `waiting` is empty while its process runs."""

    ip: str
    ready: bool = False
    running: bool = False
    waiting: str = "ContainerCreating"
    restarts: int = 0
    last_exit: int | None = None
    started_at: str = ""
    finished_at: str = ""
    ready_since: str = field(default_factory=now)

    def set_ready(self, ready: bool) -> bool:
        """True when that is news."""
        if ready == self.ready:
            return False
        self.ready, self.ready_since = ready, now()
        return True

    def patch(self, pod: dict[str, Any]) -> dict[str, Any]:
        """The strategic merge patch. Bound to the pod's uid: a pod of the same name is another pod."""
        word = "True" if self.ready else "False"
        # None removes what an earlier patch said.
        why: dict[str, str | None] = {"reason": None, "message": None}
        if not self.ready:
            why = {"reason": "ContainersNotReady", "message": "its engine gives no token"}
        conditions: list[dict[str, str | None]] = [
            {"type": "Initialized", "status": "True"},
            {"type": "ContainersReady", "status": word, "lastTransitionTime": self.ready_since, **why},
            {"type": "Ready", "status": word, "lastTransitionTime": self.ready_since, **why},
        ]
        status = {
            "phase": "Running" if self.started_at else "Pending",
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "hostIP": "127.0.0.1",
            "startTime": pod["metadata"]["creationTimestamp"],
            "conditions": conditions,
            "containerStatuses": [self._container(pod["spec"]["containers"][0])],
        }
        return {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}

    def _container(self, container: dict[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = {"waiting": {"reason": self.waiting}}
        if self.running:
            state = {"running": {"startedAt": self.started_at}}
        last: dict[str, Any] = {}
        if self.last_exit is not None:
            reason = "Completed" if self.last_exit == 0 else "Error"
            # A process that a signal ended: 128 + its number, as container runtimes write it.
            code = self.last_exit if self.last_exit >= 0 else 128 - self.last_exit
            ended = {"exitCode": code, "reason": reason, "finishedAt": self.finished_at, "startedAt": self.started_at}
            last = {"terminated": ended}
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": self.ready,
            "started": self.running,
            "restartCount": self.restarts,
            "state": state,
            "lastState": last,
        }
