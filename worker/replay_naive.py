"""The automation that Interlock is not: the same classes, runbooks, levers and planner, and nothing that stops it.

No gates, no Guard, no increments, no verify, no approvals. A decision is made when its alert comes, from the site as it is
declared for normal times, and is carried out as it was made. While somebody has it halted it goes on deciding; once it may
go on, all that has queued up is carried out at once, whatever has happened since. When the alert resolves, everything is
put back at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from activities.errors import PortError
from activities.ports import Actuator
from activities.triage import TriageActivities
from runbooks.change import Change, Permit, one_way
from runbooks.cluster import ClusterState
from runbooks.detection import Detection, Target
from runbooks.facts import Settings
from runbooks.fleet import homes_of
from runbooks.incident import Incident, Says
from runbooks.increments import plan_change
from runbooks.levers import ActingStep, ClusterStep, NodeStep, Page
from runbooks.library import Library
from runbooks.plan import PlannedStep, TriageRequest
from runbooks.policy import Policy
from worker.intake_calls import Undeliverable
from worker.intake_delivery import Delivered
from worker.replay_alone import HandClock
from worker.replay_believed import UNBOUNDED, believed, normal, without
from worker.replay_detectors import Detectors, Said
from worker.replay_site import Site
from worker.replay_violations import Made

DECIDES_S, NEXT_S, STEP_S = 5.0, 300.0, 15.0
"""Until a decision is carried out, until the next step is tried while the alert still fires, and between two looks, seconds.
Our inference: the pace of a script that somebody has written on a quiet day."""
TRIES, PARTS = 20, 200
"""How often a write that is refused is sent again, and the most changes that one step is made of."""


@dataclass(frozen=True)
class Did:
    """One write that went through."""

    at: datetime
    lever: str
    target: str
    domains: tuple[str, ...]
    change: Change


@dataclass
class _Decision:
    due: datetime
    detection: Detection
    step: PlannedStep
    changes: list[Change]
    rest: list[PlannedStep]


@dataclass
class Naive:
    """Plays the incident on a site whose clock it sets by `clock.now`."""

    incident: Incident
    site: Site
    policy: Policy
    library: Library
    clock: HandClock
    did: list[Did] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    paged: bool = False

    def __post_init__(self) -> None:
        self._queue: list[_Decision] = []
        self._firing: dict[str, Detection] = {}
        self._standing: dict[str, list[Change]] = {}
        self._epochs = itertools.count(1)
        self._halted: set[str] = set()
        self._detectors = Detectors(self.incident, self.site, self, self.clock)

    async def run(self) -> None:
        """From `starts` to the end."""
        moment, end = self.incident.moment, self.incident.starts + timedelta(seconds=self.incident.lasts)
        alerts = sorted(self.incident.timeline.alerts, key=lambda a: moment(a.at))
        timed = [a for a in alerts if a.resolves not in ("clear", "never")]
        orders = sorted(self.incident.timeline.people, key=lambda p: moment(p.at))
        while self.clock() < end:
            now = self.clock()
            while alerts and moment(alerts[0].at) <= now:
                await self._detectors.fire(alerts.pop(0))
            for alert in [a for a in timed if moment(a.resolves) <= now]:
                timed.remove(alert)
                await self._detectors.resolve(alert)
            while orders and moment(orders[0].at) <= now:
                self._hear(orders.pop(0))
            await self._detectors.look()
            for decision in [d for d in self._queue if d.due <= now and not self._halted & set(d.step.domains)]:
                self._queue.remove(decision)
                await self._carry_out(decision)
            self.clock.now = min(end, now + timedelta(seconds=STEP_S))
            self.site.advance(self.clock())

    def _hear(self, said: Says) -> None:
        about = {Target.of(said.about).domain} if said.about else set(self.site.fleet.domains())
        if said.says == "halt":
            self._halted |= about
        elif said.says == "resume":
            self._halted -= about

    # --- deciding ----------------------------------------------------------------------------------------------------

    async def deliver(self, detections: Sequence[Detection]) -> list[Delivered | Undeliverable]:
        """As the real deliverer takes them."""
        for one in detections:
            if one.status == "resolved":
                self._firing.pop(one.key, None)
                await self._put_back(one)
            else:
                self._firing[one.key] = one
                await self._decide(one)
        return [Delivered(d, "started", "") for d in detections]

    async def _decide(self, detection: Detection) -> None:
        triage = TriageActivities(self.library, self.policy, self.site.fleet)
        found = await triage.diagnose(TriageRequest(detections=(detection,), now=self.clock()))
        self.classes.append(found.classification.failure_class)
        await self._plan(detection, list(found.plan.steps), self.clock() + timedelta(seconds=DECIDES_S))

    async def _plan(self, detection: Detection, steps: list[PlannedStep], after: datetime) -> None:
        while steps:
            step = steps.pop(0)
            if isinstance(step.step, Page):
                self.paged = True
                continue
            changes = await self._changes(step)
            if changes:
                self._queue.append(_Decision(after, detection, step, changes, steps))
                return

    async def _changes(self, step: PlannedStep) -> list[Change]:
        """All of the step at once, from what is declared and from what the site is in normal times."""
        assert not isinstance(step.step, Page)
        settings, state = await self._declared(step)
        state = believed(state) if state is not None else None
        pools = {p.name: normal(self.site.fleet, p.name, self.incident) for p in self.site.fleet.pools}
        found: list[Change] = []
        for _ in range(PARTS):
            made = plan_change(step.step, "act", len(found), settings, pools, self.site.fleet, UNBOUNDED, {}, state, {})
            if not isinstance(made, Change):
                break
            found.append(made)
            settings |= made.after
            state = without(state, made) if state is not None else None
            if made.last:
                break
        return found

    async def _declared(self, step: PlannedStep) -> tuple[Settings, ClusterState | None]:
        settings: Settings = {}
        state: ClusterState | None = None
        placed = isinstance(step.step, ClusterStep | NodeStep)
        try:
            for domain in step.domains:
                settings |= (await (self.site.cluster if placed else self.site.traffic).read(domain)).settings
                if placed:
                    state = (await self.site.cluster.read(domain)).state
        except PortError:
            return {}, None  # whoever does not answer is not acted upon: even a script ends there
        return settings, state

    @property
    def said(self) -> list[Said]:
        """What the detectors said."""
        return self._detectors.said

    @property
    def made(self) -> list[Made]:
        """What it changed. It waits so long itself before it calls a step without effect."""
        return [
            Made(d.target, d.domains, d.lever, d.at, d.at + timedelta(seconds=NEXT_S), d.change.blast) for d in self.did
        ]

    # --- acting ------------------------------------------------------------------------------------------------------

    async def _carry_out(self, decision: _Decision) -> None:
        """Late, and as it was decided."""
        step, detection = decision.step.step, decision.detection
        assert not isinstance(step, Page)
        for change in decision.changes:
            if await self._write(self._hands(step), change):
                self.did.append(Did(self.clock(), step.lever, detection.target.id, decision.step.domains, change))
                self._standing.setdefault(detection.key, []).append(change)
        if decision.step.then == "next":
            await self._plan(detection, decision.rest, self.clock())
        elif detection.key in self._firing:
            await self._plan(detection, decision.rest, self.clock() + timedelta(seconds=NEXT_S))

    def _hands(self, step: ActingStep) -> Actuator:
        if isinstance(step, NodeStep):
            return self.site.node(step.node)
        return self.site.cluster if isinstance(step, ClusterStep) else self.site.traffic

    async def _write(self, hands: Actuator, change: Change) -> bool:
        """Over whatever stands there now. False: it would not go through."""
        homes = [homes_of(key, self.site.fleet) for key in change.after]
        domain = min(set.intersection(*homes), default=None)
        if domain is None:
            return False
        for _ in range(TRIES):
            try:
                found = await hands.effective(list(change.after))
                blind = change.model_copy(update={"before": {k: found.get(k, change.before[k]) for k in change.after}})
                await hands.swap(blind, self._permit(domain, blind))
            except PortError:
                self.clock.now += timedelta(seconds=1)
                self.site.advance(self.clock())
            else:
                return True
        return False

    def _permit(self, domain: str, change: Change) -> Permit:
        """Nobody has given it."""
        n = next(self._epochs)
        return Permit(
            id=f"naive-{n}", domain=domain, case="naive", step_id="naive", change_digest=change.digest, purpose="act",
            epoch=n, act_before=self.clock() + timedelta(seconds=10),
        )  # fmt: skip

    async def _put_back(self, detection: Detection) -> None:
        for change in reversed(self._standing.pop(detection.key, [])):
            if any(one_way(k) for k in change.after):
                continue
            traffic = next(iter(change.after)).partition("/")[0] in ("weight", "endpoint", "connections", "admit")
            await self._write(self.site.traffic if traffic else self.site.cluster, change.reversed("put back"))
