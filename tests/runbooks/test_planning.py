"""A runbook applied to a case."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from runbooks.detection import Detection, Severity
from runbooks.fleet import Fleet
from runbooks.levers import IsolateEndpoint, Page, RerouteTraffic, ShedLoad
from runbooks.library import Library
from runbooks.plan import Plan
from runbooks.planning import plan, planned_steps
from runbooks.policy import LeverPolicy, Policy
from runbooks.schema import Runbook
from runbooks.taxonomy import classify
from runbooks.templates import RenderError, render

Detect = Callable[..., Detection]
NOW = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
HANG = {"generations_failed": 3, "generations_ok": 0, "siblings_ok": 1}
LOST = {"endpoints": 2, "answering": 0}


@pytest.fixture(scope="session")
def planned(library: Library, policy: Policy, fleet: Fleet) -> Callable[..., Plan]:
    """Classifies and plans."""

    def make(*detections: Detection, fleet: Fleet = fleet, policy: Policy = policy) -> Plan:
        found = classify(detections, library.taxonomy)
        return plan(found, detections, library=library, policy=policy, fleet=fleet, now=NOW)

    return make


def test_a_hang_isolates_the_endpoint(planned: Callable[..., Plan], detect: Detect, policy: Policy) -> None:
    """The step is rendered and typed, its indicators are those of the pool's dialect, its envelope is one endpoint."""
    made = planned(detect("EngineHang", HANG, service="pool-a", endpoint="pool-a-1:8000"))
    step = made.steps[0]

    assert step.step == IsolateEndpoint(pool="pool-a", endpoint="pool-a-1:8000")
    assert step.targets == ("west/service/pool-a/endpoint/pool-a-1:8000",)
    assert step.domains == ("west",)
    assert {(i.name, i.source, i.query, i.scope) for i in step.indicators} == {
        ("route_generation", "probe", "ok", "route/chat"),
        ("error_rate", "scrape", "error_rate", "route/chat"),
    }
    assert (step.envelope.largest_share, step.envelope.largest_endpoints) == (0.0, 1)
    assert step.envelope.step_id == step.id
    assert made.runbook.startswith("engine_hang.yaml@")
    assert made.policy == policy.ref
    assert "rule hang-real-generations (95%); the fault began 30 s before" in made.why
    assert isinstance(made.steps[-1].step, Page)


def test_a_reroute_is_in_the_domains_of_all_pools_of_the_route(planned: Callable[..., Plan], detect: Detect) -> None:
    """A move loads the receiving cluster too; the sick pool is named first."""
    step = planned(detect("PoolEnginesLost", LOST, service="pool-a")).steps[0]

    assert step.step == RerouteTraffic(route="chat", away_from="pool-a", keep=0.0, increment=0.25)
    assert step.domains == ("east", "west")
    assert step.targets == ("west/service/pool-a", "east/service/pool-b")
    assert step.envelope.largest_share == 1.0


def test_an_envelope_is_never_wider_than_the_lever_allows(
    planned: Callable[..., Plan], detect: Detect, policy: Policy
) -> None:
    """What people approve is the step within policy."""
    tight = policy.model_copy(update={"levers": {"reroute_traffic": LeverPolicy(largest_share=0.4)}})

    step = planned(detect("PoolEnginesLost", LOST, service="pool-a"), policy=tight).steps[0]

    assert step.envelope.largest_share == 0.4


def test_exhaustion_sheds_the_lowest_tier_first(planned: Callable[..., Plan], detect: Detect) -> None:
    """Tiers are listed from first to be refused; the fault's own measure goes with the step."""
    step = planned(detect("EngineExhausted", service="pool-a")).steps[0]

    assert step.step == ShedLoad(route="chat", tier="batch", admit=0.0, increment=0.25)
    assert step.healthy is not None
    assert step.healthy_indicator is not None
    assert (step.healthy_indicator.name, step.healthy_indicator.scope) == ("queue", "pool-a")


@pytest.mark.parametrize(
    ("alert", "where", "says"),
    [
        ("EngineHang", {"service": "pool-a", "endpoint": "nobody:1"}, "nobody:1 is not in the fleet"),
        ("EngineHang", {"service": "pool-b", "endpoint": "pool-b-1:8000"}, "is not in the fleet"),
        ("EngineHang", {"cluster": "mars"}, "mars is not in the fleet"),
        ("EngineHang", {"service": "pool-a"}, "there is no runbook for engine.hang on a service"),
    ],
)
def test_what_cannot_be_planned_only_pages_and_says_why(
    alert: str, where: dict[str, str], says: str, planned: Callable[..., Plan], detect: Detect
) -> None:
    """A plan always exists: at least people are told."""
    made = planned(detect(alert, HANG, **where))

    assert [s.step.lever for s in made.steps] == ["page"]
    assert says in made.why
    assert isinstance(made.steps[0].step, Page)
    assert says in made.steps[0].step.summary


def test_a_class_without_levers_says_so_on_the_page(planned: Callable[..., Plan], detect: Detect) -> None:
    """An SRE reads plainly that nothing will happen by itself."""
    made = planned(detect("DatabaseDown", service="pool-a"))

    assert isinstance(made.steps[0].step, Page)
    assert "dep.upstream on west/service/pool-a: nothing of ours acts on this class" in made.steps[0].step.summary
    assert made.steps[0].domains == ()


