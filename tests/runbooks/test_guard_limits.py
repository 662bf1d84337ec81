"""What the Guard counts: budgets per hour, attempts, what did not help, the breaker, and observe mode beside them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from runbooks.change import Blast
from runbooks.facts import Spent
from runbooks.guard import KEEP_ALL, Answer, GuardState
from runbooks.guard_asking import KEEP_ASKING
from runbooks.guard_book import DAY, HOUR, KEEP_ACTS, KEEP_REMEDIES, Act, Book, over_budget, remedy, spent_by
from runbooks.guard_memory import Recovered
from runbooks.policy import DomainPolicy
from tests.runbooks.guard_lab import NOW, ask, back, later, limits


def act(at: float = 0, **more: Any) -> Act:
    """An act so many seconds after the beginning."""
    base: dict[str, Any] = {
        "lever": "isolate_endpoint",
        "target_id": "t",
        "failure_class": "engine.hang",
        "first": True,
    }
    return Act(at=later(at), **{**base, **more})


def acted(guard: GuardState, who: str = "w1", at: float = 0, **more: Any) -> Answer:
    """Asks with facts of then, and gives back at once."""
    answer = guard.acquire(ask(who, **{"facts_oldest_at": later(at), "settle_s": 0.0, **more}), later(at))
    guard.release(back(who, applied=answer.permit is not None, at=later(at)))
    return answer


def refused(why: str, retry_after_s: float = 0.0) -> Answer:
    """With the reason, and when to ask again."""
    return Answer(kind="refused", why=why, retry_after_s=retry_after_s)


OVER = "would be taken within one hour; the domain's budget is"
BUDGETS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
    ({"endpoints_per_hour_in_pool": 2}, {"endpoints": {"a": 1}}, {"endpoints_down": {"a": 1}}, ""),
    (
        {"endpoints_per_hour_in_pool": 2},
        {"endpoints": {"a": 2}},
        {"endpoints_down": {"a": 1}},
        f"3 endpoints of a {OVER} 2",
    ),
    (
        {"endpoints_per_hour_in_pool": 2},
        {"endpoints": {"a": 2}},
        {"restarting": {"a": 1}},
        f"3 endpoints of a {OVER} 2",
    ),
    ({"endpoints_per_hour_in_pool": 2}, {"endpoints": {"b": 2}}, {"endpoints_down": {"a": 1}}, ""),
    ({"endpoints_per_hour_in_pool": 2}, {"endpoints": {"a": 9}}, {"endpoints_down": {"a": 0}}, ""),
    ({"endpoints_per_hour_in_pool": 2}, {}, {"endpoints_down": {"a": 1}, "restarting": {"a": 1}}, ""),
    (
        {"endpoints_per_hour_in_pool": 1},
        {},
        {"endpoints_down": {"a": 1}, "restarting": {"a": 1}},
        f"2 endpoints of a {OVER} 1",
    ),
    ({"endpoints_per_hour": 3}, {"endpoints": {"b": 1, "c": 1}}, {"endpoints_down": {"a": 1}}, ""),
    ({"endpoints_per_hour": 3}, {"endpoints": {"b": 1, "c": 2}}, {"endpoints_down": {"a": 1}}, f"4 endpoints {OVER} 3"),
    ({"endpoints_per_hour": 3}, {"endpoints": {"b": 9}}, {"endpoints_down": {"a": 0}, "gpus": 1}, ""),
    ({"endpoints_per_hour": 0}, {}, {"endpoints_down": {"a": 1}}, f"1 endpoints {OVER} 0"),
    ({"nodes_per_hour": 2}, {"nodes": 1}, {"nodes": ("n1",)}, ""),
    ({"nodes_per_hour": 2}, {"nodes": 2}, {"nodes": ("n1",)}, f"3 nodes {OVER} 2"),
    ({"nodes_per_hour": 2}, {"nodes": 9}, {"gpus": 1}, ""),
    ({"nodes_per_hour": 0}, {}, {"nodes": ("n1",)}, f"1 nodes {OVER} 0"),
    ({"gpus_per_hour": 8}, {"gpus": 4}, {"gpus": 4}, ""),
    ({"gpus_per_hour": 8}, {"gpus": 5}, {"gpus": 4}, f"9 GPUs {OVER} 8"),
    ({"gpus_per_hour": 8}, {"gpus": 9}, {"nodes": ("n1",)}, ""),
    ({"gpus_per_hour": 0}, {}, {"gpus": 1}, f"1 GPUs {OVER} 0"),
    ({"share_per_hour": 1.0}, {"share": 0.7}, {"share_moved": {"chat": 0.3}}, ""),
    ({"share_per_hour": 1.0}, {"share": 0.7}, {"refused_share": 0.31}, f"1.01 routes' worth of traffic {OVER} 1"),
    ({"share_per_hour": 1.0}, {"share": 9.0}, {"gpus": 1}, ""),
    ({"share_per_hour": 0.0}, {}, {"share_moved": {"chat": 0.1}}, f"0.10 routes' worth of traffic {OVER} 0"),
]


@pytest.mark.parametrize(("bounds", "spent", "more", "why"), BUDGETS)
def test_an_act_may_use_up_a_budget_and_not_exceed_it(
    bounds: dict[str, Any], spent: dict[str, Any], more: dict[str, Any], why: str
) -> None:
    """Exactly at the budget, one over it, and what takes nothing of it."""
    assert over_budget(Spent(**spent), Blast(**more), limits(**bounds)) == why


def test_spent_adds_up_over_all_levers() -> None:
    """Endpoints by pool whether out or restarting, the number of nodes, GPUs, and of each act its largest share."""
    blasts = [
        Blast(endpoints_down={"a": 1}, restarting={"a": 1, "b": 1}, nodes=("n1",), gpus=4),
        Blast(endpoints_down={"a": 2}, nodes=("n1", "n2"), gpus=1, share_moved={"chat": 0.25}, refused_share=0.1),
        Blast(refused_share=0.5),
    ]
    assert spent_by(blasts) == Spent(endpoints={"a": 4, "b": 1}, nodes=3, gpus=5, share=0.75)
    assert spent_by([]) == Spent()


def test_the_guard_itself_refuses_what_would_break_an_hourly_budget_and_not_an_hour_later() -> None:
    """G2 judged on facts of before; two cases judged on the same facts must not both pass."""
    guard = GuardState(domain="lab")
    bounds = limits(endpoints_per_hour=1)
    one: dict[str, Any] = {"blast": Blast(endpoints_down={"a": 1}), "limits": bounds}
    assert acted(guard, "w1", **one).kind == "permit"
    why = refused(f"2 endpoints {OVER} 1 (G2)", 60)
    assert acted(guard, "w2", **one) == why
    assert acted(guard, "w3", 3599, **one) == why
    assert acted(guard, "w4", 3600, **one).kind == "permit"


def test_acts_per_hour_are_counted_over_the_domain_and_the_limit_is_the_levers() -> None:
    """At the limit it is refused, with the time to ask again."""
    guard = GuardState(domain="lab")
    acted(guard, "w1")
    acted(guard, "w2", lever="shed_load")
    why = refused("2 acts in domain lab in the last hour; the limit is 2 (G2)", 60)
    assert acted(guard, "w3", max_acts_per_hour=2) == why
    assert acted(guard, "w4", max_acts_per_hour=3).kind == "permit"
    assert acted(guard, "w5", 3600, max_acts_per_hour=1).kind == "permit"


def test_undo_and_restore_are_no_acts_and_are_never_capped() -> None:
    """They return to what stood before."""
    guard = GuardState(domain="lab")
    for n, purpose in enumerate(("undo", "restore")):
        tight: dict[str, Any] = {
            "limits": limits(gpus_per_hour=0),
            "blast": Blast(gpus=9),
            "max_acts_per_hour": 0,
            "attempts": 1,
        }
        assert acted(guard, f"w{n}", purpose=purpose, **tight).kind == "permit"
    assert guard.view(NOW).acts_last_hour == 0
    assert guard.book.acts == []


def test_attempts_count_first_increments_of_one_remedy_within_the_cooldown() -> None:
    """Per target and class, over all cases: another case on the same target meets them."""
    guard = GuardState(domain="lab")
    same = ask("w1").target
    rule: dict[str, Any] = {"attempts": 2, "cooldown_s": 600.0, "target": same}
    assert acted(guard, "w1", 0, **rule).kind == "permit"
    assert acted(guard, "w1", 1, attempt=2, increment=1, **rule).kind == "permit"
    assert acted(guard, "w2", 10, **rule).kind == "permit"
    why = refused("isolate_endpoint was tried 2 times on lab/service/chat/endpoint/w1:1 within 600 s (G10)")
    assert acted(guard, "w3", 20, **rule) == why
    assert acted(guard, "w3", 20, attempt=2, increment=1, **rule).kind == "permit"
    assert acted(guard, "w4", 20, failure_class="engine.crash", **rule).kind == "permit"
    assert acted(guard, "w5", 20, lever="shed_load", **rule).kind == "permit"
    assert acted(guard, "w6", 20, attempts=2).kind == "permit"
    assert acted(guard, "w7", 599, **rule) == why
    assert acted(guard, "w8", 600, **rule).kind == "permit"


def test_a_remedy_that_did_not_help_is_barred_for_its_target_and_class_across_cases() -> None:
    """For as long as policy says for that lever, and not for another class or target."""
    guard = GuardState(domain="lab")
    mine = ask("w1", ineffective_s=100.0)
    acted(guard, "w1", ineffective_s=100.0)
    guard.release(back("w1", at=later(5), ineffective=mine.remedy))
    why = refused("isolate_endpoint did not help lab/service/chat/endpoint/w1:1 lately (G10)")
    for n, increment in enumerate((0, 1)):
        assert acted(guard, f"x{n}", 104, target=mine.target, increment=increment) == why
    assert guard.view(later(104)).ineffective == {mine.remedy: later(105)}
    assert acted(guard, "y1", 104, target=mine.target, failure_class="engine.crash").kind == "permit"
    assert acted(guard, "y2", 104).kind == "permit"
    assert acted(guard, "y3", 105, target=mine.target).kind == "permit"
    assert guard.view(later(105)).ineffective == {}


def test_a_lever_that_nobody_has_asked_for_since_the_guard_began_is_barred_for_an_hour() -> None:
    """The policy comes with requests; a release has none."""
    guard = GuardState(domain="lab")
    guard.release(back("w1", ineffective="shed_load|lab|engine.hang"))
    assert guard.book.ineffective == {"shed_load|lab|engine.hang": later(3600)}


def test_what_did_not_help_is_never_barred_for_less_than_before_and_not_for_ever_kept() -> None:
    """A long bar survives many short ones; the shortest are forgotten first."""
    book = Book()
    book.did_not_help("long", later(10 * DAY.total_seconds()))
    book.did_not_help("long", later(60))
    for n in range(KEEP_REMEDIES + 10):
        book.did_not_help(f"short{n}", later(100 + n))
    assert len(book.ineffective) == KEEP_REMEDIES == 500
    assert book.ineffective["long"] == later(10 * DAY.total_seconds())
    assert "short10" not in book.ineffective
    assert "short11" in book.ineffective


TRIPPED = "the breaker has tripped: 3 acts within 60 s; 3 trip it"


def test_too_many_acts_trip_the_breaker_and_the_act_that_did_it_still_goes() -> None:
    """The next one meets it. Time alone resets nothing."""
    guard, bounds = GuardState(domain="lab"), limits(breaker_acts=3, breaker_window_s=60.0)
    for n, at in enumerate((0, 30, 60)):
        assert acted(guard, f"w{n}", at, limits=bounds).kind == "permit"
    assert guard.book.breaker is None  # the first is a minute ago
    assert acted(guard, "w4", 61, limits=bounds).kind == "permit"
    tripped: tuple[str | None, object] = (guard.book.breaker, guard.book.breaker_since)
    assert tripped == (TRIPPED, later(61))
    for at in (62, 10**6):
        assert guard.acquire(ask(f"w{at}", facts_oldest_at=later(at), limits=bounds), later(at)) == Answer(
            kind="halted", why=TRIPPED
        )
    undo = ask("w7", purpose="undo", facts_oldest_at=later(10**6))
    assert guard.acquire(undo, later(10**6)).kind == "permit"


def test_a_reset_forgets_for_the_breaker_and_for_nothing_else() -> None:
    """Else the next act would trip it again; the hour's budgets and attempts go on counting."""
    guard, bounds = GuardState(domain="lab"), limits(breaker_acts=3, breaker_window_s=60.0)
    for n in range(3):
        acted(guard, f"w{n}", n, limits=bounds)
    guard.reset_breaker(later(10))
    assert (guard.book.breaker, guard.book.breaker_since, guard.resumed_at) == (None, None, later(10))
    assert (guard.book.reset_at, guard.book.bad) == (later(10), [])
    assert guard.view(later(11)).acts_last_hour == 3
    assert acted(guard, "w4", 11, limits=bounds).kind == "permit"
    assert acted(guard, "w5", 12, limits=bounds).kind == "permit"
    assert guard.book.breaker is None
    assert acted(guard, "w6", 13, limits=bounds).kind == "permit"
    assert guard.book.breaker == TRIPPED


