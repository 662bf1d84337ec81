"""A halt reaches every lever in every step: no act is written later than 5 s after it, undo and restore go on, and after
a resume all is planned and approved anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from activities.adapters.simulated_cluster import SimSpec
from activities.adapters.webhook import LogNotify
from runbooks.change import image_key
from runbooks.detection import Detection, Target, guard_id
from runbooks.library import Library
from runbooks.schema import Criterion, Runbook
from tests import lab as labs
from tests.crash import cases as traffic
from tests.crash.lane import Lane, running_lane
from tests.crash_kube import cases as kube
from tests.scenarios.halting import MOMENTS, Played, Slow, SlowCluster, SlowTraffic, asks, played
from tests.scenarios.held import HeldJournal
from tests.scenarios.hostile import raw_signal, shown
from tests.scenarios.sites import Site, site
from tests.scenarios.test_guard_workflow import guard, start_guard, view
from worker.wiring import Parts

TRAFFIC = traffic.LEVERS
CLUSTER = tuple(s.lever for s in kube.STORIES if not s.by_node)
LEVERS = [*CLUSTER, *TRAFFIC]
UNDOES = {*TRAFFIC, "rebalance_nodes", "increase_capacity", "rollout_hotfix", "rollback_change", "freeze_changes"}


class Sick:
    """One engine that all stands on traffic share: it is stopped, and goes on, when all that are left have come so far."""

    def __init__(self, lab: labs.Lab, stands: int) -> None:
        self._lab, self._left, self._here = lab, stands, 0
        self._next = asyncio.Event()

    async def stop(self) -> None:
        """The fault begins for everybody."""
        await self._together()
        self._lab.engines["a0"].stop()

    async def go_on(self) -> None:
        """It is over for everybody."""
        await self._together()
        self._lab.engines["a0"].go_on()

    def leave(self) -> None:
        """One stand is done, for better or worse."""
        self._left -= 1
        self._move_on()

    async def _together(self) -> None:
        mine = self._next
        self._here += 1
        self._move_on()
        async with asyncio.timeout(120):
            await mine.wait()

    def _move_on(self) -> None:
        if self._here >= self._left:
            self._next.set()
            self._here, self._next = 0, asyncio.Event()


class TrafficStand:
    """An Envoy of its own over the lab's engines; the fault is a stopped engine."""

    def __init__(self, lab: labs.Lab, lane: Lane, http: httpx.AsyncClient) -> None:
        self.name, self.lever, self.client = lane.name, lane.story.lever, lab.client
        self.lane, self.lab = lane, lab
        self.slow = Slow()
        self.traffic = SlowTraffic(lane.fleet, lane.folder / "edge", lane.admin, http)
        self.traffic.slow = self.slow
        self.journal = HeldJournal(f"sqlite:///{lane.folder / 'journal.db'}")

    @asynccontextmanager
    async def worker(self, harmful: bool) -> AsyncIterator[None]:
        """See Stand."""
        story = traffic.harmful(self.lane.story) if harmful else self.lane.story
        parts = Parts(
            client=self.client, fleet=self.lane.fleet, policy=asks(story.policy), library=story.library,
            journal=self.journal, notify=LogNotify(self.lane.folder / "pages.jsonl"), claim_key=labs.CLAIM_KEY,
            envoy_folder=self.lane.folder / "edge", envoy_admin=self.lane.admin,
            route_urls={"chat": self.lane.front}, watch_period_s=1.0, probe_timeout_s=0.9, task_queue=self.name,
            routes=self.traffic,
        )  # fmt: skip
        async with labs.running_worker(parts):
            await self.lane.warm()
            yield

    def alert(self) -> Detection:
        """See Stand."""
        now = datetime.now(UTC)
        story = self.lane.story
        return Detection.model_validate(
            {
                "alert": story.alert, "target": self.lane.target, "severity": "critical", "evidence": story.evidence,
                "started_at": now, "observed_at": now, "detector": "lab",
            }
        )  # fmt: skip

    sick: Sick

    async def fail(self) -> None:
        """See Stand."""
        await self.sick.stop()

    async def heal(self) -> None:
        """See Stand."""
        await self.sick.go_on()


