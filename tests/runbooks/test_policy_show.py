"""What would happen for a class, as people read it: each word of it is held against the models that it is taken from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbooks.detection import TargetKind
from runbooks.facts import GuardView, Spent
from runbooks.fleet import Fleet
from runbooks.guard_book import remedy
from runbooks.library import Library
from runbooks.planning import planned_steps
from runbooks.policy import Policy
from runbooks.policy_page import as_text
from runbooks.policy_sample import World, detection_of, sample_fleet, targets_of_kind
from runbooks.policy_show import NothingToShow, Shown, kinds_of, show
from runbooks.safety import GATES, judge
from tests.runbooks.clusters import FLEET as CLUSTERED

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def shown(
    failure_class: str, policy: Policy, library: Library, kind: str = "", fleet: Fleet | None = None, **guards: Any
) -> Shown:
    """On the invented fleet, or on one."""
    return show(
        failure_class,
        TargetKind(kind) if kind else None,
        policy=policy,
        library=library,
        fleet=fleet,
        now=NOW,
        guards=guards,
    )


def changed(policy: Policy, **more: Any) -> Policy:
    """The shipped policy with parts of it replaced, read as from a file."""
    return Policy.model_validate({**policy.model_dump(), **more})


def lines(one: Shown) -> list[str]:
    """The page without its line breaks within a sentence."""
    out: list[str] = []
    for line in as_text(one).splitlines():
        if line.startswith(" " * 18) and out:
            out[-1] += " " + line.strip()
        else:
            out.append(" ".join(line.split()))
    return out


def test_a_class_in_auto_reads_as_what_it_does(policy: Policy, library: Library) -> None:
    """engine.hang: one step, one increment, nobody asked, and what becomes of it."""
    text = lines(shown("engine.hang", policy, library, sample="not asked"))

    assert text[0] == "engine.hang on an endpoint: The engine accepts work and makes no tokens."
    assert text[1].startswith("AUTO: the gates decide")
    assert text[2] == f"policy {policy.ref}; runbook engine_hang.yaml: Take the hung engine out of rotation"
    first = text.index(
        "1. isolate_endpoint (restorable) acts by itself: takes pool-a-0.example:8000 out of rotation in pool-a"
    )
    assert text[first + 1 : first + 7] == [
        "increments 1, each checked and proven: pool-a-0.example:8000 out of rotation in pool-a",
        "limits max_endpoints_down 1, max_share_down 0.5, max_acts_per_hour 6, attempts 2, cooldown_s 3600",
        "proven by route_generation >= 1 and error_rate <= 0.05 for 6 s, within 45 s",
        "worse the last increment is taken back, then the next step",
        "cannot tell it stays, and people are told and own it",
        "afterwards put back at once when the fault has been gone for 20 s",
    ]
    assert "Nobody is asked. When no step helps or may act, people are paged." in text


def test_a_class_that_asks_says_whom_and_what_cannot_be_taken_back(policy: Policy, library: Library) -> None:
    """infra.gpu_fault: a drain, then a reset that needs a named person, each as the gates themselves say."""
    named = changed(
        policy, groups={"sre-oncall": ("ana", "bo")}, classes={"infra.gpu_fault": {"quorum": 2, "never": ("Bo",)}}
    )
    one = shown("infra.gpu_fault", named, library, "gpu")
    text = lines(one)

    assert [(s.lever, s.kind.value, s.outcome) for s in one.steps] == [
        ("rebalance_nodes", "restorable", "ask"), ("reset_gpu", "irreversible", "ask"), ("page", "harmless", "allow"),
    ]  # fmt: skip
    assert one.steps[0].increments[0] == "cordon node-1, which has 4 replica(s)"
    assert len(one.steps[0].increments) == 5
    assert {"max_nodes_out", "max_gpus", "max_endpoints_down"} < set(
        one.steps[0].limits
    )  # the cordon's and the evictions'
    assert one.steps[0].back.startswith("then the next step, also when it helped; put back at once")
    assert "gates G6 ask: reset_gpu cannot be taken back: a named, verified person must approve" in text
    assert "Who approves: 2 of sre-oncall (ana)" in text
    assert "never Bo; not who reported the fault; verified senders only" in text
    assert any(line.startswith("asked for 30 min. When nobody decides, people are paged") for line in text)
    assert "worse cannot be taken back: people are told and own it" in text
    assert text[-1] == "The class has runbooks for other targets too: --target endpoint, node, service, cluster"


def test_nothing_is_said_that_the_gates_do_not_say(policy: Policy, library: Library) -> None:
    """For every class and kind of the catalogue: each verdict on the page is the real judge's."""
    fleet = sample_fleet()
    for runbook in library.runbooks.values():
        for name in runbook.applies_to:
            kind = TargetKind(name)
            target = targets_of_kind(fleet, kind)[0]
            one = shown(runbook.failure_class, policy, library, name)
            steps, _ = planned_steps(
                runbook, detection_of(target, NOW), library=library, policy=policy, fleet=fleet, now=NOW
            )
            assert [s.id for s in one.steps] == [s.id for s in steps]
            for said, step in zip(one.steps, steps, strict=True):
                if said.lever == "page":
                    continue
                world = World.of(fleet, step, target, NOW)
                change = world.plan(policy)
                verdict = judge(world.question(change, runbook.failure_class, policy), world.facts(change))
                against = {f"{g.gate} {g.outcome}: {g.reason}" for g in verdict.gates if g.outcome != "allow"}
                assert against <= set(said.because), (runbook.failure_class, said.id)
                assert said.outcome != "deny", (runbook.failure_class, said.because)


