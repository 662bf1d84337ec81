"""Counting: nothing unknown becomes a no or a zero, and the ranking of opportunities is by people's minutes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbooks.report_count import Part, part_of, spread_of
from runbooks.report_paper import GROUPS
from runbooks.report_rows import Row
from runbooks.report_tables import pairs, report, second_pairs
from tests.runbooks.report_lab import row
from tests.worker.report_cases import FIRST


def test_a_share_is_of_what_is_known_and_says_what_is_not() -> None:
    """Unknowns are never in the whole, and a per cent is given only where the whole is large enough."""
    part = part_of([True, False, None, True])

    assert (part.part, part.whole, part.unknown) == (2, 3, 1)
    assert part.words() == "2 of 3, 1 unknown"
    assert part_of([None, None]).words() == "– (2 unknown)"
    assert part_of([]).words() == "–"
    assert Part(part=15, whole=20).words() == "15 of 20 (75 %)"


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Newcombe (1998), table I: 15 of 148."""
    low, high = Part(part=15, whole=148).interval or (0.0, 0.0)

    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)
    assert Part(part=0, whole=0).interval is None


@given(st.lists(st.one_of(st.none(), st.floats(min_value=0, max_value=1e6))))
def test_quantiles_are_in_order_and_between_the_values(values: list[float | None]) -> None:
    """For any values; those that are not known are counted apart."""
    found, known = spread_of(values), [v for v in values if v is not None]

    assert (found.count, found.unknown) == (len(known), len(values) - len(known))
    if not known:
        assert (found.p25, found.p50, found.longest) == (None, None, None)
        return
    cuts = [c for c in (found.p25, found.p50, found.p75, found.p90, found.longest) if c is not None]
    assert len(cuts) == 5
    assert all(a <= b + 1e-6 for a, b in pairwise(cuts))
    assert min(known) - 1e-6 <= (found.p25 or 0.0)
    assert found.longest == max(known)


def test_quantiles_of_a_known_sample() -> None:
    """R's type 7 of 1, 2, …, 5."""
    found = spread_of([5.0, 1.0, 4.0, 2.0, 3.0])

    assert (found.p25, found.p50, found.p75, found.p90) == (2.0, 3.0, 4.0, pytest.approx(4.6))


def test_an_empty_report_knows_nothing_and_says_so() -> None:
    """It has every group and no invented noughts."""
    one = report([])

    assert (one.incidents, one.first, one.automatic.whole) == (0, None, 0)
    assert {g.name for g in one.groups} == set(GROUPS)
    assert one.all_times.ttm.p50 is None


def test_the_papers_share_of_a_class_is_of_its_group() -> None:
    """Two of three engine incidents of four in all."""
    rows = [
        row("1", found_class="engine.timeout"),
        row("2", found_class="engine.timeout"),
        row("3"),
        row("4", found_class="dep.upstream", group="dep"),
    ]
    one = report(rows)
    timeout = next(c for c in one.classes if c.name == "engine.timeout")

    assert (timeout.of_all.share, timeout.of_group and timeout.of_group.share) == (0.5, pytest.approx(2 / 3))
    assert (timeout.paper and timeout.paper.words()) == "40 % P"
    assert [(g.name, g.paper.words() if g.paper else "") for g in one.groups if g.name in ("infra", "dep")] == [
        ("infra", "20 % S"),
        ("dep", ""),
    ]


def test_peoples_label_counts_before_interlocks_class_and_only_pairs_agree_or_not() -> None:
    """An incident without one of its two labels is neither agreement nor disagreement."""
    rows = [row("1", truth="engine.timeout"), row("2", truth="engine.hang", second="engine.crash"), row("3"),
            row("4", truth="engine.hang", found_class=None)]  # fmt: skip

    assert [c.name for c in report(rows).classes] == ["engine.hang", "engine.timeout"]
    assert report(rows).labelled == 3
    assert pairs(rows) == [("engine.timeout", "engine.hang"), ("engine.hang", "engine.hang")]
    assert second_pairs(rows) == [("engine.hang", "engine.crash")]


def asked(answer: str, waited_s: float, gates: tuple[str, ...] = ("G7",), **more: Any) -> dict[str, Any]:
    return {
        "step": "1", "lever": "restart_engine", "gates": gates, "at": FIRST, "answer": answer, "waited_s": waited_s, **more,
    }  # fmt: skip


