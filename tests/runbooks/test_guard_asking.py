"""When many targets of a domain are sick at once they are one fault: what is counted, who is exempt, when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.detection import Target
from runbooks.facts import StandingReceipt
from runbooks.guard import Announce, Answer, GuardState
from runbooks.guard_asking import KEEP_ASKING, Asker, Asking, site
from tests.runbooks.guard_lab import NOW, ask, back, later, limits, stands

THREE = limits(correlate_targets=3, correlate_within_s=60.0, correlate_quiet_s=300.0)
WHY = "3 targets fell sick within 60 s: they are one fault"
MANY = Answer(kind="correlated", why=WHY)


def node(name: str, **more: Any) -> Target:
    """A node of the lab."""
    return Target(cluster="lab", node=name, **more)


def asker(who: str, target: Target, at: float = 0) -> Asker:
    """A case that asked then."""
    return Asker(workflow_id=who, target=target, failure_class="infra.node_down", at=later(at))


def asks(guard: GuardState, who: str, at: float = 0, target: Target | None = None, **more: Any) -> Answer:
    """A case asks for its node, or for another target."""
    about = target or node(who)
    return guard.acquire(ask(who, target=about, limits=THREE, facts_oldest_at=later(at), **more), later(at))


def stormy(at: float = 0) -> GuardState:
    """Three nodes asked; the first holds the domain."""
    guard = GuardState(domain="lab")
    assert [asks(guard, w, at).kind for w in ("w1", "w2", "w3")] == ["permit", "queued", "correlated"]
    return guard


@pytest.mark.parametrize(
    ("target", "place"),
    [
        (node("n1"), "lab/node/n1"),
        (node("n1", gpu="0"), "lab/node/n1"),
        (node("n1", service="chat", endpoint="a:1"), "lab/node/n1"),
        (Target(cluster="lab", service="chat", endpoint="a:1"), "lab/service/chat/endpoint/a:1"),
        (Target(cluster="lab", service="chat"), "lab/service/chat"),
    ],
    ids=["node", "gpu", "endpoint on it", "endpoint", "service"],
)
def test_a_node_and_all_that_is_on_it_is_one_place(target: Target, place: str) -> None:
    """Eight sick GPUs of one node are one fault already, and no reason to stop levers everywhere."""
    assert site(target) == place


def test_a_node_with_its_gpus_and_endpoints_does_not_make_a_storm_and_a_further_node_does() -> None:
    """Sites are counted, not alerts."""
    asking = Asking()
    inside = node("n1", service="c", endpoint="a:1")
    for n, target in enumerate((node("n1"), node("n1", gpu="0"), node("n1", gpu="1"), inside, node("n2"))):
        assert asking.note(asker(f"w{n}", target), THREE) is False
    assert asking.note(asker("w9", node("n3")), THREE) is True
    assert (asking.since, asking.why) == (NOW, WHY)
    assert asking.note(asker("w10", node("n4")), THREE) is False  # they have become one already


def test_only_what_fell_sick_within_the_window_counts_together() -> None:
    """A minute and no more. A case that waits asks again each few seconds: what counts is when it asked first."""
    asking = Asking()
    asking.note(asker("w1", node("n1"), 0), THREE)
    asking.note(asker("w2", node("n2"), 1), THREE)
    assert asking.note(asker("w3", node("n3"), 60.1), THREE) is False  # the first fell sick before
    assert asking.note(asker("w1", node("n1"), 60.2), THREE) is False
    assert asking.askers["w1"].began == later(0)
    assert asking.note(asker("w4", node("n4"), 61), THREE) is True


def test_a_case_that_has_not_asked_for_long_asks_for_the_first_time() -> None:
    """Its target was well meanwhile, as far as anybody knows. To the second: so long and no longer."""
    asking = Asking()
    asking.note(asker("w1", node("n1"), 0), THREE)
    asking.note(asker("w1", node("n1"), 300), THREE)
    assert asking.askers["w1"].began == later(0)
    asking.note(asker("w1", node("n1"), 600.1), THREE)
    assert asking.askers["w1"].began == later(600.1)


def test_the_next_case_of_a_target_is_newly_sick() -> None:
    """Its earlier case has closed: what fails again together now is one fault."""
    asking = Asking()
    for n in range(3):
        asking.note(asker(f"w{n}", node(f"n{n}"), n * 100).model_copy(update={"case": f"w{n}#1"}), THREE)
    again = [
        asking.note(asker(f"w{n}", node(f"n{n}"), 290 + n).model_copy(update={"case": f"w{n}#2"}), THREE)
        for n in range(3)
    ]
    assert again == [False, False, True]


def test_a_guard_knows_one_case_of_a_target_from_the_next() -> None:
    """By the case in what it was asked, not by the workflow's id."""
    guard = GuardState(domain="lab")
    for n, case in enumerate(("w1#1", "w1#1", "w1#2")):
        guard.acquire(ask("w1", attempt=n, case=case), later(n))
        assert guard.asking.askers["w1"].began == later(2 if case == "w1#2" else 0)


