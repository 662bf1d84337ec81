"""The auditor knows nothing of gates: only what was done, when and how much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runbooks.change import Blast
from runbooks.library import load_policy
from worker.replay_violations import Made, violations

NOW = datetime(2030, 1, 1, tzinfo=UTC)
POLICY = load_policy(None)


def made(
    case: str, begins_s: float, ends_s: float, *domains: str, blast: Blast | None = None, counts: bool = True
) -> Made:
    """One change."""
    begins, ends = NOW + timedelta(seconds=begins_s), NOW + timedelta(seconds=ends_s)
    return Made(case, domains or ("east",), "reroute_traffic", begins, ends, blast or Blast(), counts)


def test_two_cases_that_change_one_domain_at_once_are_a_violation() -> None:
    """A change may touch several domains; one in common is enough."""
    both = [made("a", 0, 60, "east", "west"), made("b", 30, 90, "east")]

    assert violations(both, POLICY) == ["two changes at once in east: reroute_traffic and reroute_traffic"]


def test_one_after_the_other_in_two_domains_or_of_one_case_is_none() -> None:
    """What starts when the other ends does not overlap it."""
    assert violations([made("a", 0, 60), made("b", 60, 90)], POLICY) == []
    assert violations([made("a", 0, 60, "east"), made("b", 30, 90, "west")], POLICY) == []
    assert violations([made("a", 0, 60), made("a", 30, 90)], POLICY) == []


def test_more_nodes_in_any_hour_than_the_budget_are_a_violation() -> None:
    """Any hour, not one of the clock; acts that do not count, and those spread over hours, stay within it."""
    most = POLICY.domain.nodes_per_hour
    nodes = [made(f"c{n}", 600.0 * n, 600.0 * n + 1, blast=Blast(nodes=(f"n{n}",))) for n in range(most + 1)]
    spread = [made(f"c{n}", 1800.0 * n, 1800.0 * n + 1, blast=Blast(nodes=(f"n{n}",))) for n in range(most + 1)]

    assert violations(nodes, POLICY) == [f"{most + 1} nodes within an hour in east; {most} is the budget"]
    assert violations(spread, POLICY) == []
    assert violations([c._replace(counts=False) for c in nodes], POLICY) == []