def test_the_window_of_the_breaker_is_the_younger_of_its_length_and_the_last_reset() -> None:
    """A reset of long ago makes the window no longer."""
    book, bounds = Book(reset_at=NOW), limits(breaker_acts=2, breaker_window_s=60.0)
    book.note(act(10), bounds)
    book.note(act(100), bounds)
    assert book.breaker is None
    book.note(act(101), bounds)
    assert book.breaker is not None


def test_bad_outcomes_trip_it_and_one_that_came_twice_is_one() -> None:
    """Worse, unproven or uncertain: a few of these and no lever moves by itself."""
    guard = GuardState(domain="lab", limits=limits(breaker_bad=2, breaker_window_s=60.0))
    guard.release(back("w1", at=later(0), bad="worse"))
    guard.release(back("w1", at=later(0), bad="worse"))
    assert guard.book.breaker is None
    guard.release(back("w2", at=later(60), bad="worse"))
    assert guard.book.breaker is None  # the first is a minute ago
    guard.release(back("w3", at=later(61), bad="nobody can tell"))
    assert guard.book.breaker == "the breaker has tripped: 2 bad outcomes within 60 s, the last: nobody can tell"
    assert guard.book.breaker_since == later(61)
    guard.release(back("w4", at=later(62), bad="worse"))
    assert "nobody can tell" in str(guard.book.breaker)  # the first reason is kept
    guard.reset_breaker(later(70))
    guard.release(back("w5", at=later(71), bad="worse"))
    assert guard.book.breaker is None


