"""The Guard's rules, alone: one holder, rising epochs, the same answer to the same question, a fair queue."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from runbooks.detection import Target
from runbooks.guard import AcquireRequest, Answer, GuardState
from tests.runbooks.guard_lab import NOW, ask, back, stands

CASES = ("w1", "w2", "w3", "w4")


def test_the_first_gets_a_permit_the_second_a_ticket_and_its_turn_when_the_first_gives_back() -> None:
    """The turn is no permit: the case must check again."""
    guard = GuardState(domain="lab")
    assert guard.acquire(ask("w1"), NOW).kind == "permit"
    assert guard.acquire(ask("w2"), NOW).kind == "queued"
    guard.release(back("w1"))
    turn = guard.next_ticket(NOW)
    assert turn is not None
    assert turn.workflow_id == "w2"
    assert guard.acquire(ask("w3"), NOW).kind == "queued"
    assert guard.acquire(ask("w2", attempt=2), NOW).kind == "permit"


def test_the_same_question_gets_the_same_answer_even_after_the_world_has_changed() -> None:
    """A retried activity must not be granted twice, and one that was refused must not slip in."""
    guard = GuardState(domain="lab")
    first = guard.acquire(ask("w1"), NOW)
    guard.halted = "halted by ana"
    assert guard.acquire(ask("w1"), NOW + timedelta(hours=1)) == first
    guard.release(back("w1", applied=True))
    refused = guard.acquire(ask("w1", attempt=2), NOW)
    guard.halted = None
    assert guard.acquire(ask("w1", attempt=2), NOW) == refused


def test_a_permit_that_was_given_back_is_no_leave_to_act_beside_the_next_holder() -> None:
    """A Reset asks its old questions again: the lock has gone on since, and nobody may be granted it in silence."""
    guard = GuardState(domain="lab")
    assert guard.acquire(ask("w1"), NOW).permit
    guard.release(back("w1"))
    assert guard.acquire(ask("w2"), NOW).permit
    again = guard.acquire(ask("w1"), NOW)
    assert (again.kind, again.permit) == ("refused", None)
    assert again.retry_after_s > 0
    assert guard.lock is not None
    assert guard.lock.workflow_id == "w2"
    assert not guard.queue


def test_a_new_run_of_a_terminated_case_neither_takes_nor_frees_the_lock_that_the_old_one_left() -> None:
    """Else what the old run applied and never proved would stand with nobody told: the reaper looks at the lock alone."""
    guard = GuardState(domain="lab")
    assert guard.acquire(ask("w1", case="w1#aaaa.1", run_id="r1"), NOW).permit
    assert guard.acquire(ask("w1", case="w1#bbbb.1", run_id="r2"), NOW).kind == "queued"
    guard.release(back("w1").model_copy(update={"case": "w1#bbbb.1"}))
    assert guard.lock is not None
    assert guard.lock.run_id == "r1"
    # The next round of one run, and a Reset of it, are the same case.
    assert guard.acquire(ask("w1", case="w1#aaaa.2", run_id="r9"), NOW).permit
    guard.release(back("w1").model_copy(update={"case": "w1#aaaa.2"}))
    assert guard.lock is None


def test_a_guard_that_lost_its_state_goes_on_above_what_the_actuator_has_seen() -> None:
    """Else an old permit would outrank a new one."""
    permit = GuardState(domain="lab").acquire(ask("w1", seen_epoch=41), NOW).permit
    assert permit is not None
    assert permit.epoch == 42


def test_facts_older_than_the_last_change_and_its_settling_are_refused() -> None:
    """No verdict rests on a world that has since been changed."""
    guard = GuardState(domain="lab")
    guard.acquire(ask("w1"), NOW)
    guard.release(back("w1", applied=True, at=NOW))
    assert guard.acquire(ask("w2", facts_oldest_at=NOW + timedelta(seconds=0.9)), NOW).kind == "refused"
    assert guard.acquire(ask("w2", attempt=2, facts_oldest_at=NOW + timedelta(seconds=1)), NOW).kind == "permit"


def test_a_halt_refuses_acts_and_lets_undo_and_restore_through() -> None:
    """What returns to normal is never stopped by a halt."""
    guard = GuardState(domain="lab", halted="halted by ana")
    assert guard.acquire(ask("w1"), NOW).kind == "halted"
    assert guard.acquire(ask("w1", attempt=2, purpose="undo"), NOW).kind == "permit"
    assert guard.acquire(ask("w1", attempt=3, purpose="restore"), NOW).kind == "permit"


def test_a_target_related_to_a_standing_receipt_of_another_case_is_refused() -> None:
    """The pool of an isolated endpoint is not free for a second case; the first case itself may go on."""
    guard = GuardState(domain="lab")
    guard.acquire(ask("w1"), NOW)
    guard.release(back("w1", stands=stands("w1")))
    pool = Target(cluster="lab", service="chat")
    assert "stands on the related target" in guard.acquire(ask("w2", target=pool), NOW).why
    assert guard.acquire(ask("w2", attempt=2), NOW).kind == "permit"  # a sibling endpoint is not related
    guard.release(back("w2"))
    assert guard.acquire(ask("w1", attempt=2), NOW).kind == "permit"


def test_attempts_acts_per_hour_and_what_did_not_help_are_refused_but_never_an_undo() -> None:
    """G2 and G10, kept across cases."""
    guard = GuardState(domain="lab")
    guard.acquire(ask("w1"), NOW)
    guard.release(back("w1", applied=True, at=NOW - timedelta(minutes=1)))
    assert "was tried 1 times" in guard.acquire(ask("w1", attempt=2, attempts=1), NOW).why
    assert "(G2)" in guard.acquire(ask("w2", max_acts_per_hour=1), NOW).why
    guard.release(back("w1", ineffective=ask("w1").remedy))
    assert "did not help" in guard.acquire(ask("w1", attempt=3), NOW).why
    assert guard.acquire(ask("w1", attempt=4, max_acts_per_hour=0, attempts=1, purpose="undo"), NOW).kind == "permit"


def test_a_permit_that_was_given_back_unused_is_no_act_and_no_attempt() -> None:
    """Else a domain that is merely busy, or a second domain that is held, would use up a remedy that nobody tried."""
    guard = GuardState(domain="lab")
    for attempt in (1, 2, 3):
        assert guard.acquire(ask("w1", attempt=attempt, attempts=1), NOW).permit
        guard.release(back("w1"))
    assert guard.view(NOW).acts_last_hour == 0
    assert guard.acquire(ask("w1", attempt=4, attempts=1), NOW).permit
    guard.release(back("w1", applied=True, at=NOW - timedelta(minutes=1)))
    assert guard.view(NOW).acts_last_hour == 1
    assert "was tried 1 times" in guard.acquire(ask("w1", attempt=5, attempts=1), NOW).why


def test_a_dirty_domain_grants_nothing_not_even_a_turn() -> None:
    """Until people were told what a dead case left."""
    guard = GuardState(domain="lab")
    guard.acquire(ask("w1"), NOW)
    guard.acquire(ask("w2"), NOW)
    guard.lock, guard.dirty = None, "w1 closed without releasing the domain"
    assert guard.next_ticket(NOW) is None
    assert guard.acquire(ask("w3", purpose="undo"), NOW).kind == "refused"


def test_a_release_of_somebody_who_does_not_hold_frees_nothing_and_twice_is_no_different() -> None:
    """Late and repeated signals."""
    guard = GuardState(domain="lab")
    guard.acquire(ask("w1"), NOW)
    guard.release(back("w2"))
    assert guard.lock is not None
    guard.release(back("w1", stands=stands()))
    once = guard.model_copy(deep=True)
    guard.release(back("w1", stands=stands()))
    assert guard == once


class Domain(RuleBasedStateMachine):
    """Cases that ask, act, give back, die and come back, in any order."""

    @initialize()
    def start(self) -> None:
        """A Guard without memory."""
        self.guard = GuardState(domain="lab")
        self.now = NOW
        self.answers: dict[str, Answer] = {}
        self.attempts = dict.fromkeys(CASES, 0)
        self.epochs: list[int] = []
        self.queued: list[tuple[int, int, str]] = []
        self.arrival = 0
        self.last: dict[str, AcquireRequest] = {}

    def _answered(self, req: AcquireRequest, answer: Answer, holder: str | None, halted: bool, dirty: bool) -> None:
        if answer.permit is not None:
            assert holder in (None, req.workflow_id), "a permit while another workflow holds"
            assert not (halted and req.purpose == "act"), "an act was granted while halted"
            assert not dirty
            assert not self.epochs or answer.permit.epoch > self.epochs[-1], "epochs rise strictly"
            self.epochs.append(answer.permit.epoch)
            assert self.guard.lock is not None
            assert self.guard.lock.workflow_id == req.workflow_id
            self.queued = [q for q in self.queued if q[2] != req.workflow_id]
        if answer.kind == "queued" and all(q[2] != req.workflow_id for q in self.queued):
            self.arrival += 1
            self.queued.append((req.priority, self.arrival, req.workflow_id))

    @rule(
        who=st.sampled_from(CASES),
        purpose=st.sampled_from(["act", "undo", "restore"]),
        priority=st.integers(0, 5),
        seen=st.integers(0, 50),
        age=st.floats(0, 3),
    )
    def asks(self, who: str, purpose: str, priority: int, seen: int, age: float) -> None:
        """A new question."""
        self.now += timedelta(seconds=0.5)
        self.attempts[who] += 1
        held = self.guard.lock.workflow_id if self.guard.lock else None
        halted, dirty = self.guard.halted is not None, self.guard.dirty is not None
        req = ask(
            who, self.attempts[who], purpose=purpose, priority=priority, seen_epoch=seen,
            facts_oldest_at=self.now - timedelta(seconds=age),
        )  # fmt: skip
        answer = self.guard.acquire(req, self.now)
        self.answers[req.key], self.last[who] = answer, req
        self._answered(req, answer, held, halted, dirty)

    @rule(who=st.sampled_from(CASES))
    def asks_again(self, who: str) -> None:
        """The same question: a retry. A permit that was given back, or overtaken, is no permit any more."""
        if who in self.last:
            req, lock = self.last[who], self.guard.lock
            first, again = self.answers[req.key], self.guard.acquire(req, self.now)
            mine = lock is not None and lock.workflow_id == who
            if first.permit is None or (mine and first.permit.epoch == self.guard.epoch):
                assert again == first
            else:
                assert (again.kind, again.permit) == ("refused", None)
            assert self.guard.lock == lock, "a retry moved the lock"

    @rule(who=st.sampled_from(CASES), applied=st.booleans(), left=st.booleans())
    def gives_back(self, who: str, applied: bool, left: bool) -> None:
        """Holder or not."""
        held = self.guard.lock.workflow_id if self.guard.lock else None
        self.guard.release(back(who, applied, self.now, stands=stands(who) if left else None))
        self.queued = [q for q in self.queued if q[2] != who]
        if held not in (None, who):
            assert self.guard.lock is not None, "somebody else's release freed the domain"

    @rule()
    def next_turn(self) -> None:
        """The free lock is kept for the first of the queue."""
        free = self.guard.lock is None and self.guard.dirty is None
        turn = self.guard.next_ticket(self.now)
        if not free or not self.queued:
            assert turn is None
            return
        assert turn is not None
        first = min(self.queued)
        assert turn.workflow_id == first[2], "first by priority, then by arrival"
        self.queued.remove(first)

    @rule(halted=st.booleans())
    def halt(self, halted: bool) -> None:
        """And resume."""
        self.guard.halted = "halted by ana" if halted else None

    @rule()
    def carried(self) -> None:
        """Continue-as-new carries all of it."""
        self.guard = GuardState.model_validate_json(self.guard.model_dump_json())

    @invariant()
    def a_holder_is_not_in_the_queue(self) -> None:
        """Never two holders, and nobody waits for himself."""
        if self.guard.lock is not None:
            assert all(t.workflow_id != self.guard.lock.workflow_id for t in self.guard.queue)


Domain.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestDomain = Domain.TestCase
