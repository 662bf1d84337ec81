"""Who holds a domain, in which order, under which epoch, and what is remembered of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runbooks.base import digest
from runbooks.change import Blast, Permit
from runbooks.detection import Target
from runbooks.facts import GuardView, Spent, StandingReceipt
from runbooks.guard import KEEP_ALL, KEEP_ANSWERS, Answer, GuardState, Recovered, Ticket
from tests.runbooks.guard_lab import NOW, ask, back, later, stands

POOL = Target(cluster="lab", service="chat")


def held_by(who: str = "w1", **more: Any) -> GuardState:
    """This case has a permit."""
    guard = GuardState(domain="lab")
    assert guard.acquire(ask(who, **more), NOW).kind == "permit"
    return guard


def test_a_permit_is_of_this_question_and_ends_with_its_facts() -> None:
    """Its id, its epoch, and the moment before which it may be used."""
    guard = GuardState(domain="lab", epoch=6)
    req = ask("w1", facts_oldest_at=later(-2))
    assert guard.acquire(req, NOW) == Answer(
        kind="permit",
        why="granted",
        permit=Permit(
            id=f"lab.7.{digest({'k': req.key, 'r': 'r'})[:8]}", domain="lab", case="w1#1", step_id="1-isolate_endpoint",
            change_digest="d", purpose="act", epoch=7, act_before=later(3),
        ),
    )  # fmt: skip
    assert req.key == "w1#1|1-isolate_endpoint|0|1|act"
    assert guard.lock is not None
    assert (guard.lock.case, guard.lock.workflow_id, guard.lock.run_id, guard.lock.since) == ("w1#1", "w1", "r", NOW)
    assert guard.current == req.target


def test_every_permit_has_a_higher_epoch_even_for_the_same_holder() -> None:
    """An apply that wakes after its own undo is fenced."""
    guard = held_by("w1")
    again = guard.acquire(ask("w1", attempt=2), NOW)
    assert again.permit is not None
    assert (again.permit.epoch, guard.epoch) == (2, 2)
    first = guard.acquire(ask("w1"), NOW)
    assert first == Answer(kind="refused", why="the permit of this question was given back", retry_after_s=0.2)
    assert guard.acquire(ask("w1", attempt=3, seen_epoch=2), NOW).permit is not None
    assert guard.epoch == 3


def test_the_queue_is_first_by_priority_then_by_arrival_and_nobody_stands_in_it_twice() -> None:
    """Isolate, shed, undo and restore go before long rollouts."""
    guard = held_by("w1")
    held = Answer(kind="queued", why="the domain is held by w1", retry_after_s=30)
    for who, priority, at in (("w2", 5, 1), ("w3", 5, 2), ("w4", 1, 3)):
        assert guard.acquire(ask(who, priority=priority), later(at)) == held
    assert guard.acquire(ask("w2", attempt=2, priority=0), later(9)) == held
    assert [(t.workflow_id, t.priority, t.at) for t in guard.queue] == [
        ("w4", 1, later(3)),
        ("w2", 5, later(1)),
        ("w3", 5, later(2)),
    ]
    assert guard.queue[0].case == "w4#1"
    assert guard.queue[0].run_id == "r"
    assert guard.next_ticket(later(9)) is None
    guard.release(back("w1"))
    assert guard.next_ticket(later(10)) == Ticket(case="w4#1", workflow_id="w4", run_id="r", priority=1, at=later(3))
    assert guard.lock is not None
    assert guard.lock.model_dump() == {
        "case": "w4#1",
        "workflow_id": "w4",
        "run_id": "r",
        "since": later(10),
        "act": None,
        "recalled": False,
        "key": "",
        "permit": None,
    }
    assert guard.view(NOW).queue == 2
    assert [t.workflow_id for t in guard.queue] == ["w2", "w3"]


def test_nobody_slips_into_a_freed_domain_before_who_has_waited() -> None:
    """Between the release and the turn there is a moment."""
    guard = held_by("w1")
    guard.acquire(ask("w2"), NOW)
    guard.release(back("w1"))
    assert guard.acquire(ask("w3"), NOW) == Answer(kind="queued", why="w2 waits for the domain", retry_after_s=30)
    assert [w.workflow_id for w in guard.queue] == ["w2", "w3"]
    assert guard.acquire(ask("w2", case="w2#other.1", attempt=2), NOW).kind == "queued"
    guard.queue = [t for t in guard.queue if t.workflow_id != "w2"]
    assert guard.acquire(ask("w3", attempt=2), NOW).kind == "permit"
    assert guard.queue == []


def test_who_has_waited_may_ask_before_its_turn_was_told() -> None:
    """It is the first, so it need not wait for the news."""
    guard = held_by("w1")
    guard.acquire(ask("w2"), NOW)
    guard.acquire(ask("w3"), later(1))
    guard.release(back("w1"))
    assert guard.acquire(ask("w2", attempt=2), NOW).kind == "permit"
    assert [t.workflow_id for t in guard.queue] == ["w3"]


def test_a_ticket_of_an_earlier_run_is_replaced_by_the_new_runs_own() -> None:
    """The old run has closed, and its place with it."""
    guard = held_by("w1")
    guard.acquire(ask("w2", case="w2#old.1"), later(1))
    guard.acquire(ask("w3"), later(2))
    guard.acquire(ask("w2", case="w2#new.1", run_id="r2"), later(3))
    assert [(t.case, t.run_id) for t in guard.queue] == [("w3#1", "r"), ("w2#new.1", "r2")]
    guard.acquire(ask("w2", case="w2#new.2", run_id="r3"), later(4))
    assert [t.case for t in guard.queue] == ["w3#1", "w2#new.1"]


def test_a_release_takes_the_own_place_in_the_queue_and_no_other_runs() -> None:
    """A case that ends while it waits leaves nothing behind."""
    guard = held_by("w1")
    guard.acquire(ask("w2", case="w2#a.1"), NOW)
    guard.acquire(ask("w3"), NOW)
    guard.release(back("w2").model_copy(update={"case": "w2#b.1"}))
    assert len(guard.queue) == 2
    guard.release(back("w2").model_copy(update={"case": "w2#a.2"}))
    assert [t.workflow_id for t in guard.queue] == ["w3"]
    assert guard.lock is not None


def test_the_same_case_goes_on_as_another_run_and_is_then_looked_after_as_that_run() -> None:
    """A Reset keeps the case; the liveness check must look at the run that lives."""
    guard = held_by("w1", run_id="r1")
    assert guard.acquire(ask("w1", run_id="r2"), NOW).kind == "permit"
    assert guard.lock is not None
    assert guard.lock.run_id == "r2"
    guard.acquire(ask("w2"), NOW)
    assert guard.acquire(ask("w2", run_id="r9"), NOW).kind == "queued"
    assert guard.lock.run_id == "r2"


def test_a_related_target_of_another_case_is_refused_with_its_reason_for_undo_as_well() -> None:
    """The pool of an isolated endpoint is not free; who owns it goes on."""
    guard = held_by("w1")
    guard.release(back("w1", applied=True, stands=stands("w1")))
    why = "isolate_endpoint of w1 stands on the related target lab/service/chat/endpoint/w1:1"
    for n, purpose in enumerate(("act", "undo", "restore")):
        answer = guard.acquire(ask("w2", target=POOL, attempt=n, purpose=purpose, facts_oldest_at=later(9)), later(9))
        assert answer == Answer(kind="refused", why=why, retry_after_s=15)
    assert guard.acquire(ask("w1", target=POOL, attempt=2, facts_oldest_at=later(9)), later(9)).kind == "permit"


def test_facts_must_be_newer_than_the_last_change_by_its_settling() -> None:
    """And the answer says when to look again."""
    guard = GuardState(domain="lab", last_change_at=NOW)

    def asked(age: float, attempt: int) -> Answer:
        return guard.acquire(ask("w1", attempt=attempt, settle_s=9.0, facts_oldest_at=later(age)), later(9))

    why = "the facts are from 12:00:0{}, before the domain's last change at 12:00:00: read again in a moment"
    assert asked(8.95, 1) == Answer(kind="refused", why=why.format(8), retry_after_s=0.1)
    assert asked(7, 2) == Answer(kind="refused", why=why.format(7), retry_after_s=2.0)
    assert asked(1, 3) == Answer(kind="refused", why=why.format(1), retry_after_s=5.0)
    assert asked(9, 4).kind == "permit"
    assert guard.acquire(ask("w1", attempt=5, purpose="undo", settle_s=9.0), NOW).kind == "refused"


def test_the_last_change_is_the_latest_of_what_was_applied() -> None:
    """A late release does not make the domain younger."""
    guard = GuardState(domain="lab")
    guard.release(back("w1"))
    assert guard.last_change_at is None
    guard.release(back("w1", applied=True, at=later(5)))
    guard.release(back("w2", applied=True, at=later(3)))
    assert guard.last_change_at == later(5)
    guard.release(back("w2", applied=True, at=later(6)))
    assert guard.view(NOW).last_change_at == later(6)


def test_what_stands_is_known_with_its_owner_and_target_until_it_is_removed() -> None:
    """And the target is the holder's: of a release without the lock nobody knows it."""
    guard = held_by("w1")
    guard.release(back("w1", stands=stands("w1")))
    assert guard.standing == {"w1#1/1": stands("w1")}
    assert guard.owners == {"w1#1/1": "w1"}
    assert guard.targets == {"w1#1/1": ask("w1").target}
    assert (guard.lock, guard.current) == (None, None)
    guard.acquire(ask("w2"), NOW)
    guard.release(back("w3", stands=stands("w3")))
    assert "w3#1/1" in guard.standing
    assert "w3#1/1" not in guard.targets
    guard.release(back("w2", removed=("w1#1/1", "w3#1/1", "never")))
    assert (guard.standing, guard.owners, guard.targets) == ({}, {}, {})