def test_a_step_that_cannot_be_rendered_is_left_out_and_named(
    planned: Callable[..., Plan], detect: Detect, fleet: Fleet
) -> None:
    """Without tiers nothing can be shed: the case goes on with the next step, and the plan says why."""
    routes = tuple(route.model_copy(update={"tiers": ()}) for route in fleet.routes)

    made = planned(detect("EngineExhausted", service="pool-a"), fleet=fleet.model_copy(update={"routes": routes}))

    assert [s.step.lever for s in made.steps] == ["reroute_traffic", "page"]
    assert [s.id for s in made.steps] == ["3-reroute_traffic", "4-page"]
    assert "left out: step 2, pool: pool pool-a has no `workload` in the fleet" in made.why
    assert "left out: step 1, tier: template '{{ tier_lowest }}': 'tier_lowest' is undefined" in made.why


def test_a_pool_without_a_route_has_nowhere_to_move(planned: Callable[..., Plan], detect: Detect) -> None:
    """Only the page is left."""
    made = planned(detect("PoolEnginesLost", LOST, service="lonely"))

    assert [s.step.lever for s in made.steps] == ["page"]
    assert "'route' is undefined" in made.why


def test_the_gravest_firing_detection_gives_the_values(planned: Callable[..., Plan], detect: Detect) -> None:
    """Of several detections of a target, the newest of the gravest is planned for."""
    mild = detect("EngineHang", HANG, service="pool-a", endpoint="pool-a-1:8000", severity=Severity.INFO)
    grave = detect(
        "EngineHang", HANG, service="pool-a", endpoint="pool-a-1:8000", started_at=NOW - timedelta(seconds=90)
    )

    assert "began 90 s before" in planned(mild, grave).why
    assert planned(mild, grave) == planned(grave, mild)


def test_an_undefined_variable_is_one_readable_line() -> None:
    """The template, the variable and what there is instead."""
    with pytest.raises(RenderError) as caught:
        render("{{ polo }}", {"pool": "a"}, ("steps", 0, "with", "pool"))

    assert str(caught.value) == "steps.0.with.pool: template '{{ polo }}': 'polo' is undefined; variables here: pool"


@pytest.mark.parametrize("text", ["{{ ''.__class__.__mro__ }}", "{% for %}", "{{ 1 / 0 }}", "{{ labels.a + 1 }}"])
def test_a_template_cannot_reach_out_or_crash(text: str) -> None:
    """The sandbox refuses, and every error is a RenderError."""
    with pytest.raises(RenderError) as caught:
        render(text, {"labels": {"a": "b"}}, ("x",))

    assert "\n" not in str(caught.value)


def test_a_label_cannot_end_a_promql_string() -> None:
    """Labels come from outside; quotes and backslashes in them stay text."""
    query = render('x{pool="{{ pool }}"}', {"pool": 'a"} or up{b="\\'}, ("q",), promql=True)

    assert query == 'x{pool="a\\"} or up{b=\\"\\\\"}'


def test_a_value_with_braces_is_not_rendered_again() -> None:
    """A label that looks like a template stays text."""
    assert render("{{ labels.a }}", {"labels": {"a": "{{ target }}"}, "target": "t"}, ("x",)) == "{{ target }}"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            {"route": "chat", "away_from": "pool-a", "keep": 2},
            "steps.0.with.keep: reroute_traffic: input should be less",
        ),
        (
            {"route": "chat", "away_from": "pool-a", "kep": 0},
            "steps.0.with.kep: reroute_traffic: unknown parameter; did you mean keep?",
        ),
        ({"route": "chat", "away_from": "lonely"}, "steps.0.with.away_from: route chat has no pool 'lonely'"),
        ({"route": "talk", "away_from": "pool-a"}, "steps.0.with.route: the fleet has no route 'talk'"),
    ],
)
def test_a_wrong_parameter_is_named(
    values: dict[str, object], says: str, library: Library, policy: Policy, fleet: Fleet, detect: Detect
) -> None:
    """Types and names are checked when it is planned, not when it acts."""
    verify = {"criteria": [{"indicator": "route_generation", "above": 1}]}
    runbook = Runbook.model_validate(
        {
            "class": "engine.crash",
            "title": "t",
            "applies_to": ["service"],
            "source": "I",
            "steps": [{"lever": "reroute_traffic", "with": values, "verify": verify}],
        }
    )

    steps, problems = planned_steps(
        runbook, detect("X", service="pool-a"), library=library, policy=policy, fleet=fleet, now=NOW
    )

    assert steps == []
    assert str(problems[0]).startswith(says)


def test_numbers_written_as_templates_become_numbers(
    library: Library, policy: Policy, fleet: Fleet, detect: Detect
) -> None:
    """A template is text until the lever's model reads it."""
    verify = {"criteria": [{"indicator": "route_generation", "above": 1}]}
    with_ = {"route": "{{ route }}", "away_from": "{{ pool }}", "keep": "{{ evidence.keep }}"}
    runbook = Runbook.model_validate(
        {
            "class": "engine.crash",
            "title": "t",
            "applies_to": ["service"],
            "source": "I",
            "steps": [{"lever": "reroute_traffic", "with": with_, "verify": verify}],
        }
    )

    steps, _ = planned_steps(
        runbook, detect("X", {"keep": 0.5}, service="pool-a"), library=library, policy=policy, fleet=fleet, now=NOW
    )

    assert isinstance(steps[0].step, RerouteTraffic)
    assert steps[0].step.keep == 0.5