class ClusterStand:
    """A simulated cluster; the fault is a lamp that is dark."""

    def __init__(self, made: Site, story: kube.Story) -> None:
        self.site, self.story = made, story
        self.name, self.lever, self.client = made.name, story.lever, made.lab.client
        assert isinstance(made.cluster, SlowCluster)
        self.cluster = made.cluster
        self.slow = Slow()
        self.slow.log = made.cluster.log
        self.cluster.slow = self.slow
        self.journal = HeldJournal(f"sqlite:///{made.folder / 'journal.db'}")

    @asynccontextmanager
    async def worker(self, harmful: bool) -> AsyncIterator[None]:
        """See Stand."""
        library = kube.library(self.story)
        if harmful:
            library = _harmful(library)
        async with labs.running_worker(self.site.parts(journal=self.journal, library=library)):
            yield

    def alert(self) -> Detection:
        """See Stand."""
        now = datetime.now(UTC)
        where: dict[str, Any] = {"node": f"{self.name}-1"} if self.story.on == "node" else {"service": "a"}
        return Detection(
            alert=self.story.alert, target=Target(cluster=self.name, **where), severity="critical", started_at=now,
            observed_at=now, detector="lab",
        )  # fmt: skip

    async def fail(self) -> None:
        """See Stand."""
        if self.lever == "rollback_change":
            image = "engine:v2" if not self.cluster.log else "engine:v3"
            self.cluster.by_hand(image_key("a"), image)

            async def rolled() -> bool:
                work = (await self.cluster.read(self.name)).state.workloads["a"]
                return work.image == image and work.updated == work.ready == 1

            await labs.until(rolled, "the change is rolled out")
        if self.lever == "rollout_hotfix" and self.cluster.log:
            for pool in self.story.pools:  # the case before has left the new version: there would be nothing to roll
                self.cluster.by_hand(image_key(pool.name), "engine:v1")
        self.cluster.fail(f"{self.name}-lamp", "dark")

    async def heal(self) -> None:
        """See Stand."""
        self.cluster.heal(f"{self.name}-lamp")


def _harmful(library: Library) -> Library:
    """Whatever serves is called Worse."""
    book: Runbook = library.runbooks["only.yaml"]
    first = book.steps[0]
    assert first.verify is not None
    harm = Criterion(indicator=first.verify.criteria[0].indicator, below=1e6, worse_above=0.01)
    verify = first.verify.model_copy(update={"criteria": (*first.verify.criteria, harm)})
    steps = (first.model_copy(update={"verify": verify}), *book.steps[1:])
    return library.model_copy(update={"runbooks": {"only.yaml": book.model_copy(update={"steps": steps})}})


@asynccontextmanager
async def cluster_stand(lab: labs.Lab, folder: Path, lever: str) -> AsyncIterator[ClusterStand]:
    """One lever on clusters."""
    story = kube.BY_LEVER[lever]
    name = f"halt-{lever.replace('_', '-')}"
    nodes = {f"{name}-{n}": gpus for n, gpus in story.nodes.items()} | {f"{name}-lamp": 0}
    replicas = {p.name: p.replicas for p in story.pools}
    specs = {
        p.name: SimSpec(
            min_available=p.budget, autoscaler_max=4 if lever == "freeze_changes" and p.name == "a" else None
        )
        for p in story.pools
    }
    async with site(
        lab, folder, name, nodes=nodes, replicas=replicas, policy=asks(kube.policy()), library=kube.library(story),
        pools=specs, kind=SlowCluster,
    ) as made:  # fmt: skip
        yield ClusterStand(made, story)


@asynccontextmanager
async def traffic_stand(lab: labs.Lab, folder: Path, lever: str) -> AsyncIterator[TrafficStand]:
    """One lever on traffic."""
    name = f"halt-{lever.replace('_', '-')}"
    async with (
        running_lane(lab, folder, traffic.story(lever), name, number=TRAFFIC.index(lever)) as lane,
        httpx.AsyncClient(timeout=5, trust_env=False) as http,
    ):
        try:
            yield TrafficStand(lab, lane, http)
        finally:
            await lab.client.get_workflow_handle(guard_id(name)).terminate("end of the test")