def test_the_lock_that_was_kept_for_a_case_that_is_gone_goes_on() -> None:
    """And nobody else's."""
    guard = held_by("w1")
    guard.give_up("w2")
    assert guard.lock is not None
    guard.give_up("w1")
    assert guard.model_dump(include={"lock", "current"}) == {"lock": None, "current": None}
    guard.give_up("w1")
    assert guard.acquire(ask("w2"), NOW).kind == "permit"


def test_a_dirty_domain_answers_when_to_ask_again() -> None:
    """Act, undo and restore alike: nobody knows what stands."""
    guard = GuardState(domain="lab", dirty="w9 closed")
    for n, purpose in enumerate(("act", "undo", "restore")):
        answer = guard.acquire(ask("w1", attempt=n, purpose=purpose), NOW)
        assert answer == Answer(kind="refused", why="domain lab is dirty: w9 closed", retry_after_s=10)
    assert guard.queue == []


def test_a_halt_is_kept_with_all_its_reasons_and_ends_whole() -> None:
    """Who halted first still has a say; plans from before the end are void."""
    guard = GuardState(domain="lab")
    guard.halt("by ana", NOW)
    guard.halt("by ben", later(5))
    assert (guard.halted, guard.halted_since) == ("by ana; by ben", NOW)
    assert guard.acquire(ask("w1"), NOW) == Answer(kind="halted", why="by ana; by ben")
    guard.halt("x" * 700, later(6))
    assert guard.halted == "x" * 600
    guard.resume(later(9))
    view = guard.view(later(9))
    assert (view.halted, view.halted_since, view.resumed_at) == (None, None, later(9))


