"""A check judged again from what a record keeps comes out as the real gates would have it, or is said to be untold."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runbooks.change import Change
from runbooks.detection import TargetKind
from runbooks.facts import Facts, GuardView, Known
from runbooks.plan import PlannedStep, Verdict
from runbooks.planning import planned_steps
from runbooks.policy import ClassPolicy, LeverPolicy, Policy
from runbooks.policy_sample import World, detection_of, targets_of_kind
from runbooks.safety import judge
from tests.worker.report_cases import FIRST, FLEET, LIBRARY, no_fault, no_room
from worker.backtest_healthy import g5_again
from worker.backtest_judge import Again, judge_again
from worker.backtest_seen import Seen

CASES = (
    ("engine.hang", TargetKind.ENDPOINT),
    ("engine.crash", TargetKind.SERVICE),
    ("engine.timeout", TargetKind.SERVICE),
    ("engine.exhaustion", TargetKind.SERVICE),
    ("infra.node_down", TargetKind.NODE),
    ("infra.gpu_app_fault", TargetKind.ENDPOINT),
    ("engine.bad_output", TargetKind.ENDPOINT),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Anything in which policies differ, but `largest_increment`: the same move is judged under both."""
    rule = ClassPolicy(
        mode=draw(st.sampled_from(("observe", "ask", "auto"))),
        quorum=draw(st.integers(1, 3)),
        approvers=draw(st.sampled_from(("sre-oncall", "leads"))),
    )
    limits: dict[str, Any] = {
        "max_endpoints_down": draw(st.integers(0, 3)),
        "max_share_down": draw(st.sampled_from((0.1, 0.5, 1.0))),
        "max_acts_per_hour": draw(st.integers(0, 4)),
        "attempts": draw(st.integers(1, 3)),
        "ask_over_share": draw(st.sampled_from((0.0, 0.2, 1.0))),
        "unattended": draw(st.booleans()),
        "max_nodes_out": draw(st.integers(0, 2)),
    }
    lever = LeverPolicy(largest_increment=0.25, **limits)
    names = (
        "reroute_traffic",
        "isolate_endpoint",
        "recycle_connections",
        "shed_load",
        "rebalance_nodes",
        "restart_engine",
    )
    return Policy(
        name=draw(st.sampled_from(("a", "b"))),
        default=rule,
        levers=dict.fromkeys(names, lever),
        min_answering=draw(st.sampled_from((0.25, 0.5, 0.75, 1.0))),
        ask_on_unknown=draw(st.sampled_from(((), ("G3",)))),
        timing={"control_answer_s": draw(st.sampled_from((0.05, 2.0)))},  # type: ignore[arg-type]
    )


def step_of(failure_class: str, kind: TargetKind, rule: Policy) -> tuple[PlannedStep, World]:
    """The first step of the class's runbook, where all is well but one target."""
    target = targets_of_kind(FLEET, kind)[0]
    found = LIBRARY.pick(failure_class, kind)
    assert found is not None
    sample = detection_of(target, FIRST)
    steps, _ = planned_steps(found[1], sample, library=LIBRARY, policy=rule, fleet=FLEET, now=FIRST)
    return steps[0], World.of(FLEET, steps[0], target, FIRST)


def told(name: str, facts: Facts) -> Facts:
    return {"well": lambda f: f, "no room": no_room, "no fault": no_fault}[name](facts)


def seen_of(world: World, step: PlannedStep, name: str, verdict: Verdict, change: Change, done: bool) -> Seen:
    return Seen(
        step.step.lever, world.target, name, f"remediate:{world.target.id}", FIRST, (world.target.domain,), 0, verdict,
        change.blast if done else None,
    )  # fmt: skip


@given(
    st.sampled_from(CASES), st.sampled_from(("well", "no room", "no fault")), policies(), policies(), st.integers(0, 3)
)
@settings(max_examples=300, deadline=None)
def test_what_is_judged_again_is_what_the_gates_would_have_said(
    case: tuple[str, TargetKind], fact: str, a: Policy, b: Policy, acts: int
) -> None:
    """The record is of policy A; B is asked by backtest, and by the real gates with the facts that no record keeps."""
    name, kind = case
    step, world = step_of(name, kind, a)
    change = world.plan(a)
    assume(isinstance(change, Change))
    assert isinstance(change, Change)
    view = GuardView(domain=world.target.domain, acts_last_hour=acts)

    def really(rule: Policy) -> Verdict:
        _, world = step_of(name, kind, rule)  # its envelope is made of its limits
        facts = told(fact, world.facts(change)).model_copy(update={"guard": Known(value=view, observed_at=FIRST)})
        return judge(world.question(change, name, rule), facts)

    recorded = really(a)
    seen = seen_of(world, step, name, recorded, change, done=recorded.outcome in ("allow", "ask"))
    mine = judge_again(seen, a, b, lambda _: view, FLEET)
    theirs = judge_again(seen, b, a, lambda _: view, FLEET)

    assert mine.unsure == () or mine.outcome == "deny" or set(mine.unsure) == {"G7"}
    if not mine.unsure:
        assert mine.outcome == recorded.outcome
    _agrees(theirs, really(b))


