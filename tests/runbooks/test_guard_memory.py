"""What the next Guard knows when somebody terminated the one before it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from runbooks.detection import Target
from runbooks.guard import KEEP_ALL, Announce, GuardState, Recovered
from runbooks.guard_memory import Memory, latest
from runbooks.guard_words import Lock, reading, reads
from tests.runbooks.guard_lab import NOW, ask, back, later, limits, stands


def after(guard: GuardState, fresh: GuardState | None = None) -> GuardState:
    """The next Guard of the domain, by way of the journal's text."""
    kept = Memory.model_validate_json(guard.memory().model_dump_json())
    found = fresh or GuardState(domain="lab")
    found.recover(Recovered(standing=(), owners={}, targets={}, memory=kept))
    return found


def full() -> GuardState:
    """One that knows something of everything."""
    guard = GuardState(domain="lab", epoch=3)
    guard.acquire(ask("w0"), NOW)
    guard.release(back("w0", applied=True, at=later(1), ineffective=ask("w0").remedy, bad="it got worse"))
    guard.acquire(ask("w1", attempt=2, facts_oldest_at=later(5), ineffective_s=60.0), later(5))
    guard.acquire(ask("w2"), later(6))
    guard.nonces = ["n1"]
    guard.dirty = "w9 closed"
    guard.halt("by ana", later(7))
    guard.resume(later(8))
    guard.halt("by ben", later(9))
    return guard


def test_everything_but_the_queue_and_the_answers_comes_back() -> None:
    """Field by field: a new field of the Guard must be kept, or said here to be one that cases bring again."""
    guard = full()
    found = after(guard)
    brought_again = {"queue", "answers", "stopped", "news"}
    by_receipts = {"standing", "owners", "targets"}
    assert set(GuardState.model_fields) - set(Memory.model_fields) == brought_again | by_receipts
    assert guard.lock is not None
    assert found.lock == guard.lock.model_copy(update={"recalled": True})
    for name in set(Memory.model_fields) - {"lock"}:
        assert getattr(found, name) == getattr(guard, name), name
    assert found.queue == []
    assert found.answers == {}
    again = found.model_copy(update={"lock": guard.lock})
    assert again.memory().mark == guard.memory().mark


def test_cases_that_have_waited_for_hours_each_for_itself_are_not_one_fault_for_the_next_guard() -> None:
    """It knows when each of them asked first."""
    bounds = limits(correlate_targets=3, correlate_within_s=120.0, correlate_quiet_s=900.0)

    def says(guard: GuardState, n: int, at: float) -> str:
        node = Target(cluster="lab", node=f"n{n}")
        what = Announce(
            domain="lab", workflow_id=f"w{n}", case=f"w{n}#1", target=node, failure_class="x", limits=bounds
        )
        return guard.announce(what, later(at)).kind

    guard = GuardState(domain="lab")
    for minute in range(180):
        for n in range(3):
            if minute >= n * 60:
                assert says(guard, n, minute * 60 + n) != "correlated"
    found = after(guard)
    assert [says(found, n, 10800 + n) for n in range(3)] == ["refused"] * 3


def test_a_lock_from_the_journal_is_marked_until_its_case_asks_again() -> None:
    """The case may have given it back while nobody was there to hear it."""
    guard = GuardState(domain="lab")
    assert guard.acquire(ask("w1"), NOW).permit is not None
    found = after(guard)
    assert found.lock is not None
    assert found.lock.recalled
    assert found.acquire(ask("w1", attempt=2), NOW).permit is not None
    assert found.lock is not None
    assert not found.lock.recalled
    assert after(GuardState(domain="lab")).lock is None
    assert after(GuardState(domain="lab", dirty="w9 closed")).dirty is None, "nobody would ever end it"


def test_of_what_a_gone_case_left_nothing_follows() -> None:
    """Its receipts are people's, and nobody is held for its next increment."""
    guard = GuardState(domain="lab")
    guard.acquire(ask("w1"), NOW)
    begun = stands("w1").model_copy(update={"under_way": True})
    guard.release(back("w1", applied=True, at=later(1), stands=begun))
    other = stands("w2").model_copy(update={"under_way": True})
    guard.release(back("w2", applied=True, at=later(2), stands=other))
    guard.left_to_people("w1")
    assert guard.owners == {"w1#1/1": "people:w1", "w2#1/1": "w2"}
    assert [s.under_way for s in guard.standing.values()] == [False, True]


def test_what_a_gone_case_had_put_back_is_not_left_to_people() -> None:
    """As people's it would bar its target for ever. What else it left is theirs."""
    guard = GuardState(domain="lab")
    guard.acquire(ask("w1"), NOW)
    for number in (1, 2, 3):
        left = stands("w1").model_copy(update={"receipt_id": f"w1#1/{number}", "under_way": True})
        guard.release(back("w1", applied=True, at=later(number), stands=left))
    guard.left_to_people("w1", ended=["w1#1/2"])
    assert guard.owners == {"w1#1/1": "people:w1", "w1#1/3": "people:w1"}
    assert set(guard.standing) == set(guard.owners)
    assert not any(s.under_way for s in guard.standing.values())


