"""The detectors of an incident: each alert at its time through the real deliverer, and its resolution when it has one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from runbooks.detection import Detection, Target
from runbooks.incident import Alert, Incident
from worker.intake_calls import Undeliverable
from worker.intake_delivery import Delivered
from worker.replay_site import Site

WELL_FOR = timedelta(seconds=60)
"""A detector takes its alert back once its target has been well for so long, and raises it again after as long unwell."""


@dataclass(frozen=True)
class Said:
    """One detection as it was delivered. `how`: what the deliverer did with it."""

    at: datetime
    detection: Detection
    how: str


@dataclass
class _Raised:
    alert: Alert
    target: Target
    since: datetime
    firing: bool = True
    other_since: datetime | None = None
    """Since when its target is otherwise than the alert says."""


class Intake(Protocol):
    """Takes what detectors say: the real deliverer, or a script that acts on it."""

    async def deliver(self, detections: Sequence[Detection]) -> list[Delivered | Undeliverable]:
        """See `worker.intake_delivery.Deliverer`."""
        ...


class Detectors:
    """All of them. `site` says how a target is. `doubtful`: alerts, by their place in the file, that are not raised when their
    target is well at that time."""

    def __init__(
        self,
        incident: Incident,
        site: Site,
        deliverer: Intake,
        clock: Callable[[], datetime],
        doubtful: Collection[int] = (),
    ) -> None:
        self._doubtful = [incident.timeline.alerts[n] for n in doubtful]
        self._incident, self._site, self._deliverer, self._clock = incident, site, deliverer, clock
        self._raised: list[_Raised] = []
        self.said: list[Said] = []

    @property
    def firing(self) -> bool:
        """Whether any alert fires, or might again."""
        return any(r.firing or r.alert.resolves == "clear" for r in self._raised)

    async def fire(self, alert: Alert) -> None:
        """At its time."""
        began = self._incident.moment(alert.began) if alert.began else self._last_fault(alert)
        raised = _Raised(alert, Target.of(alert.target), began)
        self._raised.append(raised)
        doubtful = alert.resolves == "clear" and any(alert is one for one in self._doubtful)
        if doubtful and self._site.well(raised.target):
            raised.firing = False  # `look` raises it should its target become unwell after all
            return
        await self._deliver(raised, "firing", self._incident.moment(alert.measured) if alert.measured else None)

    async def resolve(self, alert: Alert) -> None:
        """At the time that the file gives."""
        for raised in (r for r in self._raised if r.alert is alert and r.firing):
            raised.firing = False
            await self._deliver(raised, "resolved")

    async def look(self) -> None:
        """Those that look for themselves: well for a minute, resolved; unwell for a minute after that, firing again."""
        now = self._clock()
        for raised in (r for r in self._raised if r.alert.resolves == "clear"):
            # None, when it sees nothing: that is no news of either kind.
            if self._site.well(raised.target) is not raised.firing:
                raised.other_since = None
                continue
            raised.other_since = raised.other_since or now
            if now - raised.other_since < WELL_FOR:
                continue
            since, raised.other_since = raised.other_since, None
            raised.firing = not raised.firing
            if raised.firing:
                raised.since = since
            await self._deliver(raised, "firing" if raised.firing else "resolved")

    def _last_fault(self, alert: Alert) -> datetime:
        at = self._incident.moment(alert.at)
        before = [m for f in self._incident.timeline.faults if (m := self._incident.moment(f.at)) <= at]
        return max(before, default=at)

    async def _deliver(
        self, raised: _Raised, status: Literal["firing", "resolved"], measured: datetime | None = None
    ) -> None:
        alert, now = raised.alert, self._clock()
        detection = Detection(
            alert=alert.alert,
            target=raised.target,
            status=status,
            severity=alert.severity,
            labels=alert.labels,
            evidence=alert.evidence,
            started_at=min(raised.since, now),
            observed_at=measured or now,
            detector=alert.detector,
            reported_by=alert.reported_by,
            automatic=alert.automatic,
            received_at=now,
        )
        [found] = await self._deliverer.deliver([detection])
        if isinstance(found, Exception):
            raise found
        self.said.append(Said(now, detection, found.result))