def test_observe_mode_counts_against_itself_and_what_is_real_and_nothing_real_counts_it() -> None:
    """Else a policy in observe would starve the classes that act."""
    guard, bounds = GuardState(domain="lab"), limits(breaker_acts=2, gpus_per_hour=4)
    shadow: dict[str, Any] = {
        "shadow": True,
        "limits": bounds,
        "blast": Blast(gpus=2),
        "attempts": 2,
        "target": ask("w1").target,
    }
    granted = Answer(kind="shadow", why="it would have been granted")
    assert acted(guard, "s1", **shadow) == granted
    assert guard.lock is None
    assert guard.epoch == 0
    assert acted(guard, "s2", **shadow) == granted
    assert acted(guard, "s3", **shadow) == refused(f"6 GPUs {OVER} 4 (G2)", 60)
    assert acted(guard, "s4", **{**shadow, "blast": Blast()}) == refused(
        "isolate_endpoint was tried 2 times on lab/service/chat/endpoint/w1:1 within 3600 s (G10)"
    )
    assert acted(guard, "s5", **{**shadow, "max_acts_per_hour": 2}) == refused(
        "2 acts in domain lab in the last hour; the limit is 2 (G2)", 60
    )
    view = guard.view(NOW)
    assert (view.acts_last_hour, view.spent, view.attempts) == (0, Spent(), {})
    assert view.shadow == {"isolate_endpoint": 2}
    assert guard.view(later(3600)).shadow == {}
    assert guard.book.breaker is None
    real: dict[str, Any] = {
        "limits": bounds,
        "blast": Blast(gpus=4),
        "attempts": 1,
        "target": ask("w1").target,
        "max_acts_per_hour": 1,
    }
    assert acted(guard, "w1", **real).kind == "permit"
    assert acted(guard, "s6", **{**shadow, "blast": Blast(gpus=1), "attempts": 9}) == refused(
        f"9 GPUs {OVER} 4 (G2)", 60
    )
    assert guard.asking.askers.keys() == {"w1"}


