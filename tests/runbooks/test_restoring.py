"""The way back, from receipts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbooks.change import GONE, CannotPlan, Change, NothingToDo, Receipt
from runbooks.facts import Settings
from runbooks.levers import FreezeChanges
from runbooks.library import load_library
from runbooks.plan import Envelope, IndicatorQuery, PlannedStep
from runbooks.planning import plan_restore
from runbooks.restoring import without_own
from runbooks.standing import merged

BEFORE: Settings = {"weight/chat/a": 50, "weight/chat/b": 50}
AFTER: Settings = {"weight/chat/a": 0, "weight/chat/b": 100}


def _receipt(before: Settings, after: Settings) -> Receipt:
    return Receipt(
        id="r", permit_id="p", case="c", case_workflow_id="w", step_id="1", lever="reroute_traffic", target_id="t",
        domain="west", epoch=1, before=before, after=after, acted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def test_all_the_way_back_is_exactly_what_stood_before() -> None:
    """Undo: the receipt's before, from the receipt's after."""
    found = plan_restore(BEFORE, {**AFTER, "other": 1}, AFTER, 1.0)

    assert isinstance(found, Change)
    assert (found.before, found.after, found.last) == (AFTER, BEFORE, True)
    assert found.blast.share_moved == {"chat": 0.5}


def test_a_ramp_goes_back_in_parts() -> None:
    """Half of the way, then the rest; the second part knows what the first left."""
    first = plan_restore(BEFORE, AFTER, AFTER, 0.5)
    assert isinstance(first, Change)
    assert first.after == {"weight/chat/a": 25, "weight/chat/b": 75}
    assert not first.last

    second = plan_restore(BEFORE, first.after, AFTER, 1.0, passed=0.5)
    assert isinstance(second, Change)
    assert (second.before, second.after) == (first.after, BEFORE)


def test_a_ramp_may_also_start_from_where_the_last_part_ended() -> None:
    """A caller that keeps what still stands as the new `after` gets to the same end."""
    first = plan_restore(BEFORE, AFTER, AFTER, 0.5)
    assert isinstance(first, Change)

    second = plan_restore(BEFORE, first.after, {**AFTER, **first.after}, 1.0)

    assert isinstance(second, Change)
    assert second.after == BEFORE


def test_what_somebody_else_changed_is_left_alone() -> None:
    """The setting, what it is and what we left are named."""
    found = plan_restore(BEFORE, {**AFTER, "weight/chat/b": 90}, AFTER, 1.0)

    assert isinstance(found, CannotPlan)
    assert found.why == "setting weight/chat/b is 90, and we left 100: changed by somebody else since"


def test_a_setting_that_is_gone_is_named() -> None:
    """An endpoint may have left the fleet."""
    found = plan_restore({"endpoint/a/x:1": "in"}, {}, {"endpoint/a/x:1": "out"}, 1.0)

    assert isinstance(found, CannotPlan)
    assert "endpoint/a/x:1 is missing" in found.why


def test_true_is_not_one() -> None:
    """Values are the same only when their kind is the same too."""
    assert isinstance(plan_restore({"admit/r/t": 5}, {"admit/r/t": True}, {"admit/r/t": 1}, 1.0), CannotPlan)


def test_an_endpoint_goes_back_with_the_first_share() -> None:
    """There is no half an endpoint; the rest of the ramp has nothing to do."""
    before: Settings = {"endpoint/a/x:1": "in"}
    after: Settings = {"endpoint/a/x:1": "out"}

    first = plan_restore(before, after, after, 0.5)

    assert isinstance(first, Change)
    assert first.after == before
    assert isinstance(plan_restore(before, before, after, 1.0, passed=0.5), NothingToDo)


def test_a_share_that_is_no_way_back_is_refused() -> None:
    """Zero, more than all, or backwards."""
    for share, passed in ((0.0, 0.0), (1.5, 0.0), (0.5, 0.5), (0.5, 0.75)):
        assert isinstance(plan_restore(BEFORE, AFTER, AFTER, share, passed), CannotPlan)


def test_receipts_of_several_increments_are_one_way_back() -> None:
    """Before the first, after the last, for every setting that any of them touched."""
    first = _receipt({"a": 50, "b": 50}, {"a": 25, "b": 75})
    second = _receipt({"a": 25, "c": 0}, {"a": 0, "c": 25})

    both = merged(merged(None, first), second)

    assert (both.before, both.after) == ({"a": 50, "b": 50, "c": 0}, {"a": 0, "b": 75, "c": 25})


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=5),
    st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4, unique=True),
)
def test_weights_keep_their_sum_all_the_way_back(pairs: list[tuple[int, int]], ramp: list[float]) -> None:
    """Every part of every ramp conserves the sum of a route, stays between the two ends, and arrives."""
    before: Settings = {f"weight/r/{n}": old for n, (old, _) in enumerate(pairs)}
    numbers = [new for _, new in pairs]
    numbers[0] += sum(old for old, _ in pairs) - sum(numbers)
    after: Settings = {f"weight/r/{n}": new for n, new in enumerate(numbers)}
    now, passed = dict(after), 0.0
    for share in sorted({*ramp, 1.0}):
        found = plan_restore(before, now, after, share, passed)
        assert not isinstance(found, CannotPlan)
        if isinstance(found, Change):
            now.update(found.after)
        assert sum(int(v) for v in now.values()) == sum(int(v) for v in after.values())
        for key, value in now.items():
            low, high = sorted((int(before[key]), int(after[key])))
            assert low <= int(value) <= high
        passed = share

    assert now == before


def test_what_cannot_be_put_back_is_left_out_and_the_rest_goes_back() -> None:
    """A drain: the cordon is taken away, the pods that were evicted live elsewhere under other names."""
    before: Settings = {"cordon/n1": "off", "pod/big/big-0": "uid-0"}
    after: Settings = {"cordon/n1": "on", "pod/big/big-0": GONE}

    found = plan_restore(before, {"cordon/n1": "on"}, after, 1.0)

    assert isinstance(found, Change)
    assert (found.before, found.after) == ({"cordon/n1": "on"}, {"cordon/n1": "off"})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"pod/big/big-0": "uid-0"}, {"pod/big/big-0": GONE}),
        ({"boot/n1": "boot-1"}, {"boot/n1": GONE}),
        ({"gpu/n1/0": 3}, {"gpu/n1/0": 4}),
    ],
    ids=["pod", "boot", "gpu"],
)
def test_there_is_no_way_back_from_an_eviction_a_reboot_or_a_reset(before: Settings, after: Settings) -> None:
    """A restore is then done, and not refused for ever; an undo finds nothing that it could take back."""
    found = plan_restore(before, {}, after, 1.0)

    assert isinstance(found, NothingToDo)
    assert "nothing of it can be put back" in found.why


FROZEN: Settings = {"paused/big": "on", "paused/small": "on", "autoscale/big": "off"}
FREE: Settings = {"paused/big": "off", "paused/small": "off", "autoscale/big": "on"}


def test_a_freeze_lets_go_exactly_what_it_froze() -> None:
    """What was paused before is not in the receipt, and stays paused."""
    found = plan_restore(FREE, {**FROZEN, "paused/other": "on"}, FROZEN, 1.0)

    assert isinstance(found, Change)
    assert found.after == FREE


def test_what_was_thawed_already_is_neither_frozen_nor_thawed_again() -> None:
    """The case's own rollback has let one pool go; the rest of the freeze ends without it."""
    found = plan_restore(FREE, {**FROZEN, "paused/big": "off"}, FROZEN, 1.0)
    all_gone = plan_restore(FREE, FREE, FROZEN, 1.0)

    assert isinstance(found, Change)
    assert found.after == {"paused/small": "off", "autoscale/big": "on"}
    assert isinstance(all_gone, NothingToDo)


