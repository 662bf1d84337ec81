"""The one fault of this demo, told from outside: a node fails, Interlock asks, moves its replicas, and takes it back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from runbooks.detection import Target
from tests.kube.demo.alerts import ALERT
from tests.kube.demo.layout import POOLS
from tests.kube.demo.stage import Stage
from tests.kube.demo.view import NodeLine, lines
from worker.demo.engines import CLUSTER
from worker.demo.picture import Mark
from worker.demo.plant import Plant
from worker.demo.story import CALM_S, DETECT_S, MITIGATE_S, RESTORE_S, SOAK_S, Fault, Story
from worker.demo.summary import CaseSummary


@dataclass
class NodeStory(Story):
    """A Story whose fault is a node. `seen`: the cluster before the fault, when mitigated, and at the end."""

    seen: list[tuple[str, list[NodeLine]]] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    _allowed: set[str] = field(default_factory=set)

    @property
    def stage(self) -> Stage:
        """What it is told on."""
        return cast(Stage, self.plant)

    async def acted(self) -> CaseSummary:
        """To the end. DemoFailed names what did not happen in time."""
        load, alert = self.stage.load, f"an alert {ALERT} for {self.fault.target.node}"
        self._look("before")
        broken = await self._break()
        await self._until(lambda: self._told() is not None, DETECT_S, alert)
        mitigated = await self._until(self._mitigated, MITIGATE_S, f"{self.case} is mitigated")
        self._look("mitigated")
        await self._watch(SOAK_S)
        left = time.time()
        await self._mend()
        await self._until(lambda: self._record().get("outcome"), RESTORE_S, f"{self.case} is closed")
        self.record = self._record()
        self._look("at the end")
        return self._summary(
            broken,
            mitigated,
            outcome=str(self.record["outcome"]),
            before=load.failures(broken, mitigated),
            after=load.left_and_failed(mitigated, left),
        )

    async def _break(self) -> float:
        await self._until(self._calm, 90.0, f"{CALM_S:g} s without a failed request, every replica serving")
        self.fault.break_()
        self._mark(time.time(), "fault", self.fault.name, say=f"FAULT: {self.fault.name}")
        return self.marks[-1].at

    def _calm(self) -> bool:
        seen, world = self.stage.load.window(CALM_S), self.stage.cluster.world
        whole = all(len(world.serving(p.name)) == p.replicas for p in POOLS)
        return whole and seen.requests >= 0.8 * CALM_S * self.stage.load.rate and not seen.failed

    def _told(self, status: str = "firing") -> float | None:
        for said in self.stage.alerts.record:
            if (said.node, said.status) == (self.fault.target.node, status):
                if status == "firing":
                    self._mark(said.at, "alert", ALERT, say=f"ALERT: {ALERT} of {said.node}", once=True)
                return said.at
        return None

    def _event(self, event: dict[str, Any]) -> None:
        before = len(self.marks)
        super()._event(self._once(event))
        if event["what"] == "under load":
            self._mark(time.time(), "restore", f"under load {event['text']}")
        elif len(self.marks) > before:
            last = self.marks.pop()
            self.marks.append(Mark(last.at, last.kind, self._short(last, str(event["text"]))))

    def _once(self, event: dict[str, Any]) -> dict[str, Any]:
        """All gates' reasons are shown the first time that they allow; later on, that they do."""
        asked, _, reasons = str(event["text"]).partition(": ")
        if event["what"] != "gates: allow" or not reasons:
            return event
        if asked in self._allowed:
            return {**event, "text": f"{asked}: asked anew, all allow"}
        self._allowed.add(asked)
        return event

    def _short(self, mark: Mark, text: str) -> str:
        """A label for the picture, where a pod's whole name has no room."""
        if mark.kind == "restore":
            return f"uncordon {self.fault.target.node}"
        if mark.kind != "act":
            return mark.text
        return re.sub(r"(\S+)-\w+-(\w{5}) of \1", r"\1-\2", text)

    def _look(self, when: str) -> None:
        self.seen.append((when, lines(self.stage.cluster)))


def node_story(stage: Stage, node: str, yes: bool) -> NodeStory:
    """The story of this node."""

    async def heal() -> None:
        stage.cluster.kubelet.heal_node(node)

    fault = Fault(
        name=f"{node} fails: NotReady, its engines stop",
        alert=ALERT,
        failure_class="infra.node_down",
        target=Target(cluster=CLUSTER, node=node),
        break_=_failing(stage, node),
        mend=heal,
        mended=f"{node} is repaired: Ready again, and still cordoned",
        unattended_s=0.0,
    )
    # A Stage has everything that a Story asks of its Plant.
    return NodeStory(cast(Plant, stage), fault, yes)


def _failing(stage: Stage, node: str) -> Callable[[], None]:
    def fail() -> None:
        stage.cluster.kubelet.fail_node(node, reason="GPUFailed", message="Xid 79: a GPU has fallen off the bus")

    return fail


__all__ = ["NodeStory", "node_story"]