def test_observe_mode_passes_over_a_held_or_dirty_domain_and_meets_a_halt() -> None:
    """It touches nothing, so it need not wait; but under a halt nothing would have been done."""
    guard = GuardState(domain="lab")
    guard.acquire(ask("w1"), NOW)
    assert guard.acquire(ask("s1", shadow=True), NOW).kind == "shadow"
    guard.dirty = "x"
    assert guard.acquire(ask("s2", shadow=True), NOW).kind == "shadow"
    guard.halt("by ana", NOW)
    assert guard.acquire(ask("s3", shadow=True), NOW) == Answer(kind="halted", why="by ana")


def test_the_book_keeps_a_day_and_a_number_and_observe_mode_pushes_out_nothing_real() -> None:
    """It is carried by continue-as-new."""
    bounds = limits()
    book = Book(acts=[act(0, target_id="first"), *(act(1 + n, shadow=True) for n in range(KEEP_ACTS))])
    book.note(act(2000, shadow=True), bounds)
    assert KEEP_ACTS == 400
    assert [a.target_id for a in book.real(NOW - DAY)] == ["first"]
    assert [a.at for a in book.acts[:2]] == [later(0), later(2)]
    assert len(book.acts) == KEEP_ACTS + 1
    book.note(act(2001), bounds)
    assert len(book.acts) == KEEP_ACTS + 2
    book = Book(acts=[act(0), act(1)])
    book.note(act(DAY.total_seconds()), bounds)
    assert [a.at for a in book.acts] == [later(1), later(DAY.total_seconds())]
    book = Book(acts=[act(n) for n in range(KEEP_ACTS)])
    book.note(act(5000), bounds)
    assert [book.acts[0].at, book.acts[-1].at, len(book.acts)] == [later(1), later(5000), KEEP_ACTS]