def test_only_a_freeze_may_have_been_lifted_by_somebody_else() -> None:
    """A cordon that somebody took away before us is a change by somebody else: people look at it."""
    found = plan_restore({"cordon/n1": "off"}, {"cordon/n1": "off"}, {"cordon/n1": "on"}, 1.0)

    assert isinstance(found, CannotPlan)
    assert "changed by somebody else since" in found.why


def test_capacity_goes_down_by_the_ramp() -> None:
    """From five to three: one less at half of the way, then the other."""
    half = plan_restore({"replicas/big": 3}, {"replicas/big": 5}, {"replicas/big": 5}, 0.5)
    whole = plan_restore({"replicas/big": 3}, {"replicas/big": 4}, {"replicas/big": 5}, 1.0, passed=0.5)

    assert isinstance(half, Change)
    assert isinstance(whole, Change)
    assert (half.after, whole.after) == ({"replicas/big": 4}, {"replicas/big": 3})


def test_a_version_goes_back_to_the_recorded_one_as_a_whole() -> None:
    """Two rings of a hotfix are one way back."""
    first = _receipt({"image/big": "v1"}, {"image/big": "v2"})
    second = _receipt({"image/small": "v1"}, {"image/small": "v2"})

    both = merged(first, second)
    before, after = both.before, both.after
    found = plan_restore(before, {**after, "image/other": "v9"}, after, 1.0)

    assert isinstance(found, Change)
    assert found.after == {"image/big": "v1", "image/small": "v1"}


def test_the_way_back_from_a_freeze_is_not_proven_by_the_freeze() -> None:
    """Else it would be frozen again each time, and stand for ever."""
    catalogue = load_library()
    book = next(b for b in catalogue.runbooks.values() if any(s.lever == "freeze_changes" for s in b.steps))
    spec = next(s for s in book.steps if s.lever == "freeze_changes")
    assert spec.verify is not None
    names = {c.indicator for c in spec.verify.criteria}
    assert "paused_share" in names
    step = PlannedStep(
        id="1", step=FreezeChanges(cluster="west"), targets=("west",), domains=("west",), verify=spec.verify,
        indicators=tuple(IndicatorQuery(name=n, source="cluster", query=n, unit="share") for n in sorted(names)),
        on_cannot_tell="keep_and_page", restore=spec.restore,
        envelope=Envelope(step_id="1", lever="freeze_changes", targets=("west",), direction="d", largest_share=0, largest_endpoints=0),
    )  # fmt: skip
    back = without_own(step)
    assert back.verify is not None
    assert {c.indicator for c in back.verify.criteria} == {i.name for i in back.indicators} == names - {"paused_share"}
    assert back.verify.criteria