@pytest.fixture(scope="module")
async def halted(
    request: pytest.FixtureRequest, _fleet: labs.Lab, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Played]:
    """Lever → what became of it, for those that tests of this session ask for. All of a kind side by side; in the second
    part an engine is stopped."""
    marks = [getattr(i, "callspec", None) for i in request.session.items if i.path == request.path]
    wanted = {m.params["lever"] for m in marks if m is not None}
    clusters, proxies = [v for v in CLUSTER if v in wanted], [v for v in TRAFFIC if v in wanted]
    folder = tmp_path_factory.mktemp("halt")
    await _fleet.heal()

    async def on_cluster(lever: str) -> Played:
        async with cluster_stand(_fleet, folder, lever) as stand:
            return await played(stand, undoes=lever in UNDOES)

    found = await asyncio.gather(*(on_cluster(lever) for lever in clusters))
    sick = Sick(_fleet, len(proxies))

    async def on_traffic(lever: str) -> Played:
        async with traffic_stand(_fleet, folder, lever) as stand:
            stand.sick = sick
            try:
                return await played(stand, undoes=True)
            finally:
                sick.leave()

    found += await asyncio.gather(*(on_traffic(lever) for lever in proxies))
    await _fleet.heal()
    return {p.lever: p for p in found}


@pytest.fixture(scope="module")
def done(halted: dict[str, Played], lever: str) -> Played:
    """What became of the test's lever. One that was not played to its end fails all its tests as one (tests/run.py)."""
    found = halted[lever]
    if found.why:
        pytest.fail(f"{found.why}\nbefore:\n{found.timeline}", pytrace=False)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lever", LEVERS, scope="module")
def test_a_halt_stops_this_lever_in_every_step_within_five_seconds(done: Played, lever: str) -> None:
    """Asking, queued, with the permit, inside the act, verifying: measured where it is written."""
    print(f"{lever}: an act was written at most {done.latest():.2f} s after a halt")
    assert done.latest() <= 5.0, done.timeline
    for moment in MOMENTS:
        assert not [w for w in done.during(moment) if w.purpose == "act"], (moment, done.timeline)


async def test_a_resume_that_nobody_vouches_for_changes_nothing_and_its_answer_is_on_the_page(lab: labs.Lab) -> None:
    """A raw signal, with a name that its sender claims himself: the Guard stays halted, and says why."""
    async with labs.running_worker(lab.parts()):
        await start_guard(lab)
        await guard(lab).signal("halt", {"who": "ana", "reason": "look"})
        order = (b"json/plain", b'{"reason": "it is fine"}')
        await raw_signal(lab, guard(lab), "resume", order, identity="ana")

        async def answered() -> bool:
            return "resume not counted" in await shown(guard(lab))

        await labs.until(answered, "the answer is on the page")
        assert "HALTED" in await shown(guard(lab))
        assert (await view(lab))["halted"]
        await lab.forget()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lever", LEVERS, scope="module")
def test_after_a_resume_this_lever_is_planned_and_approved_anew(done: Played) -> None:
    """One new plan and one new question per halt, and the approval of before counts for nothing."""
    for moment in MOMENTS:
        plans, asked = done.plans[moment]
        assert plans >= 1, moment
        assert asked >= 1, moment


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lever", LEVERS, scope="module")
def test_under_a_halt_what_this_lever_did_is_undone_or_restored_all_the_same(done: Played, lever: str) -> None:
    """Undo, restore and uncordon go on."""
    back = {"rebalance_nodes", "increase_capacity", "freeze_changes", *TRAFFIC}
    assert done.outcome == ("restored" if lever in back else "fixed"), done.timeline
    if lever in back:
        assert [w for w in done.during("verify") if w.purpose == "restore"], done.timeline
    if lever in UNDOES:
        assert [w for w in done.during("undo") if w.purpose == "undo"], done.timeline