def test_what_counts_for_how_long() -> None:
    """An hour for what is spent, a day for attempts; of later increments none is an attempt."""
    book = Book(acts=[act(0, blast=Blast(gpus=1)), act(5, first=False, blast=Blast(gpus=2)), act(6, lever="other")])
    assert (timedelta(hours=1), timedelta(hours=24)) == (HOUR, DAY)
    assert book.spent(later(3599)).gpus == 3
    assert book.spent(later(3600)).gpus == 2
    assert book.attempts(later(86399)) == {
        "isolate_endpoint|t|engine.hang": (later(0),), "other|t|engine.hang": (later(6),)
    }  # fmt: skip
    assert book.attempts(later(86400)) == {"other|t|engine.hang": (later(6),)}
    assert book.real(later(5)) == [book.acts[2]]
    assert remedy("a", "b", "c") == "a|b|c"
    twice = Book(acts=[act(0), act(9)])
    assert twice.attempts(later(10)) == {"isolate_endpoint|t|engine.hang": (later(0), later(9))}


def test_the_guard_carries_less_than_the_server_takes_even_when_everything_is_full() -> None:
    """Continue-as-new takes 2 MB; a Guard that cannot go on forgets a halt."""
    guard = GuardState(domain="lab")
    wide = Blast(endpoints_down={f"pool-{n}": 1 for n in range(4)}, nodes=("n1",), gpus=8, share_moved={"chat": 0.2})
    answer = acted(guard, "w1", blast=wide)
    one, who = guard.book.acts[0], guard.asking.askers["w1"]
    where = "remediate:lab/service/chat/endpoint/10.0.0."
    guard.answers = {f"{where}{n}:8000#9f86d081|1-isolate_endpoint|0|1|act": answer for n in range(KEEP_ALL)}
    guard.asking.askers = {f"{where}{n}:8000": who for n in range(KEEP_ASKING)}
    guard.stopped = list(guard.answers)
    guard.book.acts = [one] * KEEP_ACTS + [one.model_copy(update={"shadow": True})] * KEEP_ACTS
    guard.book.ineffective = {f"isolate_endpoint|{where}{n}:8000|engine.hang": NOW for n in range(KEEP_REMEDIES)}
    assert len(guard.model_dump_json()) < 1_900_000


