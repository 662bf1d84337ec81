"""One fault from made to over: waits for the detector, follows the case, asks a person, soaks, mends, sees it restored."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from runbooks.detection import Target, workflow_id
from worker.demo.engines import CLUSTER, POOLS
from worker.demo.picture import Kind, Mark
from worker.demo.plant import DemoFailed, Plant
from worker.demo.summary import CaseSummary

T = TypeVar("T")
CALM_S = 6.0
SOAK_S = 12.0
"""How long the fault goes on after the mitigation, so that it can be seen that callers do not feel it any more."""
DETECT_S, MITIGATE_S, RESTORE_S, PERSON_S = 45.0, 120.0, 180.0, 900.0
READ_S = 6.0
"""With --yes: as long as a person takes to read at least. Sooner, the rates before the act would still be those of calm."""
POLL_S = 0.3


@dataclass(frozen=True)
class Fault:
    """What is broken, how it is mended, and what is expected of Interlock. `unattended_s`: how long it lasts in observe."""

    name: str
    alert: str
    failure_class: str
    target: Target
    break_: Callable[[], None]
    mend: Callable[[], Awaitable[None]]
    mended: str
    unattended_s: float


def faults(plant: Plant) -> tuple[Fault, Fault]:
    """One: an engine hangs. Two: a pool loses two of its three engines."""
    pool, engines = POOLS[0], plant.engines
    first, second, _ = engines.addresses(pool)

    async def go_on() -> None:
        engines.resume(first)

    def kill() -> None:
        engines.kill(first)
        engines.kill(second)

    async def start_again() -> None:
        await asyncio.gather(engines.restart(first), engines.restart(second))

    return (
        Fault(
            f"an engine of {pool} is stopped (SIGSTOP)",
            "EngineHang",
            "engine.hang",
            Target(cluster=CLUSTER, service=pool, endpoint=first),
            lambda: engines.suspend(first),
            go_on,
            "the engine goes on (SIGCONT)",
            unattended_s=28.0,
        ),
        Fault(
            f"2 of 3 engines of {pool} are killed (SIGKILL)",
            "PoolEnginesLost",
            "engine.crash",
            Target(cluster=CLUSTER, service=pool),
            kill,
            start_again,
            "the engines are started again",
            unattended_s=36.0,
        ),
    )


@dataclass
class Story:
    """Tells one fault. `marks` are for the picture; `yes` approves in the place of a person."""

    plant: Plant
    fault: Fault
    yes: bool
    marks: list[Mark] = field(default_factory=list)
    _status: dict[str, Any] = field(default_factory=dict)
    _told_before: int | None = None
    _seen: int = 0
    _taken_in: float | None = None
    _asked_at: float | None = None
    _waited_s: float = 0.0

    @property
    def case(self) -> str:
        """The workflow id of the fault's target."""
        return workflow_id(self.fault.target)

    async def acted(self) -> CaseSummary:
        """With a policy that acts. DemoFailed names what did not happen in time."""
        broken = await self._break()
        await self._until(lambda: self._told() is not None, DETECT_S, f"the detector says {self.fault.alert}")
        mitigated = await self._until(self._mitigated, MITIGATE_S, f"{self.case} is mitigated")
        await self._watch(SOAK_S)
        left = time.time()
        await self._mend()
        await self._until(lambda: self._record().get("outcome"), RESTORE_S, f"{self.case} is closed")
        load = self.plant.load
        return self._summary(
            broken,
            mitigated,
            outcome=str(self._record()["outcome"]),
            before=load.failures(broken, mitigated),
            after=load.left_and_failed(mitigated, left),
        )

    async def observed(self) -> CaseSummary:
        """With a policy that only observes: the fault lasts as long as an acted one does, and nothing is done."""
        broken = await self._break()
        await self._until(lambda: self._told() is not None, DETECT_S, f"the detector says {self.fault.alert}")
        await self._watch(max(0.0, broken + self.fault.unattended_s - time.time()))
        # Requests of the last seconds have not ended yet: let them, before they are counted.
        left = time.time() - 3.0
        await self._mend()
        resolved = "the detector says that it is over"
        await self._until(lambda: self._told("resolved") is not None, DETECT_S, resolved)
        acted = self._record().get("first_act_at") is not None
        load = self.plant.load
        return self._summary(
            broken,
            None,
            outcome="ACTED" if acted else "not acted",
            before=load.failures(broken, left - SOAK_S),
            after=load.left_and_failed(left - SOAK_S, left),
        )

    async def _break(self) -> float:
        calm = f"{CALM_S:g} s without a failed request, every endpoint answering"
        await self._until(self._calm, 90.0, calm)
        self._told_before = len(self.plant.detections)
        self.fault.break_()
        self._mark(time.time(), "fault", self.fault.name, say=f"FAULT: {self.fault.name}")
        return self.marks[-1].at

    async def _mend(self) -> None:
        self._mark(time.time(), "over", self.fault.mended, say=f"MENDED: {self.fault.mended}")
        await self.fault.mend()

    def _calm(self) -> bool:
        seen = self.plant.load.window(CALM_S)
        answering = set(self.plant.detector.states().values()) == {"answering"}
        return answering and seen.requests >= 0.8 * CALM_S * self.plant.load.rate and not seen.failed

    def _told(self, status: str = "firing") -> float | None:
        """When the detector first said it, since the fault was made."""
        if self._told_before is None:
            return None
        for at, detection in self.plant.detections[self._told_before :]:
            if (detection.alert, detection.status, detection.target) == (self.fault.alert, status, self.fault.target):
                if status == "firing":
                    self._mark(at, "alert", detection.alert, once=True)
                return at
        return None

    def _record(self) -> dict[str, Any]:
        found = self._status.get("record", self._status)
        return found if isinstance(found, dict) else {}

    def _mitigated(self) -> float | None:
        record = self._record()
        if record.get("outcome"):
            raise DemoFailed(f"{self.case} closed before it was mitigated: {record['outcome']}: {record.get('why')}")
        return _unix(record.get("mitigated_at"))

    async def _until(self, condition: Callable[[], T | bool | None], seconds: float, what: str) -> Any:
        """Poll until the condition holds, following the case. Time that a person takes does not count."""
        until = time.monotonic() + seconds
        while True:
            self.plant.check()
            await self._follow()
            value = condition()
            if value:
                return value
            if self._asked_at is not None:
                until = time.monotonic() + seconds
                if time.time() - self._asked_at > PERSON_S:
                    raise DemoFailed(f"nobody decided within {PERSON_S / 60:.0f} minutes")
            if time.monotonic() > until:
                raise DemoFailed(
                    f"not within {seconds:.0f} s: {what}. {self._last_words()} Look into {self.plant.tree.folder}"
                )
            await asyncio.sleep(POLL_S)

    async def _watch(self, seconds: float) -> None:
        """Let time pass, following the case."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.plant.check()
            await self._follow()
            await asyncio.sleep(POLL_S)

    async def _follow(self) -> None:
        """New lines of the case's timeline go to the screen and the picture; a question goes to a person."""
        if self._told() is None:  # the case of an earlier fault on the same target is not ours
            return
        status = await self.plant.interlock.status(self.plant.http, self.case)
        if status is None:
            return
        self._status = status
        # A case keeps the newest word of each fault: when the first one was taken in is to be seen only in the beginning.
        taken = [t for d in self._record().get("detections", []) if (t := _unix(d.get("received_at"))) is not None]
        self._taken_in = min([*taken, *([] if self._taken_in is None else [self._taken_in])], default=None)
        timeline = self._record().get("timeline", [])
        for event in timeline[self._seen :]:
            self._event(event)
        self._seen = len(timeline)
        waiting = status.get("waiting")
        if waiting:
            await self._ask(waiting)
        elif self._asked_at is not None:
            self._waited_s += time.time() - self._asked_at
            self._asked_at, self.plant.view.ask = None, ""

    async def _ask(self, waiting: dict[str, Any]) -> None:
        first = self._asked_at is None
        self._asked_at = self._asked_at or time.time()
        if self.yes:
            if time.time() - self._asked_at < READ_S:
                return
            if refused := await self.plant.interlock.approve(self.plant.http, self.case, waiting):
                raise DemoFailed(f"the approval was refused: {refused}")
            return
        if not first:
            return
        answer = {"step": waiting["step"], "plan": waiting["digest"], "decision": "approve", "reason": "I looked at it"}
        page = f"{self.plant.ui_url}/namespaces/default/workflows/{self.case.replace('/', '%2F')}"
        self.plant.view.ask = (
            f"{waiting['step']} waits for your approval.\n"
            f"1. Open {page}; the tab User Metadata shows what is proposed and why\n"
            "2. More Actions → Send a Signal → choose `decide`\n"
            f"3. Paste as Data:  {json.dumps(answer, ensure_ascii=False)}\n"
            "4. Submit. (The editor may swallow the first click: click once more.) The gates are asked again before anything moves."
        )
        for line in self.plant.view.ask.splitlines():
            self.plant.view.say(line)

    def _event(self, event: dict[str, Any]) -> None:
        what, text = str(event["what"]), str(event["text"])
        at = _unix(event["at"]) or time.time()
        self.plant.view.say(f"interlock: {what}: {text}")
        verb, _, lever = what.partition(": ")
        kinds: dict[str, Kind] = {"act": "act", "restore": "restore", "undo": "restore"}
        if verb in kinds and "_" in lever and lever != "cannot_tell":
            self._mark(at, kinds[verb], f"{verb}: {lever}")
        elif what in ("approved", "rejected"):
            self._mark(at, "approval", f"{what} by {text.partition(':')[0]}")
        elif what == "mitigated":
            self._mark(at, "mitigated", f"{self.fault.failure_class} mitigated")

    def _mark(self, at: float, kind: Kind, text: str, *, say: str = "", once: bool = False) -> None:
        if once and any(m.kind == kind for m in self.marks):
            return
        self.marks.append(Mark(at, kind, text))
        if say:
            self.plant.view.say(say)

    def _last_words(self) -> str:
        timeline = self._record().get("timeline", [])
        return (
            f"The case last said: {timeline[-1]['what']}: {timeline[-1]['text']}." if timeline else "There is no case."
        )

    def _summary(self, broken: float, mitigated: float | None, *, outcome: str, before: int, after: int) -> CaseSummary:
        record = self._record()
        alert = self._taken_in
        receipts = [r for s in record.get("steps", []) for r in s["receipts"]]
        acted = min((t for r in receipts if (t := _unix(r["acted_at"]))), default=None)
        return CaseSummary(
            class_=(record.get("classification") or {}).get("failure_class", "none"),
            fault=self.fault.name,
            lever=receipts[0]["lever"] if receipts else "none",
            outcome=outcome,
            fault_to_detection_s=_span(broken, alert),
            alert_to_first_act_ms=None if (ms := _span(alert, acted, 4)) is None else round(1000 * ms, 1),
            alert_to_mitigated_s=_span(alert, mitigated),
            waited_for_people_s=round(self._waited_s, 1),
            failed_requests_before=before,
            failed_requests_after=after,
            restored=record.get("restored_at") is not None,
        )


def _unix(text: Any) -> float | None:
    return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None


def _span(start: float | None, end: float | None, digits: int = 2) -> float | None:
    return None if start is None or end is None else round(end - start, digits)
