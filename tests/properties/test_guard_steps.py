"""The real Guard under random sequences of questions, orders, deaths and restarts; the oracle judges each answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from temporalio.service import RPCError

from runbooks.change import Blast
from runbooks.policy import DomainPolicy
from tests.properties.guarded import KNOWN, Domain, Shop
from tests.properties.stage import play, steps_wanted
from tests.unbounded import UNBOUNDED

NAMES = ("e0", "e1", "pool", "node", "gpu", "all")
who = st.sampled_from(NAMES)
purposes = st.sampled_from(["act", "act", "act", "undo", "restore"])
LIMITS = {
    "none": UNBOUNDED,
    "budget": UNBOUNDED.model_copy(update={"endpoints_per_hour": 4}),
    "breaker": UNBOUNDED.model_copy(update={"breaker_acts": 6, "breaker_bad": 2}),
    "correlation": UNBOUNDED.model_copy(
        update={"correlate_targets": 3, "correlate_within_s": 3600.0, "correlate_quiet_s": 3600.0}
    ),
}


def begun(work: Any) -> str:
    """A step with its arguments, to be told when it fails: what cannot be repeated Hypothesis does not print."""
    given = {k: getattr(v, "name", v) for k, v in work.cr_frame.f_locals.items() if k != "self"}
    return f"{datetime.now(UTC):%H:%M:%S.%f} {work.__name__} {given}"[:400]


class GuardSteps(RuleBasedStateMachine):
    """One domain. Every rule ends with: the Guard says what the oracle says."""

    shop: ClassVar[Shop]
    look_every_s: ClassVar[float] = 0.4

    @initialize(limits=st.sampled_from(sorted(LIMITS)))
    def begin(self, limits: str) -> None:
        """A new domain with its Guard."""
        self.domain = Domain(self.shop, self._limits(LIMITS[limits]), self.look_every_s)
        self.stage = self.shop.stage
        self.stage.do(self.domain.begin())

    def _limits(self, limits: DomainPolicy) -> DomainPolicy:
        return limits

    def _step(self, work: Any) -> None:
        self.stage.steps += 1
        self.domain.trace.append(begun(work))
        try:
            self.stage.do(work)
            self.stage.do(self.domain.agree())
        except (AssertionError, RPCError) as error:
            error.add_note("\n".join(["So far:", *self.domain.trace]))
            raise

    def _case(self, name: str) -> Any:
        return self.domain.cases[name]

    @rule(
        name=who,
        purpose=purposes,
        priority=st.integers(0, 5),
        age_s=st.sampled_from([0.0, 0.0, 0.5, 3.0]),
        units=st.integers(0, 2),
        increment=st.integers(0, 1),
        shadow=st.sampled_from([False, False, False, True]),
        attempts=st.sampled_from([1000, 1000, 2]),
    )
    def asks(self, name: str, age_s: float, units: int, shadow: bool, purpose: str, **more: Any) -> None:
        """A new question."""
        if self._case(name).alive:
            blast = Blast(endpoints_down={"a": units} if units else {})
            more = {**more, "purpose": purpose, "shadow": shadow and purpose == "act", "blast": blast}
            self._step(self.domain.ask(self._case(name), age_s, **more))

    @rule(name=who)
    def asks_again(self, name: str) -> None:
        """A retried activity."""
        self._step(self.domain.ask_again(self._case(name)))

    @rule(names=st.lists(who, min_size=2, max_size=4, unique=True), purpose=purposes, frees=st.booleans())
    def asks_at_once(self, names: list[str], purpose: str, frees: bool) -> None:
        """Several in one moment, perhaps in the very moment in which the holder gives back."""
        holder = next(
            (c for c in self.domain.cases.values() if (c.workflow, c.life) == self.domain.oracle.holder), None
        )
        if holder is not None and (holder.wrote or not holder.alive):
            holder = None
        asking = [(self._case(n), {"purpose": purpose}) for n in names if self._case(n).alive]
        if frees and holder is not None:
            asking = [(c, m) for c, m in asking if c is not holder]
        self._step(self.domain.at_once(asking, holder if frees else None))

    @rule(name=who)
    def announces(self, name: str) -> None:
        """It may not act yet."""
        if self._case(name).alive:
            self._step(self.domain.announce(self._case(name)))

    @rule(name=who)
    def writes(self, name: str) -> None:
        """Under its permit, once."""
        case = self._case(name)
        if case.permit is not None and not case.wrote:
            self._step(self.domain.write(case))

    @rule(
        name=who,
        keep=st.booleans(),
        ineffective=st.sampled_from([False] * 5 + [True]),
        bad=st.sampled_from([False] * 5 + [True]),
    )
    def gives_back(self, name: str, keep: bool, ineffective: bool, bad: bool) -> None:
        """Holder or not."""
        if self._case(name).alive:
            self._step(self.domain.give_back(self._case(name), keep, ineffective, bad))

    @rule(how=st.sampled_from(["good", "text", "broken", "bytes", "nothing"]))
    def halts(self, how: str) -> None:
        """Whatever it looks like."""
        self._step(self.domain.halt(how))

    @rule(
        action=st.sampled_from(["resume", "reset_breaker"]),
        flaw=st.sampled_from(["none"] * 4 + ["group", "late", "other", "forged", "used"]),
    )
    def orders(self, action: str, flaw: str) -> None:
        """By a claim."""
        self._step(self.domain.order(action, flaw))

    @rule(action=st.sampled_from(["resume", "reset_breaker"]), identity=st.sampled_from(["", "ana", "eve"]))
    def rings(self, action: str, identity: str) -> None:
        """By a signal of nobody who is known."""
        self._step(self.domain.doorbell(action, identity))

    @rule(nth=st.integers(0, 5))
    def settles(self, nth: int) -> None:
        """From outside of a case; known or not."""
        known = ["nothing", *sorted(self.domain.oracle.standing)]
        self._step(self.domain.settled(known[nth % len(known)]))

    @rule(name=who)
    def dies(self, name: str) -> None:
        """Terminated in the UI."""
        if self._case(name).alive:
            self._step(self.domain.dies(self._case(name)))

    @rule(name=who)
    def comes_back(self, name: str) -> None:
        """As a new case of the same id."""
        if not self._case(name).alive:
            self._step(self.domain.comes_back(self._case(name)))

    @rule(often=st.integers(0, 3))
    def worker_crashes(self, often: int) -> None:
        """And another one replays all of it."""
        if often == 0:
            self.stage.crash()
            self._step(self.domain.agree())

    @rule(often=st.integers(0, 5))
    def continues_as_new(self, often: int) -> None:
        """In the middle of anything."""
        if often == 0:
            self._step(self.domain.noise(510))

    @rule(often=st.integers(0, 3))
    def guard_is_terminated(self, often: int) -> None:
        """And the next one starts from the journal."""
        if often == 0:
            self._step(self.domain.lose_guard())

    @rule(often=st.integers(0, 3))
    def guard_is_cancelled(self, often: int) -> None:
        """In the UI: it does not mind."""
        if often == 0:
            self._step(self.domain.cancel_guard())

    @precondition(lambda self: not self.stage.skipping)
    @rule(back=st.integers(0, 8), often=st.integers(0, 2))
    def guard_is_reset(self, back: int, often: int) -> None:
        """In the UI."""
        oracle = self.domain.oracle
        stopped = oracle.halted or oracle.breaker or oracle.resumed is not None
        if often == 0 and not ("A5" in KNOWN and stopped):
            self._step(self.domain.reset_guard(back))

    def teardown(self) -> None:
        """Nothing runs on."""
        if hasattr(self, "domain"):
            self.stage.do(self.domain.end())


@pytest.mark.timeout(3600)
def test_the_guard_keeps_its_word_whatever_comes(shop: Shop) -> None:
    """Thousands of steps on a real server: one holder, rising epochs, the same answers, a fair queue, nothing lost."""
    machine = type("GuardOnServer", (GuardSteps,), {"shop": shop})
    play("the Guard on a server", shop.stage, machine, int(steps_wanted() * 0.6), 40)