def test_fewer_than_so_many_within_the_window_are_no_storm() -> None:
    """The window is closed at both ends."""
    asking = Asking()
    asking.note(asker("w1", node("n1"), 0), THREE)
    asking.note(asker("w2", node("n2"), 1), THREE)
    assert asking.note(asker("w3", node("n3"), 60), THREE) is True


def test_the_domains_own_case_is_no_member_and_counts_nothing() -> None:
    """It asks for all of them, and it acts while they are one."""
    guard = stormy()
    guard.release(back("w1"))
    guard.queue.clear()
    assert asks(guard, "w0", 1, Target(cluster="lab")).kind == "permit"
    asking = Asking()
    assert asking.note(asker("w1", Target(cluster="lab")), limits(correlate_targets=2)) is False
    assert asking.askers == {}


def test_they_are_one_as_long_as_so_many_go_on_asking() -> None:
    """An outage that lasts is asked about again and again; one stubborn target alone does not prolong it for ever."""
    asking = Asking()
    for n in range(3):
        asking.note(asker(f"w{n}", node(f"n{n}"), n), THREE)
    asking.note(asker("w0", node("n0"), 200), THREE)
    assert asking.holds(later(301), THREE)
    assert not asking.holds(later(301.1), THREE)
    for n in range(3):
        assert asking.note(asker(f"w{n}", node(f"n{n}"), 300), THREE) is False
    assert asking.holds(later(600), THREE)
    assert not asking.holds(later(600.1), THREE)
    assert asking.note(asker("w4", node("n4"), 603), THREE) is False
    assert (asking.since, asking.why) == (None, "")


def test_asking_whether_it_holds_changes_nothing() -> None:
    """A query asks it as well, and no history has queries: a replay must see the same."""
    asking = Asking()
    for n in range(3):
        asking.note(asker(f"w{n}", node(f"n{n}"), n), THREE)
    before = asking.model_copy(deep=True)
    assert not asking.holds(later(10_000), THREE)
    assert asking.lately(later(10_000), THREE) == ()
    assert asking == before


def test_the_newest_askers_are_kept_and_no_more_than_five_hundred() -> None:
    """They are carried by continue-as-new. Who asks again is new again."""
    asking = Asking()
    for n in range(KEEP_ASKING):
        asking.note(asker(f"w{n}", node(f"n{n}")), limits())
    asking.note(asker("w0", node("n0")), limits())
    asking.note(asker("more", node("more")), limits())
    assert KEEP_ASKING == len(asking.askers) == 500
    assert "w0" in asking.askers
    assert "w1" not in asking.askers


def test_members_are_told_once_and_meet_it_when_they_ask() -> None:
    """All but who holds the domain: that one finishes, or undoes, first."""
    guard = stormy()
    assert guard.view(NOW).correlated == WHY
    assert guard.members() == ["w2", "w3"]
    assert guard.members() == []
    assert asks(guard, "w2", 1, attempt=2) == MANY
    assert asks(guard, "w5", 1) == MANY
    assert guard.view(later(1)).asked == tuple(f"lab/node/{w}" for w in ("w1", "w3", "w2", "w5"))
    assert asks(guard, "w2", 2, attempt=3, purpose="undo").kind == "queued"
    assert guard.view(later(300)).correlated == WHY
    assert guard.view(later(300.1)).correlated is None


def test_the_holder_with_a_permit_and_the_owner_of_something_standing_go_on() -> None:
    """A holder that was only given its turn has changed nothing, and is a member."""
    guard = stormy()
    assert asks(guard, "w1", 1, attempt=2).kind == "permit"
    guard.release(back("w1", applied=True, at=later(1), stands=stands("w1")))
    assert asks(guard, "w1", 9, attempt=3).kind != "correlated"
    guard.release(back("w1", at=later(9), removed=("w1#1/1",)))
    guard.queue.clear()
    guard.lock = None
    assert asks(guard, "w1", 10, attempt=4) == MANY
    guard = stormy()
    guard.release(back("w1"))
    turn = guard.next_ticket(NOW)
    assert turn is not None
    assert turn.workflow_id == "w2"
    assert asks(guard, "w2", 1, attempt=2) == MANY
    assert asks(guard, "w1", 1, attempt=2) == MANY


