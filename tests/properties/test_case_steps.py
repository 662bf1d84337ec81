"""Real Remediations and Guards over a small world under random sequences; afterwards the audit of every write."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from runbooks.detection import guard_id
from tests.properties.cases import Site, rules
from tests.properties.stage import Stage, play, steps_wanted

ENDPOINTS = ("a0:80", "a1:80", "b0:80", "c0:80", "d0:80")
POOLS = ("a", "c", "d")
endpoint = st.sampled_from(ENDPOINTS)
target = st.sampled_from([*ENDPOINTS, *POOLS])
domain = st.sampled_from([0, 1])


class CaseSteps(RuleBasedStateMachine):
    """One fleet of two domains."""

    stage: ClassVar[Stage]

    @initialize(
        mode=st.sampled_from(["auto", "auto", "ask", "two", "breaker"]), correlate=st.sampled_from([3, 100, 100])
    )
    def begin(self, mode: str, correlate: int) -> None:
        """A worker over a new world."""
        self.site = Site(self.stage, self.stage.folder, rules(mode, correlate))
        self.stage.employ(self.site.worker)
        self.stage.do(self.site.begin())

    def _step(self, work: Any, pause_s: float = 0.15) -> None:
        self.stage.steps += 1
        self.stage.do(work)
        self.stage.do(asyncio.sleep(pause_s))

    async def _nothing(self) -> None:
        return None

    @rule(what=endpoint, skew_s=st.sampled_from([0.0, 0.0, 0.0, -30.0, 30.0]))
    def engine_hangs(self, what: str, skew_s: float) -> None:
        """And its detector says so."""
        self.site.world.fault(what, True)
        self._step(self.site.detect(what, "hang", skew_s=skew_s))

    @rule(what=endpoint, told=st.booleans())
    def engine_goes_on(self, what: str, told: bool) -> None:
        """And its detector may say so."""
        self.site.world.fault(what, False)
        known = any(a.detection.target.endpoint == what for a in self.site.accepted)
        self._step(self.site.detect(what, "hang", "resolved") if told and known else self._nothing())

    @rule(pool=st.sampled_from(POOLS))
    def pool_loses_engines(self, pool: str) -> None:
        """Two at once: traffic should move."""
        for n in (1, 2):
            self.site.world.fault(f"{pool}{n}:80", True)
        self._step(self.site.detect(pool, "lost"))

    @rule(pool=st.sampled_from(POOLS))
    def pool_is_whole(self, pool: str) -> None:
        """Again."""
        for n in (1, 2):
            self.site.world.fault(f"{pool}{n}:80", False)
        self._step(self.site.detect(pool, "lost", "resolved"))

    @rule(demand=st.sampled_from([60.0, 120.0, 900.0]))
    def demand_changes(self, demand: float) -> None:
        """Perhaps more than the fleet can serve."""
        self.site.world.demand["one"] = demand
        self._step(self.site.detect("a", "full") if demand > 500 else self._nothing())

    @rule(what=endpoint)
    def false_alarm(self, what: str) -> None:
        """Nothing is wrong with it."""
        self._step(self.site.detect(what, "hang"))

    @rule(
        what=target,
        who=st.sampled_from(["ana", "ana", "bo", "eve"]),
        how=st.sampled_from(["approve"] * 5 + ["reject", "withdraw", "digest", "forged", "again", "unverified"]),
    )
    def somebody_decides(self, what: str, who: str, how: str) -> None:
        """Rightly or not."""
        self._step(self.site.decide(what, who, how))

    @rule(who=st.sampled_from(["ana", "bo"]))
    def all_is_approved(self, who: str) -> None:
        """Whatever waits."""
        for what in (*ENDPOINTS, *POOLS):
            self.stage.do(self.site.decide(what, who, "approve"))
        self._step(self._nothing())

    @rule(
        what=target,
        action=st.sampled_from(["takeover", "hand_back", "hand_back", "abort"]),
        who=st.sampled_from(["ana", "bo", "eve"]),
    )
    def somebody_speaks(self, what: str, action: str, who: str) -> None:
        """About a whole case."""
        self._step(self.site.say(what, action, who))

    @rule(which=domain)
    def halt(self, which: int) -> None:
        """One domain."""
        self._step(self.site.halt(self.site.domains[which]))

    @rule(which=domain, action=st.sampled_from(["resume", "resume", "reset_breaker"]))
    def order(self, which: int, action: str) -> None:
        """By a verified person."""
        self._step(self.site.order(self.site.domains[which], action))

    @rule(what=st.sampled_from(["away", "slow", "silent", "late"]))
    def proxy_has_trouble(self, what: str) -> None:
        """At its next write."""
        self.site.world.trouble.append(what)
        self._step(self._nothing(), 0.0)

    @rule()
    def worker_crashes(self) -> None:
        """And another one begins."""
        self.stage.crash()
        self._step(self._nothing())

    @rule(seconds=st.sampled_from([0.0, 0.0, -20.0, 20.0]))
    def clock_jumps(self, seconds: float) -> None:
        """The worker's."""
        self.site.offset_s = seconds
        self._step(self._nothing(), 0.0)

    @rule(what=target, back=st.integers(0, 6))
    def case_is_reset(self, what: str, back: int) -> None:
        """In the UI."""
        self._step(self.site.reset(self.site.case(what).id, back))

    @rule(what=target)
    def case_is_terminated(self, what: str) -> None:
        """In the UI."""
        self._step(self.site.terminate(what))

    @rule(what=target)
    def case_is_cancelled(self, what: str) -> None:
        """In the UI: nothing of it is lost."""
        self._step(self.site.cancel(what))

    @rule(which=domain)
    def guard_is_cancelled(self, which: int) -> None:
        """In the UI."""
        self._step(self.site.cancel_guard(self.site.domains[which]))

    @rule(which=domain, back=st.integers(0, 6))
    def guard_is_reset(self, which: int, back: int) -> None:
        """In the UI."""
        self._step(self.site.reset(guard_id(self.site.domains[which]), back))

    @rule(which=domain)
    def guard_is_terminated(self, which: int) -> None:
        """In the UI."""
        self._step(self.site.lose_guard(self.site.domains[which]))

    @rule(seconds=st.sampled_from([0.3, 0.6, 1.5]))
    def time_passes(self, seconds: float) -> None:
        """Cases go on."""
        self._step(self._nothing(), seconds)

    def teardown(self) -> None:
        """All faults end; every case must close; every write is looked at."""
        if not hasattr(self, "site"):
            return
        try:
            self.stage.do(self.site.over(), 200)
            self.stage.do(self.site.audit())
        finally:
            self.stage.do(self.site.end())


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A dev server."""
    running = Stage(tmp_path_factory.mktemp("cases"))
    try:
        yield running
    finally:
        running.close()


@pytest.mark.timeout(7200)
def test_invariants_one_to_six_hold_whatever_comes(stage: Stage) -> None:
    """Hundreds of steps with real cases: none lost, none acts without leave, none acts twice, nothing stands unowned."""
    machine = type("CasesOnServer", (CaseSteps,), {"stage": stage})
    play("cases on a server", stage, machine, max(20, int(steps_wanted() * 0.15)), 18)
