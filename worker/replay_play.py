"""One incident, played: real workflows, gates, runbooks and Guards over a simulated site, in virtual time."""

from __future__ import annotations

import heapq
import itertools
import secrets
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from activities.acts import NodeActivities
from activities.adapters.sql import SqlJournal
from activities.guard_client import GuardClient
from runbooks.detection import node_queue
from runbooks.incident import Incident
from runbooks.library import Library
from runbooks.policy import Policy
from runbooks.record import CaseRecord
from worker.intake_delivery import Deliverer
from worker.replay_clock import next_second
from worker.replay_detectors import Detectors, Said
from worker.replay_people import People, Word
from worker.replay_site import Site
from worker.replay_stage import Stage
from worker.replay_watch import Acted, Checked, Paged, Proven
from worker.wiring import Ports, activities_over

STEP_S, CALM_STEP_S = 15.0, 60.0
"""How often detectors look, virtual seconds: the scrape period of a careful site; rarely once nothing has happened for long."""
CALM_AFTER = timedelta(minutes=5)
GRACE = timedelta(hours=2)
"""Cases may end after the incident's own end: whoever was told lingers, what stands is restored."""


@dataclass(frozen=True)
class Played:
    """What was seen. Times are virtual."""

    starts: datetime
    ended: datetime
    records: tuple[CaseRecord, ...]
    """Of all cases, by when they were opened; those that are still open have no outcome."""
    checks: tuple[Checked, ...]
    acts: tuple[Acted, ...]
    proofs: tuple[Proven, ...]
    pages: tuple[Paged, ...]
    said: tuple[Said, ...]
    words: tuple[Word, ...]


class Guards(GuardClient):
    """The real client, but for who listens on a queue: the test server keeps no pollers' times. `hire`: a node's agent is
    hired when somebody asks for it, since most incidents need none and a fleet may have thousands."""

    hire: Callable[[str], Awaitable[bool]]

    async def listens(self, queue: str) -> bool:
        """See GuardClient."""
        return await self.hire(queue)