def test_observe_mode_meets_a_storm_and_makes_none() -> None:
    """Counted are cases that want to act."""
    guard = GuardState(domain="lab")
    for w in ("s1", "s2", "s3", "s4"):
        assert asks(guard, w, shadow=True).kind == "shadow"
    assert asks(stormy(), "s1", 1, shadow=True) == MANY


def test_undo_and_restore_make_no_storm() -> None:
    """They say nothing about a new fault."""
    guard = GuardState(domain="lab")
    for w in ("w1", "w2", "w3"):
        asks(guard, w, purpose="undo")
    assert guard.asking.askers == {}


def announce(guard: GuardState, who: str, at: float = 0) -> Answer:
    """A case whose gates do not allow says that its node is sick."""
    what = Announce(domain="lab", workflow_id=who, target=node(who), failure_class="infra.node_down", limits=THREE)
    return guard.announce(what, later(at))


def test_a_case_that_may_not_act_yet_is_counted_as_well() -> None:
    """Two hundred cases that all wait for an approval are one fault too."""
    guard = GuardState(domain="lab")
    counted = Answer(kind="refused", why="it is counted, and no more was asked")
    assert [announce(guard, w) for w in ("w1", "w2", "w3")] == [counted, counted, MANY]
    assert guard.members() == ["w1", "w2", "w3"]
    assert guard.limits == THREE
    assert guard.freed() == []
    assert guard.answers == {}
    assert {a.failure_class for a in guard.asking.askers.values()} == {"infra.node_down"}


@pytest.mark.parametrize("stop", ["halted", "breaker"])
def test_a_case_that_announces_under_a_stop_is_told_when_it_ends(stop: str) -> None:
    """It waits for nothing else."""
    guard = GuardState(domain="lab")
    if stop == "halted":
        guard.halt("by ana", NOW)
    else:
        guard.book.breaker = "x"
    announce(guard, "w1")
    announce(guard, "w2")
    announce(guard, "w1")
    assert guard.freed() == ["w2", "w1"]
    assert guard.freed() == []


def test_a_standing_receipt_without_a_lock_holder_keeps_its_owner_out_of_the_storm() -> None:
    """By the owner that the journal names, after a Guard lost its state."""
    guard = stormy()
    guard.owners["x"] = "w3"
    guard.standing["x"] = StandingReceipt(receipt_id="x", case="w3#1", lever="l", target_id="t", since=NOW)
    assert asks(guard, "w3", 1, attempt=2).kind == "queued"


def test_who_asked_lately_is_named_once() -> None:
    """By target, within the window and not by what is kept beyond it."""
    asking = Asking()
    asking.note(asker("w1", node("n1"), 0), THREE)
    asking.note(asker("w2", node("n2"), 1), THREE)
    asking.note(asker("w9", node("n2"), 2), THREE)
    assert asking.lately(later(60), THREE) == ("lab/node/n1", "lab/node/n2")
    assert asking.lately(later(62), THREE) == ("lab/node/n2",)
    assert asking.lately(later(62.1), THREE) == ()


def test_who_asked_is_kept_for_the_longer_of_both_windows() -> None:
    """No longer: it is carried by continue-as-new."""
    for within, quiet in ((60.0, 10.0), (10.0, 60.0)):
        window, asking = limits(correlate_within_s=within, correlate_quiet_s=quiet), Asking()
        asking.note(asker("w1", node("n1"), 0), window)
        asking.note(asker("w2", node("n2"), 60), window)
        assert set(asking.askers) == {"w1", "w2"}
        asking.note(asker("w2", node("n2"), 60.1), window)
        assert set(asking.askers) == {"w2"}


def test_a_case_of_another_domain_is_neither_counted_nor_a_member() -> None:
    """Its step only loads this domain: its target is sick elsewhere."""
    guard, other = stormy(), Target(cluster="other", node="n1")
    before = set(guard.asking.askers)
    assert asks(guard, "w9", 1, other).kind == "queued"
    assert set(guard.asking.askers) == before
