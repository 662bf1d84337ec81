"""All gates together: the worst counts, and none of them lets an Unknown pass."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbooks.base import Model
from runbooks.facts import Facts, FaultNow, GuardView, Unknown
from runbooks.gates.question import Gate, Question
from runbooks.levers import RolloutHotfix
from runbooks.plan import GateVerdict
from runbooks.policy import ClassPolicy
from runbooks.safety import GATES, judge
from tests.runbooks import gate_cluster as k
from tests.runbooks.gate_lab import BY_ID, HOLD_S, NOW, STEP, approval, change, facts, known, policy, question

X = Unknown(why="gone")
ASKABLE = ("G2", "G3", "G8", "G9", "G10", "G13", "G15")
NEVER = {"G1", "G4", "G5", "G11", "G12", "G14", "G16"}
NEEDS = {
    "evidence_at": {"G1"},
    "skew_s": {"G1"},
    "fault": {"G16"},
    "before": {"G8"},
    "pools": {"G3", "G5"},
    "guard": {"G2", "G3", "G4", "G10", "G13", "G14"},
    "verifier": {"G9"},
    "control": {"G11"},
    "dependencies": {"G3"},
    "error_budget": {"G15"},
}
"""Fact → the gates that need it. An act that nothing is known about is refused by every one of them."""
MOVE = {"share_moved": {"chat": 0.2}, "reserved_tps": {"pool-b": 30.0}}
ROLLOUT = STEP.model_copy(update={"step": RolloutHotfix(rings=(("pool-a",),), image="e:2")})
HELD: dict[str, Any] = {"guard": known(GuardView(domain="lab"))}
ACTS: dict[str, tuple[Question, Facts, set[str]]] = {
    "isolate": (question(), facts(), set(NEEDS) - {"dependencies", "error_budget"}),
    "reroute": (question(change=change(**MOVE)), facts(), set(NEEDS) - {"dependencies", "error_budget"}),
    "rollout": (question(step=ROLLOUT, change=change(restarting={"pool-a": 1})),
                facts(error_budget=known(1.0)), set(NEEDS) - {"dependencies"}),
    "drain": (k.ask(k.DRAIN, k.EVICT), k.facts(), set(NEEDS) - {"dependencies", "error_budget"}),
    "grow": (k.ask(k.GROW, {"gpus": 2}), k.facts(), set(NEEDS) - {"pools", "error_budget"}),
}  # fmt: skip
"""An act that all gates allow, and the facts that it rests on."""


def said(gate: str, q: Question, f: Facts) -> tuple[str, str]:
    """One gate's outcome and reason."""
    found = BY_ID[gate](q, f)
    return found.outcome, found.reason


@pytest.mark.parametrize("act", list(ACTS))
def test_each_act_is_allowed_while_everything_is_known(act: str) -> None:
    """Else the next test would prove nothing."""
    q, f, _ = ACTS[act]
    assert judge(q, f).outcome == "allow", judge(q, f).because()


@settings(deadline=None, max_examples=60)
@given(
    act=st.sampled_from(sorted(ACTS)),
    lost=st.sets(st.sampled_from(sorted(NEEDS)), min_size=1),
    listed=st.sets(st.sampled_from(ASKABLE)),
)
def test_an_unknown_fact_denies_in_every_gate_that_needs_it_and_asks_only_where_policy_lists_it(
    act: str, lost: set[str], listed: set[str]
) -> None:
    """Over all facts, all gates, and all lists that policy may hold. The others judge what they know."""
    q, f, rests_on = ACTS[act]
    rules = q.policy.model_copy(update={"ask_on_unknown": tuple(sorted(listed))})
    found = judge(q.model_copy(update={"policy": rules}), f.model_copy(update=dict.fromkeys(lost & rests_on, X)))
    needy = {g for fact in lost & rests_on for g in NEEDS[fact]}
    for gate in found.gates:
        if gate.gate not in needy:
            assert gate.outcome == "allow", gate
        elif gate.gate in listed:
            assert (gate.outcome, gate.unknown) == ("ask", False), gate
        else:
            assert (gate.outcome, gate.unknown, gate.lasting) == ("deny", True, False), gate
            assert "unknown" in gate.reason or "could not be asked" in gate.reason
    assert found.may_pass == bool(needy - listed)
    assert not needy & NEVER or found.outcome == "deny"