class Play:
    """One incident on a stage. `incident` is moved to the stage's clock, `policy` to its site. `doubtful`: see Detectors."""

    def __init__(
        self,
        stage: Stage,
        incident: Incident,
        site: Site,
        policy: Policy,
        library: Library,
        folder: Path,
        doubtful: Collection[int] = (),
    ) -> None:
        self._stage, self._incident, self._site = stage, incident, site
        self._policy, self._library, self._folder = policy, library, folder
        self._records: list[CaseRecord] = []
        self._due: list[tuple[datetime, int, Callable[[], Awaitable[None]]]] = []
        self._count = itertools.count()
        self._asked: set[str] = set()
        self._read = 0
        self._noted, self._noted_at = 0, incident.starts
        faults = incident.timeline.faults
        self._turns = [incident.moment(at) for f in faults for at in (f.at, f.ends) if at is not None]
        key = secrets.token_bytes(32)
        self._people = People(stage, incident, policy, site.fleet.domains(), key)
        self._detectors = Detectors(incident, site, Deliverer(stage.client), stage.clock, doubtful)
        self._key = key

    async def run(self) -> Played:
        """From `starts` until its end, and until every case has closed or two hours more are over."""
        journal = SqlJournal(f"sqlite:///{self._folder / 'journal.db'}")
        guard = Guards(self._stage.client)
        guard.hire = partial(self._hire, journal, guard)
        clock = self._stage.clock
        ports = Ports(
            traffic=self._site.traffic,
            metrics=self._site.metrics,
            prober=self._site.prober,
            watched=self._site.watched,
            notify=self._site.notify,
            journal=journal,
            guard=guard,
            cluster=self._site.cluster,
            clock=clock,
            sleep=self._stage.wait_in_activity,
            observe=self._records.append,
        )
        fleet = self._site.fleet
        activities = activities_over(ports, self._stage.client, fleet, self._policy, self._library, self._key)
        try:
            async with self._stage.working(activities, fleet.domains()):
                await self._play()
                for case in sorted(self._stage.watch.open):
                    self._records += await self._people.record(case)
                return self._played()
        finally:
            journal.dispose()

    async def _play(self) -> None:
        clock, end = self._stage.clock, self._incident.starts + timedelta(seconds=self._incident.lasts)
        moment = self._incident.moment
        for alert in self._incident.timeline.alerts:
            self._at(moment(alert.at), partial(self._detectors.fire, alert))
            if alert.resolves not in ("clear", "never"):
                self._at(moment(alert.resolves), partial(self._detectors.resolve, alert))
        for said in self._incident.timeline.people:
            self._at(moment(said.at), partial(self._people.say, said))
        while True:
            while self._due and self._due[0][0] <= clock():
                await heapq.heappop(self._due)[2]()
            await self._detectors.look()
            self._hear_asked()
            now, open_ = clock(), bool(self._stage.watch.open)
            if now >= end and (not open_ or now >= end + GRACE):
                return
            watched = open_ or self._detectors.firing
            step = now + timedelta(seconds=self._step_s(now) if watched else self._incident.lasts)
            until = min([step, *([end] if now < end else []), *(at for at, _, _ in self._due[:1])])
            await self._stage.reach(next_second(until))
            self._site.advance(clock())

    def _step_s(self, now: datetime) -> float:
        """Often while something happens: a fault begins or ends, somebody speaks, gates are asked, something is done."""
        watch = self._stage.watch
        noted = len(watch.checks) + len(watch.acts) + len(watch.proofs) + len(watch.pages)
        noted += len(self._detectors.said) + len(self._people.words) + sum(at <= now for at in self._turns)
        if noted != self._noted:
            self._noted, self._noted_at = noted, now
        return STEP_S if now - self._noted_at < CALM_AFTER else CALM_STEP_S

    def _at(self, moment: datetime, what: Callable[[], Awaitable[None]]) -> None:
        heapq.heappush(self._due, (next_second(moment), next(self._count), what))

    def _hear_asked(self) -> None:
        """Whoever asks people now gets the file's default answer in its time, if its timeline has no other."""
        fresh, self._read = self._stage.watch.checks[self._read :], len(self._stage.watch.checks)
        answers = self._incident.timeline.answers
        for one in fresh:
            case = one.request.workflow_id
            if one.result.verdict.outcome == "ask" and one.request.purpose == "act" and case not in self._asked:
                self._asked.add(case)
                self._at(one.at + timedelta(seconds=answers.after), partial(self._answer, case, one.at))

    async def _answer(self, case: str, asked: datetime) -> None:
        self._asked.discard(case)
        if not self._people.will_speak(case, asked):
            await self._people.answer(case, self._incident.timeline.answers)

    async def _hire(self, journal: SqlJournal, guard: GuardClient, queue: str) -> bool:
        node = next((n.name for n in self._site.fleet.nodes if node_queue(n.name) == queue), None)
        if node is None:
            return False
        acts = NodeActivities(self._site.node(node), journal, guard, self._stage.clock)
        await self._stage.hire(node, [acts.apply])
        return True

    def _played(self) -> Played:
        watch = self._stage.watch
        return Played(
            starts=self._incident.starts,
            ended=self._stage.clock(),
            records=tuple(sorted(self._records, key=lambda r: (r.opened_at, r.workflow_id))),
            # Of what happened within a second the order is the machine's.
            checks=tuple(sorted(watch.checks, key=lambda c: (c.at, c.request.workflow_id))),
            acts=tuple(sorted(watch.acts, key=lambda a: (a.ended, a.request.workflow_id))),
            proofs=tuple(sorted(watch.proofs, key=lambda p: (p.at, p.request.receipt.target_id))),
            pages=tuple(sorted(watch.pages, key=lambda p: (p.at, p.request.dedup_key))),
            said=tuple(self._detectors.said),
            words=tuple(self._people.words),
        )