def test_who_met_a_stop_or_waits_for_a_turn_is_told_when_levers_are_free_again() -> None:
    """Once each, and a long list ends with the newest."""
    guard = held_by("w0")
    guard.acquire(ask("w9"), NOW)
    guard.halt("by ana", NOW)
    guard.stopped = [f"x{n}" for n in range(KEEP_ALL)]
    guard.acquire(ask("x512"), NOW)
    guard.acquire(ask("x513"), NOW)
    guard.acquire(ask("x2", attempt=2), NOW)
    guard.acquire(ask("w9", attempt=2), NOW)
    told = guard.freed()
    assert len(told) == KEEP_ALL == 512
    assert told[-2:] == ["x2", "w9"]
    assert "x3" not in told
    assert guard.stopped == []
    assert guard.freed() == ["w9"]


def test_answers_are_kept_for_each_case_and_in_all_and_the_newest_are() -> None:
    """A retry of an old question may be asked anew; a flood of one case pushes out no other's."""
    guard = held_by("w0")
    for n in range(KEEP_ANSWERS + 1):
        guard.acquire(ask("w1", attempt=n), NOW)
    mine = [k for k in guard.answers if k.startswith("w1#1|")]
    assert len(mine) == KEEP_ANSWERS == 64
    assert ask("w1", attempt=0).key not in guard.answers
    assert ask("w0").key in guard.answers
    other = guard.answers[ask("w0").key]
    guard.answers |= {f"x{n}|": other for n in range(KEEP_ALL - 66)}
    guard.acquire(ask("x"), NOW)
    assert len(guard.answers) == KEEP_ALL
    assert ask("w0").key in guard.answers
    guard.acquire(ask("y"), NOW)
    assert len(guard.answers) == KEEP_ALL
    assert ask("w0").key not in guard.answers
    assert ask("w1", attempt=1).key in guard.answers


def receipt(rid: str, case: str = "w1#1") -> StandingReceipt:
    """Something that stands."""
    return StandingReceipt(receipt_id=rid, case=case, lever="isolate_endpoint", target_id="t", since=NOW)