def test_the_list_of_what_may_ask_holds_none_of_those_that_never_may() -> None:
    """By its type: no policy file can put one there."""
    for gate in sorted(NEVER):
        with pytest.raises(ValueError, match="ask_on_unknown"):
            policy(ask_on_unknown=(gate,))
    assert set(policy(ask_on_unknown=ASKABLE).ask_on_unknown) == set(ASKABLE)


def test_with_nothing_known_an_act_is_denied_and_an_undo_of_a_known_state_is_not() -> None:
    """Undo needs the before-state, the Guard, its control and fresh facts; not the fault, the verifier or the pools."""
    nothing = dict.fromkeys(NEEDS, X)
    assert judge(question(), facts(**nothing)).outcome == "deny"
    kept = {n: v for n, v in nothing.items() if n not in ("before", "guard", "control")}
    assert judge(question(purpose="undo"), facts(**kept)).outcome == "allow"
    assert judge(question(purpose="undo"), facts(**nothing)).outcome == "deny"


def test_a_denial_by_a_known_fact_is_not_worth_asking_again() -> None:
    """Only when everything that denies is unknown."""
    q = question(alert_age_s=3600.0)
    assert not judge(q, facts(fault=Unknown(why="gone"))).may_pass


def test_the_worst_gate_counts_and_every_gate_answers_under_its_own_number() -> None:
    """deny > hold > ask > allow; an SRE sees all reasons, in order."""
    asking = policy(ClassPolicy(mode="ask"))
    held = facts(fault=known(FaultNow(holds=False, detail="ok")))
    assert judge(question(policy=asking), facts()).outcome == "ask"
    assert judge(question(policy=asking), held).outcome == "hold"
    assert judge(question(policy=asking, alert_age_s=9999.0), held).outcome == "deny"
    assert judge(question(policy=asking), facts(approval=approval())).outcome == "allow"
    assert [g.gate for g in judge(question(), facts()).gates] == [f"G{n}" for n in range(1, 17)]
    assert len(GATES) == 16


def test_a_hold_ends_with_the_last_of_its_gates_and_nothing_else_has_an_end() -> None:
    """The case asks again then, and not before."""
    until = NOW + timedelta(seconds=HOLD_S)
    held = facts(fault=known(FaultNow(holds=False, detail="ok")))
    assert judge(question(), held).until == until
    assert judge(question(), facts()).until is None


def test_what_was_held_longest_ends_last_and_a_denial_after_a_hold_is_a_denial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the gates' order."""
    halted = facts(guard=known(GuardView(domain="lab", halted="by ana")), before=known({}))
    assert judge(question(), halted).outcome == "deny"

    def says(outcome: Any, until: float | None = None) -> Gate:
        at = None if until is None else NOW + timedelta(seconds=until)
        return lambda q, f: GateVerdict(gate="G", outcome=outcome, reason="", until=at)

    monkeypatch.setattr(
        "runbooks.safety.GATES", (says("hold", 5), says("allow", 20), says("hold", 9), says("hold"), says("ask", 30))
    )
    found = judge(question(), facts())
    assert (found.outcome, found.until) == ("hold", NOW + timedelta(seconds=9))


def test_every_verdict_names_its_policy() -> None:
    """Name, version and hash: which rules were these?"""
    rules = policy()
    assert judge(question(policy=rules), facts()).policy == rules.ref


def test_facts_are_frozen_models() -> None:
    """A judge cannot be handed a picture that changes while it judges."""
    assert isinstance(facts(), Model)


@pytest.mark.parametrize("rejoined", [None, k.rejoin(ok=False, why="x")], ids=["unchecked", "failed"])
def test_an_undo_of_a_drain_does_not_wait_for_a_check_under_load(rejoined: Any) -> None:
    """Undo returns to what stood before, at once: the drain did harm."""
    found = judge(k.ask(k.DRAIN, {}, purpose="undo"), k.facts(rejoin=rejoined, fault=Unknown(why="not needed")))
    assert found.outcome == "allow", found.because()


def test_the_small_cluster_lets_a_dead_node_be_drained_and_asks_before_a_reboot() -> None:
    """All gates together: the tables change one thing at a time from here."""
    assert judge(k.ask(k.DRAIN, k.CORDON), k.facts()).outcome == "allow"
    assert judge(k.ask(k.GROW, {"gpus": 2}), k.facts()).outcome == "allow"
    assert judge(k.ask(k.REBOOT, k.CORDON), k.facts()).outcome == "ask"