def test_opportunities_are_ranked_by_peoples_minutes_with_what_speaks_against_them() -> None:
    """Three approved and one rejected; one that waits for a named person; one that a gate refused."""
    did = {"acted": True, "helped": True}
    rows = [
        *(row(f"a{n}", mode="ask", people_s=300.0, asked=[asked("approved", 300.0, **did)]) for n in range(3)),
        row("b", mode="ask", people_s=60.0, asked=[asked("rejected", 60.0)]),
        row("c", mode="auto", people_s=7200.0, found_class="infra.gpu_fault", asked=[asked("approved", 7200.0, ("G6", "G7"), **did)]),
        row("d", people_s=None, missing=[{"lever": "shed_load", "why": "refused", "gates": ["G3"]}]),
    ]  # fmt: skip
    first, second, last = report(rows).chances

    assert (first.failure_class, first.seconds, first.words) == (
        "infra.gpu_fault", 7200.0, "mode auto, and levers.restart_engine.unattended",
    )  # fmt: skip
    assert (second.asked, second.approved, second.rejected, second.helped, second.seconds) == (4, 3, 1, 3, 960.0)
    assert (second.words, second.verdict) == ("mode auto", "not yet: people rejected it, or it did not help")
    assert (last.seconds, last.unknown, last.words, last.verdict) == (None, 1, "no mode: G3 refused it", "")


def test_a_request_for_what_no_mode_can_give_is_not_called_a_matter_of_mode() -> None:
    """A change freeze that people may lift: G15 asks in any mode."""
    (one,) = report([row("a", mode="ask", people_s=9.0, asked=[asked("approved", 9.0, ("G7", "G15"))])]).chances

    assert one.words == "no mode: G15 wants a person"


def test_time_after_a_request_that_nobody_answered_is_lost_to_it() -> None:
    """Half an hour of silence, and an hour by hand."""
    (one,) = report([row("a", mode="ask", people_s=5400.0, asked=[asked("expired", 1800.0)])]).chances

    assert (one.expired, one.seconds) == (1, 5400.0)


def test_minutes_of_one_file_are_not_counted_twice() -> None:
    """People did two things."""
    rows = [row("a", source="file", truth="engine.hang", people_s=600.0, people_levers=("restart_engine", "shed_load"))]

    assert [c.seconds for c in report(rows).chances] == [300.0, 300.0]
    assert sum(e.seconds or 0.0 for e in report(rows).effort) == 600.0


def test_gates_are_in_order_and_each_incident_counts_once() -> None:
    """G2 is before G10, and a gate that refused is told from one that only said later."""

    def no(gate: str, later: bool | None = False) -> dict[str, Any]:
        return {"lever": "shed_load", "gate": gate, "why": f"by {gate}", "later": later}

    rows = [
        row("1", refused=[no("G10"), no("G2")]),
        row("2", refused=[no("G2", True)]),
        row("3", refused=[no("guard", None)]),
    ]

    assert [(g.gate, g.incidents, g.for_good, g.later) for g in report(rows).gates] == [
        ("G2", 2, 1, 1),
        ("G10", 1, 1, 0),
        ("guard", 1, 0, 0),
    ]


def _timed(name: str, lever: str, seconds: float, end: str = "mitigated") -> Row:
    return row(name, done=[{"lever": lever, "end": end}], mitigated_after_s=seconds, by="alone", outcome="restored")


def test_a_lever_that_was_taken_back_has_no_part_in_the_time_to_mitigate() -> None:
    """It is counted as done, and as taken back."""
    rows = [
        _timed("1", "shed_load", 60.0),
        row("2", done=[{"lever": "shed_load", "end": "undone"}, {"lever": "reroute_traffic", "end": "mitigated"}],
            mitigated_after_s=600.0, by="alone", outcome="restored"),
    ]  # fmt: skip
    one = report(rows)
    times = {t.name: t.ttm for t in one.lever_times}

    assert [(x.lever, x.incidents.part, x.taken_back) for x in one.levers] == [
        ("shed_load", 2, 1),
        ("reroute_traffic", 1, 0),
    ]
    assert (times["shed_load"].count, times["shed_load"].longest) == (1, 60.0)
    assert times["reroute_traffic"].p50 == 600.0


def test_a_false_alarm_on_which_a_lever_was_done_is_named() -> None:
    """These are the ones to look at; an alarm of which it is not known is not counted."""
    rows = [row("1", false_alarm=True), row("2", false_alarm=True, done=[{"lever": "shed_load"}]), row("3")]

    assert report(rows).acted_on_false == ("2",)
    assert report(rows).false_alarms.words() == "2 of 2, 1 unknown"