def test_a_guard_without_a_state_takes_over_what_the_journal_knows_and_keeps_its_own_word() -> None:
    """What it was told itself is the newer word, unless the journal is known to be newer."""
    own, old = receipt("a", "w1#own"), receipt("a", "w1#old")
    guard = GuardState(domain="lab", standing={"a": own}, owners={"a": "w1"}, targets={"a": POOL})
    found = Recovered(
        standing=(old, receipt("b")), owners={"a": "w9", "b": "w2"}, targets={"a": Target(cluster="lab"), "b": POOL}
    )
    guard.recover(found)
    assert guard.standing == {"a": own, "b": receipt("b")}
    assert guard.owners == {"a": "w1", "b": "w2"}
    assert guard.targets == {"a": POOL, "b": POOL}


def test_the_view_says_all_that_gates_may_know() -> None:
    """And nothing that is over."""
    guard = held_by("w1", blast=Blast(gpus=2))
    guard.release(back("w1", applied=True, at=later(1), stands=receipt("a")))
    guard.acquire(ask("w2", facts_oldest_at=later(9), blast=Blast(gpus=1)), later(9))
    guard.acquire(ask("w3"), later(9))
    guard.dirty, guard.book.breaker = "dirt", "trip"
    guard.halted, guard.halted_since, guard.resumed_at = "by ana", later(7), later(2)
    view = guard.view(later(10))
    first, second = ask("w1"), ask("w2")
    assert view == GuardView(
        domain="lab", halted="by ana", halted_since=later(7), resumed_at=later(2),
        breaker="trip", dirty="dirt", holder="w2", held_since=later(9), queue=1,
        asked=(first.target.id, second.target.id, ask("w3").target.id), last_change_at=later(1),
        standing=(receipt("a"),), acts_last_hour=2,
        spent=Spent(gpus=3), attempts={first.remedy: (NOW,), second.remedy: (later(9),)},
    )  # fmt: skip
    assert GuardState(domain="lab").view(NOW) == GuardView(domain="lab")
    assert guard.view(later(3600)).acts_last_hour == 1
    assert guard.view(later(3600)).spent.gpus == 1


@pytest.mark.parametrize("seconds", [0, 3600])
def test_a_lock_never_ends_by_clock_alone_once_a_permit_was_given(seconds: float) -> None:
    """Only when its holder is found closed."""
    guard = held_by("w1")
    guard.acquire(ask("w2"), NOW)
    assert guard.next_ticket(NOW + timedelta(seconds=seconds)) is None
    assert guard.acquire(ask("w3", facts_oldest_at=later(seconds)), later(seconds)).kind == "queued"


def test_a_permit_that_was_given_back_is_refused_even_when_nobody_has_asked_since() -> None:
    """The lock is free, and the epoch is still its own."""
    guard = held_by("w1")
    guard.release(back("w1"))
    assert guard.acquire(ask("w1"), NOW).kind == "refused"
    assert guard.lock is None


def test_the_run_of_a_case_is_told_from_another_by_its_name_even_with_dots_in_the_target() -> None:
    """An address has dots, and so has a round."""
    guard = held_by("w-10.0.0.1:8000", case="w-10.0.0.1:8000#aaaa.1")
    assert guard.acquire(ask("w-10.0.0.1:8000", case="w-10.0.0.1:8000#bbbb.1"), NOW).kind == "queued"
    assert guard.acquire(ask("w-10.0.0.1:8000", case="w-10.0.0.1:8000#aaaa.2"), NOW).kind == "permit"


def test_who_came_earlier_goes_earlier_whatever_the_order_of_handling() -> None:
    """Among those of one priority."""
    guard = held_by("w1")
    guard.acquire(ask("w2"), later(5))
    guard.acquire(ask("w3"), later(3))
    assert [t.workflow_id for t in guard.queue] == ["w3", "w2"]


@pytest.mark.parametrize(("seconds", "goes_on"), [(60, False), (60.1, True)])
def test_a_turn_that_is_not_used_within_a_minute_goes_on_to_the_next(seconds: float, goes_on: bool) -> None:
    """No permit was given under it, so nothing can have been done. Nobody waits: it stays."""
    guard = held_by("w1")
    guard.acquire(ask("w2"), NOW)
    guard.release(back("w1"))
    assert guard.next_ticket(NOW) is not None
    assert guard.next_ticket(later(999)) is None
    assert guard.lock is not None
    assert guard.lock.workflow_id == "w2"
    guard.acquire(ask("w3"), NOW)
    guard.dirty = "x"
    assert guard.next_ticket(later(999)) is None
    assert guard.lock is not None
    guard.dirty = None
    turn = guard.next_ticket(later(seconds))
    assert (turn is not None) is goes_on
    assert guard.view(NOW).holder == ("w3" if goes_on else "w2")