def test_a_halted_domain_stays_halted_and_the_breaker_stays_open() -> None:
    """No permit for an act; undo still goes."""
    guard = full()
    guard.book.breaker, guard.book.breaker_since = "tripped", later(9)
    found = after(guard)
    assert found.halted == "by ben"
    assert found.halted_since == later(9)
    assert found.acquire(ask("w5"), later(10)).kind == "halted"
    found.resume(later(11))
    assert found.acquire(ask("w5", attempt=2), later(12)).why == "tripped"


def test_a_halt_that_came_before_the_journal_was_read_stands_beside_the_old_one() -> None:
    """A signal is heard at once, whatever the Guard still has to read."""
    young = GuardState(domain="lab")
    young.halt("by eva", later(20))
    found = after(full(), young)
    assert found.halted == "by ben; by eva"
    assert found.halted_since == later(9)
    assert found.stopped_at == later(20)
    assert found.halts == 3
    one = GuardState(domain="lab")
    one.halt("by eva", later(20))
    kept = after(GuardState(domain="lab", halts=4, stopped_at=later(30)), one)
    assert (kept.halted, kept.halted_since, kept.stopped_at, kept.halts) == ("by eva", later(20), later(30), 5)


def test_a_long_reason_keeps_its_end() -> None:
    """Two old halts of three hundred letters, and a new one: the newest is what a person must read."""
    old = GuardState(domain="lab", halted="a" * 600, halted_since=NOW)
    young = GuardState(domain="lab")
    young.halt("by eva", later(1))
    found = after(old, young)
    assert found.halted is not None
    assert found.halted.endswith("a; by eva")
    assert len(found.halted) == 600


def test_whoever_verifies_keeps_the_domain_and_attempts_and_budgets_count_on() -> None:
    """The lock goes on to be looked after; a remedy that did not help is not free again."""
    guard = GuardState(domain="lab")
    assert guard.acquire(ask("w1"), NOW).kind == "permit"
    found = after(guard)
    assert found.acquire(ask("w2"), later(1)).why == "the domain is held by w1"
    again = found.acquire(ask("w1", facts_oldest_at=later(2)), later(2))
    assert again.permit is not None
    assert again.permit.epoch == 1
    found.release(back("w1", applied=True, at=later(3), ineffective=ask("w1").remedy))
    third = after(found)
    refused = third.acquire(ask("w4", target=ask("w1").target, facts_oldest_at=later(60)), later(60))
    assert refused.kind == "refused"
    assert "did not help" in refused.why
    assert third.view(later(60)).acts_last_hour == 1, "the same question is one act, before and after"


def test_no_verdict_rests_on_facts_from_before_the_change_that_the_old_guard_knew() -> None:
    """Nor on those from before levers were free again."""
    found = after(GuardState(domain="lab", last_change_at=later(5), resumed_at=later(9)))
    assert "before levers were free" in found.acquire(ask("w1", facts_oldest_at=later(9)), later(10)).why
    known = GuardState(domain="lab", last_change_at=later(30), resumed_at=later(40), stopped_at=later(50))
    kept = after(GuardState(domain="lab", last_change_at=later(5)), known)
    assert (kept.last_change_at, kept.resumed_at, kept.stopped_at) == (later(30), later(40), later(50))


def test_the_same_memory_has_the_same_mark_and_every_change_of_it_another() -> None:
    """What is written is not written again, and what changed is."""
    guard = full()
    assert guard.memory().mark == full().memory().mark
    changed: dict[str, Any] = {
        "epoch": 9, "lock": None, "current": None, "last_change_at": later(99), "halted": None, "halts": 9,
        "halted_since": None, "stopped_at": None, "resumed_at": None, "dirty": None, "nonces": [], "ineffective_s": {},
    }  # fmt: skip
    for name, value in changed.items():
        other = full()
        setattr(other, name, value)
        assert other.memory().mark != guard.memory().mark, name


def test_the_latest_of_nothing_is_nothing() -> None:
    """And of one is that one."""
    assert latest(None, None) is None
    assert latest(None, NOW) == NOW
    assert latest(later(1), NOW) == later(1)


