"""Several domains as one: the worse word counts, and one that cannot be asked makes the whole unknown."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.cluster import ClusterState
from runbooks.facts import GuardView, Known, Spent, StandingReceipt, Unknown
from runbooks.several import one_picture, one_state, one_view
from tests.runbooks import clusters as c
from tests.runbooks.gate_lab import pool
from tests.runbooks.guard_lab import NOW, later


def view(at: float = 0, domain: str = "a", **more: Any) -> Known[GuardView]:
    """What one Guard says."""
    return Known(value=GuardView(domain=domain, **more), observed_at=later(at))


def both(a: dict[str, Any], b: dict[str, Any], mine: str = "") -> GuardView:
    """Two Guards as one."""
    found = one_view([view(0, "a", **a), view(-1, "b", **b)], mine)
    assert isinstance(found, Known)
    assert found.observed_at == later(-1)
    return found.value


def stands(rid: str) -> StandingReceipt:
    """Something that stands."""
    return StandingReceipt(receipt_id=rid, case="w#1", lever="l", target_id="t", since=NOW)


def test_one_domain_is_itself_and_one_that_is_lost_makes_all_unknown() -> None:
    """Never the part that could be read."""
    lost = Unknown(why="b does not answer")
    one = view()
    assert one_view([one]) is one
    assert one_view([view(), lost]) == lost
    assert one_view([lost]) == lost
    assert one_picture([Known(value={}, observed_at=NOW), lost]) == lost


@pytest.mark.parametrize(
    ("field", "a", "b", "whole"),
    [
        ("halted", None, "by ana", "by ana"), ("halted", "by ben", "by ana", "by ben"), ("halted", None, None, None),
        ("halted_since", later(5), later(3), later(3)), ("halted_since", None, later(3), later(3)), ("halted_since", None, None, None),
        ("resumed_at", later(5), later(3), later(5)), ("resumed_at", None, later(3), later(3)), ("resumed_at", None, None, None),
        ("breaker", None, "x", "x"), ("breaker", None, None, None), ("dirty", None, "x", "x"), ("dirty", None, None, None),
        ("holder", None, "w2", "w2"), ("holder", "w1", "w2", "w1"), ("holder", None, None, None),
        ("held_since", later(5), later(3), later(3)), ("held_since", later(5), None, later(5)), ("held_since", None, None, None),
        ("queue", 1, 3, 3), ("correlated", None, "x", "x"), ("correlated", None, None, None),
        ("asked", ("a", "b"), ("b", "c"), ("a", "b", "c")),
        ("last_change_at", later(5), later(3), later(5)), ("last_change_at", None, later(3), later(3)),
        ("last_change_at", None, None, None),
        ("standing", (stands("a"), stands("b")), (stands("b"), stands("c")), (stands("a"), stands("b"), stands("c"))),
        ("acts_last_hour", 4, 7, 7), ("acts_last_hour", 7, 4, 7),
        ("spent", Spent(endpoints={"p": 1, "q": 2}, nodes=1, gpus=4, share=0.5), Spent(endpoints={"p": 3}, nodes=2, gpus=2, share=0.7),
         Spent(endpoints={"p": 3, "q": 2}, nodes=2, gpus=4, share=0.7)),
        ("attempts", {"k": (NOW,)}, {"k": (NOW, later(1)), "j": (NOW,)}, {"k": (NOW, later(1)), "j": (NOW,)}),
        ("spent", Spent(endpoints={"p": 0}), Spent(), Spent(endpoints={"p": 0})),
        ("attempts", {"k": (NOW, later(1))}, {"k": (later(5),)}, {"k": (NOW, later(1))}),
        ("shadow", {"l": 0}, {}, {"l": 0}),
        ("ineffective", {"k": later(9)}, {"k": later(5), "j": NOW}, {"k": later(9), "j": NOW}),
        ("shadow", {"l": 2}, {"l": 5, "m": 1}, {"l": 5, "m": 1}),
    ],
)  # fmt: skip
def test_the_worse_word_counts(field: str, a: Any, b: Any, whole: Any) -> None:
    """Field by field; of nothing it is nothing."""
    found = both({field: a}, {field: b})
    assert getattr(found, field) == whole
    assert found == both({}, {}).model_copy(update={field: whole})


def test_a_domain_that_the_asker_holds_is_named_so_that_it_gives_it_back() -> None:
    """Else it would think that the whole is another's."""
    assert both({"holder": "w1"}, {"holder": "me"}, "me").holder == "me"
    assert both({"holder": "w1"}, {"holder": "w2"}, "me").holder == "w1"
    assert both({}, {}, "me").holder is None
    assert both({}, {}).domain == "a"


def test_the_pools_of_all_domains_are_one_picture_as_old_as_the_oldest() -> None:
    """A receiving pool may be in another domain than the sick one."""
    a, b = pool("pool-a"), pool("pool-b")
    found = one_picture(
        [Known(value={"pool-a": a}, observed_at=later(2)), Known(value={"pool-b": b}, observed_at=later(1))]
    )
    assert found == Known(value={"pool-a": a, "pool-b": b}, observed_at=later(1))


def test_two_clusters_are_one_state_unless_a_name_is_in_both() -> None:
    """A node that could be either is acted on in neither."""
    west = c.state()
    assert one_state([west]) == west
    other = ClusterState(
        nodes={"n9": c.node("n9")}, pods={"x-0": c.pod("x-0", "n9", of="x")}, workloads={"x": c.work("x", 1)}
    )
    whole = one_state([west, other])
    assert isinstance(whole, ClusterState)
    assert set(whole.nodes) == {"n1", "n2", "n9"}
    assert set(whole.pods) == {*west.pods, "x-0"}
    assert set(whole.workloads) == {"big", "small", "x"}
    assert (
        one_state([west, other.model_copy(update={"nodes": {"n1": c.node("n1")}})])
        == "two clusters have a node named n1"
    )
    assert (
        one_state([west, other.model_copy(update={"pods": {"big-0": c.pod("big-0")}})])
        == "two clusters have a pod named big-0"
    )
    twin = other.model_copy(update={"workloads": {"big": c.work("big", 1)}})
    assert one_state([west, twin]) == "two clusters have a pool named big"