def test_facts_from_before_levers_were_free_again_are_no_ground_for_an_act() -> None:
    """What was seen under a halt is another world; undo and restore rest on what stands."""
    guard = GuardState(domain="lab")
    guard.halt("by ana", NOW)
    guard.resume(later(5))
    why = "the facts are from before levers were free again at 12:00:05: read again in a moment"
    for n, at in enumerate((1, 5)):
        answer = guard.acquire(ask("w1", attempt=n, facts_oldest_at=later(at)), later(6))
        assert answer == Answer(kind="refused", why=why, retry_after_s=0.5)
    assert guard.acquire(ask("w1", attempt=7, purpose="undo", facts_oldest_at=later(1)), later(6)).kind == "permit"
    assert guard.acquire(ask("w1", attempt=8, facts_oldest_at=later(5.1)), later(6)).kind == "permit"


def test_every_halt_is_counted_and_an_order_from_before_it_is_known() -> None:
    """While no worker answers, orders wait: one of before the last stop lifts nothing."""
    guard = GuardState(domain="lab")
    assert not guard.stopped_after(NOW.timestamp())
    guard.halt("by ana", NOW)
    guard.halt("by ben", later(5))
    assert guard.halts == 2
    assert guard.stopped_after(later(4).timestamp())
    assert guard.stopped_after(later(5).timestamp())
    assert not guard.stopped_after(later(5.1).timestamp())
    guard.resume(later(6))
    guard.book.breaker_since = later(9)
    assert guard.stopped_after(later(9).timestamp())
    assert not guard.stopped_after(later(9.1).timestamp())


def test_a_release_that_says_nothing_bad_is_no_bad_outcome() -> None:
    """Most of them."""
    guard = held_by("w1")
    guard.release(back("w1", applied=True))
    assert guard.book.bad == []


def test_the_journals_newer_word_about_what_stands_counts() -> None:
    """After a case's last word, which a terminated case could not say."""
    guard = GuardState(domain="lab", standing={"a": receipt("a", "w1#own"), "b": receipt("b")})
    guard.recover(Recovered(standing=(receipt("a", "w1#new"),), owners={}, targets={}), newer=True)
    assert guard.standing == {"a": receipt("a", "w1#new"), "b": receipt("b")}


def test_a_step_stands_under_its_own_id_and_those_that_begin_with_it() -> None:
    """Several of its own, and what nobody knows the end of; no other step's."""
    ids = ("c/1", "c/1~2", "c/1/uncertain/7", "c/10", "c/2", "c/1/other")
    guard = GuardState(domain="lab", standing={i: receipt(i) for i in ids})
    assert guard.standing_of("c/1") == ("c/1", "c/1~2", "c/1/uncertain/7")


def frozen(lever: str = "freeze_changes") -> GuardState:
    """A change of this lever stands, of the domain's case."""
    guard = held_by("d", target=Target(cluster="lab"), lever=lever)
    guard.release(back("d", stands=receipt("d#1/1", "d#1").model_copy(update={"lever": lever})))
    return guard


def test_a_freeze_that_stands_keeps_no_other_case_from_its_target() -> None:
    """It stands on the whole domain and takes no serving unit. Any other lever does keep them."""
    assert frozen().acquire(ask("w1"), NOW).kind == "permit"
    assert "stands on the related target" in frozen("increase_capacity").acquire(ask("w1"), NOW).why
    guard = frozen()
    guard.targets = {"d#1/1": Target(cluster="lab"), "e": POOL}
    guard.owners["e"], guard.standing["e"] = "x", receipt("e")
    assert "isolate_endpoint of x stands" in guard.acquire(ask("w1"), NOW).why


def test_a_freeze_of_the_domain_is_kept_back_by_no_members_own_change() -> None:
    """It only stops what others do. Another lever on the domain, or a freeze for less than it, waits."""
    for lever, target, granted in (
        ("freeze_changes", Target(cluster="lab"), True),
        ("increase_capacity", Target(cluster="lab"), False),
        ("freeze_changes", POOL, False),
        ("isolate_endpoint", POOL, False),
    ):
        guard = held_by("w1")
        guard.release(back("w1", stands=stands("w1")))
        assert (guard.acquire(ask("d", target=target, lever=lever), NOW).kind == "permit") is granted