def _agrees(again: Again, real: Verdict) -> None:
    """Gate by gate, where it says anything; a deny that it is sure of is a deny.

    Whether G7 finds the change within the envelope of the other policy's plan is G2's question as well.
    """
    kept = {g.gate: g.outcome for g in real.gates}
    for gate in again.gates:
        assert gate.outcome == kept[gate.gate] or (gate.gate, kept["G7"], kept["G2"]) == ("G7", "deny", "deny"), gate
    assert {g.gate for g in again.gates} | set(again.unsure) == set(kept)
    if not again.unsure or again.outcome == "deny":
        assert again.outcome == real.outcome


def test_it_does_tell_something() -> None:
    """The property above would hold for one that is never sure: of these changes nothing is untold."""
    a = Policy(name="a", default=ClassPolicy(mode="ask"))
    step, world = step_of("engine.hang", TargetKind.ENDPOINT, a)
    change = world.plan(a)
    assert isinstance(change, Change)
    seen = seen_of(
        world, step, "engine.hang", judge(world.question(change, "engine.hang", a), world.facts(change)), change, True
    )
    for update, outcome in (
        ({"default": ClassPolicy(mode="auto")}, "allow"),
        ({"default": ClassPolicy(mode="auto"), "min_answering": 1.0}, "deny"),
        ({"levers": {"isolate_endpoint": LeverPolicy(max_endpoints_down=0)}}, "deny"),
        ({"default": ClassPolicy(mode="observe")}, "allow"),
    ):
        again = judge_again(seen, a.model_copy(update=update), a, lambda _: GuardView(domain="sample"), FLEET)

        assert (again.outcome, again.unsure) == (outcome, ()), update


def test_books_that_do_not_say_what_the_judge_said_are_not_believed() -> None:
    """The record says that the hour was full; the journal has no act in it: under more room nobody can tell."""
    a = Policy(
        name="a", default=ClassPolicy(mode="auto"), levers={"isolate_endpoint": LeverPolicy(max_acts_per_hour=2)}
    )
    step, world = step_of("engine.hang", TargetKind.ENDPOINT, a)
    change = world.plan(a)
    assert isinstance(change, Change)
    full = world.facts(change, GuardView(domain="sample", acts_last_hour=2))
    verdict = judge(world.question(change, "engine.hang", a), full)
    seen = seen_of(world, step, "engine.hang", verdict, change, done=True)
    b = a.model_copy(update={"levers": {"isolate_endpoint": LeverPolicy(max_acts_per_hour=3)}})

    assert verdict.outcome == "deny"
    assert judge_again(seen, b, a, lambda _: GuardView(domain="sample"), FLEET).unsure == ("G2",)
    assert judge_again(seen, b, a, lambda _: GuardView(domain="sample", acts_last_hour=2), FLEET).unsure == ()


def test_a_share_of_a_pool_whose_size_is_not_known_is_not_judged() -> None:
    """G2 is unsure without the fleet and denies with it: a guess must not look like a verdict."""
    a = Policy(name="a", default=ClassPolicy(mode="auto"), levers={"isolate_endpoint": LeverPolicy(max_share_down=0.5)})
    b = a.model_copy(update={"levers": {"isolate_endpoint": LeverPolicy(max_share_down=0.1)}})
    step, world = step_of("engine.hang", TargetKind.ENDPOINT, a)
    change = world.plan(a)
    assert isinstance(change, Change)
    verdict = judge(world.question(change, "engine.hang", a), world.facts(change))
    seen = seen_of(world, step, "engine.hang", verdict, change, done=True)
    view = GuardView(domain="sample")

    assert judge_again(seen, b, a, lambda _: view, None).unsure == ("G2",)
    assert judge_again(seen, b, a, lambda _: view, FLEET).outcome == "deny"


def test_the_words_of_g5_are_read_for_every_lever_of_these_cases() -> None:
    """Words that it cannot read would make every change of the minimum untold."""
    a = Policy(name="a", min_answering=0.25)
    forms = set()
    for name, kind in CASES:
        step, world = step_of(name, kind, a)
        change = world.plan(a)
        assert isinstance(change, Change)
        kept = next(g for g in judge(world.question(change, name, a), world.facts(change)).gates if g.gate == "G5")
        forms.add(re.sub(r"\d+", "N", kept.reason.split("; ")[0]).replace("pool-a", "P").replace("pool-b", "P"))

        assert g5_again(kept, a) == kept, kept.reason
        assert step.step.lever
    assert forms == {
        "no endpoint is taken out",
        "N of N in P go on answering (minimum N)",
        "N of N in P answer meanwhile (minimum N)",
        "N of N answer in receiving P",
    }