def test_every_gate_is_there_in_its_own_words(policy: Policy, library: Library) -> None:
    """Sixteen, in order, each with the first sentence of its docstring; what stops one is found by asking it."""
    one = shown("engine.crash", policy, library, "service")
    stops = {(s.gate, s.outcome, s.words) for g in one.gates for s in g.stops}

    assert [g.gate for g in one.gates] == [f"G{n}" for n in range(1, 17)]
    for told, gate in zip(one.gates, GATES, strict=True):
        assert " ".join((gate.__doc__ or "").split()).startswith(told.about)
    for wanted in (
        ("G1", "deny", "the evidence is old"), ("G2", "deny", "the domain's hourly budget is spent"),
        ("G3", "deny", "whoever gets the load has no room"), ("G4", "hold", "the domain is halted"),
        ("G5", "deny", "too few endpoints answer"), ("G8", "deny", "somebody changed it meanwhile"),
        ("G9", "deny", "what verify would measure is unknown"), ("G10", "deny", "it did not help this target lately"),
        ("G11", "deny", "its control plane runs on what is sick"),
        ("G12", "deny", "the pools are of different residencies"), ("G13", "deny", "many targets are sick at once"),
        ("G14", "hold", "a halt ended after it was planned"), ("G16", "hold", "the fault is gone"),
    ):  # fmt: skip
        assert wanted in stops


def test_an_unknown_fact_asks_only_where_policy_says_so(policy: Policy, library: Library) -> None:
    """`ask_on_unknown` moves a gate from the one line to the other."""
    asking = changed(policy, ask_on_unknown=("G3",))
    before, after = (lines(shown("engine.hang", p, library)) for p in (policy, asking))

    assert not [line for line in before if line.startswith("unknown: asks")]
    assert [line for line in after if line.startswith("unknown: asks")] == [
        "unknown: asks the state of the pools (G3); the Guard (G3)"
    ]


def test_a_freeze_that_holds_now_is_told_where_it_stops_something(policy: Policy, library: Library) -> None:
    """A hotfix is a change and is refused, a rollback is none; by G15's own word."""
    frozen = changed(
        policy,
        freezes=[
            {
                "name": "xmas",
                "starts": NOW - timedelta(hours=1),
                "ends": NOW + timedelta(hours=1),
                "reason": "few people",
            }
        ],
    )
    one = shown("engine.bad_output", frozen, library, "service")
    text = lines(one)

    refused = next(s for s in one.steps if s.lever == "rollout_hotfix")
    assert refused.outcome == "deny"
    assert any(b.startswith("G15 deny: changes are frozen in sample") for b in refused.because)
    assert next(s for s in one.steps if s.lever == "rollback_change").outcome == "ask"
    assert any(
        line.startswith("Freeze in sample: xmas until 2026-11-24 13:00 (few people): changes are refused")
        for line in text
    )


def test_what_the_guard_says_now_is_on_the_page(policy: Policy, library: Library) -> None:
    """Halted, and what is left of the hour's budgets; the step says what it would meet at this moment."""
    view = GuardView(
        domain="sample", halted="halted by ana: drill", acts_last_hour=7, spent=Spent(endpoints={"pool-a": 3}, nodes=1)
    )
    one = shown("engine.hang", policy, library, sample=view)
    text = lines(one)

    assert one.domains[0].left == {
        "endpoints_per_hour": "37 of 40", "nodes_per_hour": "3 of 4", "gpus_per_hour": "64 of 64",
        "share_per_hour": "4 of 4", "breaker_acts": "53 of 60",
    }  # fmt: skip
    assert one.steps[0].now.startswith(
        "G2 deny: 7 acts in the last hour; the limit is 6; G4 hold: halted by ana: drill"
    )
    assert "Guard of sample: halted by ana: drill; 0 change(s) stand, 0 wait" in text
    assert any(line.startswith("RIGHT NOW G2 deny: 7 acts") for line in text)