def test_the_next_guard_answers_the_same_question_with_the_same_permit() -> None:
    """Its case may be acting under the first one: a second would be leave to act twice."""
    guard = GuardState(domain="lab", epoch=3)
    first = guard.acquire(ask("w1", run_id="r1"), NOW)
    found = after(guard)
    again = found.acquire(ask("w1", run_id="r2"), later(30))

    assert first.permit is not None
    assert again == first
    assert found.epoch == first.permit.epoch
    # Whoever was about to find that the case has nothing under way must find another lock than it saw.
    assert found.lock is not None
    assert (found.lock.recalled, found.lock.run_id, found.lock.since) == (False, "r2", later(30))
    assert found.acquire(ask("w1", run_id="r2"), later(31)) == first
    assert len(found.book.acts) == 1
    found.release(back("w1", applied=False))
    assert found.lock is None
    assert found.book.acts == []
    assert found.acquire(ask("w1", run_id="r2"), later(32)).kind == "refused", "it was given back"


def test_a_question_whose_answer_is_forgotten_has_the_same_permit_while_the_lock_is_held() -> None:
    """Hundreds of others asked meanwhile. The same words of another workflow are no leave for it."""
    guard = GuardState(domain="lab")
    first = guard.acquire(ask("w1"), NOW)
    for n in range(KEEP_ALL):
        guard.acquire(ask(f"x{n}"), later(1))
    assert ask("w1").key not in guard.answers
    assert guard.acquire(ask("w2", case="w1#1"), later(2)).kind == "queued"
    del guard.answers[ask("w1").key]
    assert guard.acquire(ask("w1"), later(2)) == first
    assert guard.epoch == 1


def test_a_domain_that_nobody_holds_any_more_is_clean() -> None:
    """A holder that was found closed went on after a Reset and gives it back. While somebody holds it, it stays dirty."""
    guard = GuardState(domain="lab", dirty="w1 closed")
    for who, cleans, dirty in (("w2", True, "w1 closed"), ("w1", False, "w1 closed"), ("w1", True, None)):
        guard.lock = Lock(case="w1#1", workflow_id="w1", run_id="r", since=NOW)
        guard.release(back(who), cleans=cleans)
        assert guard.dirty == dirty, (who, cleans)
    guard.dirty = "w1 closed"
    guard.lock = Lock(case="w1#1", workflow_id="w1", run_id="r", since=NOW)
    guard.release(back("w1"))
    assert guard.dirty is None, "a Guard cleans unless it began before it could"


def test_whoever_is_held_up_by_a_guard_that_still_reads_is_told_so() -> None:
    """The words stand on the case's page, and its client waits by them."""
    words = "its Guard has just begun and is still reading what stands here"
    view = GuardState(domain="lab").view(NOW)
    assert reading(view) == view.model_copy(update={"halted": words})
    assert reads(reading(view))
    assert not reads(view)
    halted = view.model_copy(update={"halted": "by ana"})
    assert reading(halted).halted == f"{words}; by ana"
    assert reads(reading(halted))
    assert not reads(halted)


def test_a_case_is_asked_about_a_lock_whose_permit_has_long_ended_or_that_came_from_the_journal() -> None:
    """An act may take a while after its permit's end; a turn has no permit and ends otherwise."""
    guard = GuardState(domain="lab")
    permit = guard.acquire(ask("w1"), NOW).permit
    assert permit is not None
    lock = guard.lock
    assert lock is not None
    end = permit.act_before + timedelta(seconds=15)
    assert (lock.asks(NOW), lock.asks(end), lock.asks(end + timedelta(seconds=1))) == (False, False, True)
    assert lock.model_copy(update={"recalled": True}).asks(NOW)
    assert not lock.model_copy(update={"permit": None}).asks(end + timedelta(days=1))


def test_the_next_guard_answers_another_question_by_its_own_lights() -> None:
    """Another increment has another permit, with a higher epoch; another case waits; a dirty domain is dirty."""
    guard = GuardState(domain="lab", epoch=3)
    first = guard.acquire(ask("w1"), NOW)
    assert first.permit is not None
    other = after(guard).acquire(ask("w1", increment=1), later(30))
    assert other.permit is not None
    assert other.permit.epoch == first.permit.epoch + 1
    assert after(guard).acquire(ask("w2"), later(30)).kind == "queued"
    assert after(guard).acquire(ask("w1", case="w1#another"), later(30)).kind == "queued"
    guard.dirty = "w1 closed"
    assert after(guard).acquire(ask("w1"), later(30)).kind == "refused"


def test_a_turn_that_was_kept_for_a_case_is_no_permit_for_it() -> None:
    """The next Guard knows whose turn it was; the case still has to check again."""
    guard = GuardState(domain="lab", epoch=3)
    guard.acquire(ask("w1"), NOW)
    guard.acquire(ask("w2"), later(1))
    guard.release(back("w1", applied=False))
    assert guard.next_ticket(later(2)) is not None
    answer = after(guard).acquire(ask("w2", facts_oldest_at=later(29)), later(30))

    assert answer.permit is not None
    assert answer.permit.epoch == guard.epoch + 1