def test_an_act_is_noted_with_all_that_it_took() -> None:
    """Whom it was for, what it cost, and whether it was the first of its step."""
    guard = GuardState(domain="lab")
    acted(guard, "w1", blast=Blast(gpus=2), increment=1)
    acted(guard, "w2", blast=Blast(gpus=1))
    first = {"failure_class": "engine.hang", "lever": "isolate_endpoint"}
    assert guard.book.acts == [
        act(
            0,
            target_id="lab/service/chat/endpoint/w1:1",
            first=False,
            blast=Blast(gpus=2),
            key="w1#1|1-isolate_endpoint|1|1|act",
            **first,
        ),
        act(
            0,
            target_id="lab/service/chat/endpoint/w2:1",
            first=True,
            blast=Blast(gpus=1),
            key="w2#1|1-isolate_endpoint|0|1|act",
            **first,
        ),
    ]


def test_a_question_that_comes_again_is_one_act() -> None:
    """After a Reset a Guard may know from the journal what it is asked once more; two questions are two acts."""
    guard = GuardState(domain="lab")
    acted(guard, "w1", blast=Blast(gpus=2))
    again = GuardState(domain="lab")
    again.recover(Recovered(standing=(), owners={}, targets={}, memory=guard.memory()))
    acted(again, "w1", blast=Blast(gpus=2))
    assert again.view(NOW).acts_last_hour == 1
    acted(again, "w1", blast=Blast(gpus=2), attempt=2)
    assert again.view(NOW).acts_last_hour == 2


def test_a_permit_that_was_given_back_unused_is_no_act() -> None:
    """Else a domain that is merely busy would use up attempts and budgets. One that acted counts, however it ended."""
    guard = GuardState(domain="lab")
    for n, applied in enumerate((False, True, False)):
        guard.acquire(ask("w1", attempt=n, settle_s=0.0), NOW)
        guard.release(back("w1", applied=applied))
        guard.release(back("w1", applied=False))
    assert guard.view(NOW).acts_last_hour == 1
    guard.book.undo_note(act(99))
    assert guard.view(NOW).acts_last_hour == 1
    guard.acquire(ask("w2", settle_s=0.0), NOW)
    guard.release(back("w3", applied=False))
    assert guard.view(NOW).acts_last_hour == 2  # it was not his to give back
    guard.acquire(ask("w2", attempt=2, settle_s=0.0, purpose="undo"), NOW)
    guard.release(back("w2"))
    assert guard.view(NOW).acts_last_hour == 2


def test_the_domains_policy_is_the_one_of_the_last_request() -> None:
    """The Guard reads no policy file."""
    guard = GuardState(domain="lab")
    acted(guard, "w1", limits=limits(gpus_per_hour=7), ineffective_s=5.0)
    assert guard.limits == limits(gpus_per_hour=7)
    assert guard.ineffective_s == {"isolate_endpoint": 5.0}
    assert GuardState(domain="lab").limits == DomainPolicy()


def test_observe_mode_does_not_trip_the_breaker_over_what_was_real() -> None:
    """Not even with a policy that would have tripped it before."""
    book = Book(acts=[act(0), act(1)])
    book.note(act(2, shadow=True), limits(breaker_acts=2))
    assert book.breaker is None