def test_a_guard_that_could_not_be_asked_is_said_so(policy: Policy, library: Library) -> None:
    """No budget is invented."""
    one = shown("engine.hang", policy, library, sample="because Temporal does not answer")

    assert one.domains[0].view is None
    assert one.domains[0].left == {}
    assert "Guard of sample: budgets left are not known, because Temporal does not answer" in lines(one)


def test_a_step_in_two_domains_hears_the_guards_of_both(policy: Policy, library: Library, fleet: Fleet) -> None:
    """A reroute from west to east is held by a halt of east; and nothing is said of now when one of them is silent."""
    west, east = GuardView(domain="west"), GuardView(domain="east", halted="halted by ana: drill")
    both = shown("engine.crash", policy, library, "service", fleet, west=west, east=east)
    one = shown("engine.crash", policy, library, "service", fleet, west="it is away", east=east)

    assert both.steps[0].now == "G4 hold: halted by ana: drill"
    assert one.steps[0].now == ""


def test_what_did_not_help_here_is_refused_now(policy: Policy, library: Library) -> None:
    """G10's memory is of the target, class and lever that are shown."""
    target = shown("engine.hang", policy, library).target
    what = remedy("isolate_endpoint", target, "engine.hang")
    view = GuardView(domain="sample", ineffective={what: NOW + timedelta(minutes=5)})

    assert "G10 deny: isolate_endpoint did not help" in shown("engine.hang", policy, library, sample=view).steps[0].now


def test_observe_says_that_it_touches_nothing(policy: Policy, library: Library) -> None:
    """The mode comes first."""
    text = lines(shown("engine.crash", changed(policy, classes={"engine.crash": {"mode": "observe"}}), library))

    assert text[1] == "OBSERVE: it decides and records, and touches nothing"
    assert any(line.startswith("1. isolate_endpoint (restorable) would act (observed only):") for line in text)
    assert "Nobody is asked: nothing is touched. When no step helps or may act, people are paged." in text


def test_a_large_move_asks_people_also_in_auto(policy: Policy, library: Library) -> None:
    """`ask_over_share` is G7's to read: the second increment is asked about, when only it is too large."""
    auto = changed(
        policy,
        classes={"engine.crash": {"mode": "auto"}},
        levers={**policy.model_dump()["levers"], "reroute_traffic": {"ask_over_share": 0.2}},
    )
    one = shown("engine.crash", auto, library, "service")

    assert one.steps[0].outcome == "ask"
    assert one.people is not None
    assert "ask_over_share" in one.steps[0].limits


def test_a_step_that_this_fleet_cannot_take_is_told(policy: Policy, library: Library, fleet: Fleet) -> None:
    """Pools that no cluster runs cannot be rolled back: the plan leaves it out, and so it is said."""
    one = shown("engine.crash", policy, library, "service", fleet, west="x", east="x")

    assert [s.lever for s in one.steps] == ["reroute_traffic", "page"]
    assert one.left_out[0].startswith("step 2: pool pool-a has no `workload` in the fleet")
    assert [d.domain for d in one.domains] == ["east", "west"]


def test_a_pool_of_one_is_refused_even_when_all_is_well(policy: Policy, library: Library) -> None:
    """The only replica may not go: people see it before the incident does."""
    alone = CLUSTERED.model_copy(update={"pools": tuple(reversed(CLUSTERED.pools))})
    one = shown("engine.hang", policy, library, "endpoint", alone)

    assert one.steps[0].outcome == "deny"
    assert any(line.startswith("1. isolate_endpoint (restorable) REFUSED even when all is well") for line in lines(one))


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("engine.hnag", "", "there is no failure class 'engine.hnag'; did you mean engine.hang?"),
        (
            "engine.hang",
            "gpu",
            "there is no runbook for engine.hang on a gpu, so it would only page; there is one for endpoint",
        ),
    ],
)
def test_what_cannot_be_shown_is_one_sentence(policy: Policy, library: Library, name: str, kind: str, why: str) -> None:
    """No such class; no such runbook."""
    with pytest.raises(NothingToShow) as error:
        shown(name, policy, library, kind)

    assert str(error.value) == why


def test_a_fleet_without_such_a_target_is_said_so(policy: Policy, library: Library, fleet: Fleet) -> None:
    """A fleet of proxies has no GPUs."""
    with pytest.raises(NothingToShow, match="the fleet has no gpu"):
        shown("infra.gpu_fault", policy, library, "gpu", fleet)


def test_every_class_can_be_shown(policy: Policy, library: Library) -> None:
    """All of the taxonomy, on every kind that it has a runbook for, and as JSON and back."""
    for one in library.taxonomy.classes:
        for kind in kinds_of(one.id, library):
            page = shown(one.id, policy, library, kind.value)
            assert Shown.model_validate_json(page.model_dump_json()) == page
            assert max(map(len, as_text(page).splitlines()[4:])) <= 160
