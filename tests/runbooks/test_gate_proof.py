"""G8 and G9 by tables: the way back is known, and what it did can be proven."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from runbooks.change import CannotPlan, Change, NothingToDo
from runbooks.facts import Facts, FaultNow, Unknown
from runbooks.gates.question import Question
from runbooks.levers import RebalanceNodes
from runbooks.plan import GateVerdict, IndicatorQuery
from runbooks.schema import Criterion, Verify
from tests.runbooks import clusters as c
from tests.runbooks import gate_cluster as k
from tests.runbooks.gate_lab import KEY, STEP, agrees, facts, known, policy, question, table, verdict

X = Unknown(why="x")
TWO = Change(before={KEY: "in", "admit/chat/batch": 100}, after={KEY: "out", "admit/chat/batch": 50}, last=True)
G8 = [
    (verdict("G8", "allow", "1 setting(s) recorded"), question(), facts()),
    (verdict("G8", "allow", "2 setting(s) recorded"), question(change=TWO), facts(before=known({KEY: "in", "admit/chat/batch": 100}))),
    (verdict("G8", "deny", "admit/chat/batch is 99, the change starts from 100"),
     question(change=TWO), facts(before=known({KEY: "in", "admit/chat/batch": 99}))),
    (verdict("G8", "deny", f"{KEY} is 'out', the change starts from 'in'"), question(), facts(before=known({KEY: "out"}))),
    (verdict("G8", "deny", f"{KEY} is None, the change starts from 'in'"), question(), facts(before=known({}))),
    (verdict("G8", "deny", f"{KEY} is 'out', the change starts from 'in'"),
     question(purpose="undo"), facts(before=known({KEY: "out"}))),
    (verdict("G8", "deny", "no safe form"), question(change=CannotPlan(why="no safe form")), facts()),
    (verdict("G8", "deny", "no room", lasting=True), question(change=CannotPlan(why="no room", lasting=True)), facts()),
    (verdict("G8", "allow", "already out"), question(change=NothingToDo(why="already out")), facts()),
    (verdict("G8", "deny", "the before-state is unknown: x", unknown=True), question(), facts(before=X)),
    (verdict("G8", "deny", "the before-state is unknown: x", unknown=True),
     question(change=CannotPlan(why="no room", lasting=True)), facts(before=X)),
    (verdict("G8", "ask", "the before-state is unknown (x); policy asks people"),
     question(policy=policy(ask_on_unknown=("G8",))), facts(before=X)),
]  # fmt: skip


def step(*indicators: IndicatorQuery, **verify: Any) -> Question:
    """A step that is proven so."""
    criteria = tuple(Criterion(indicator=i.name, above=1.0) for i in indicators)
    return question(
        step=STEP.model_copy(update={"indicators": indicators, "verify": Verify(criteria=criteria, **verify)})
    )


def indicator(name: str, source: Any = "prometheus", query: str = "up") -> IndicatorQuery:
    """Of this source."""
    return IndicatorQuery(name=name, source=source, query=query, unit="1")


def back(lever: Any = k.DRAIN, **seen: Any) -> tuple[Question, Facts]:
    """May the drained node return?"""
    gone = k.known(FaultNow(holds=False, detail="node_ready is 1"))
    return k.ask(lever, {}, purpose="restore"), k.facts(fault=gone, **seen)


def aged(seconds: float) -> Any:
    """A check under load of so long ago."""
    return k.rejoin(observed_at=c.NOW - timedelta(seconds=seconds))


PROBE, RATE = indicator("gen", "probe", "chat"), indicator("rate")
ONE = verdict("G9", "allow", "1 indicator(s), soak 10 s")
NO_READING = "what verify will measure is unknown: no reading of {}"
G9 = [
    (ONE, question(), facts()),
    (verdict("G9", "allow", "2 indicator(s), soak 20 s"), step(PROBE, RATE, soak_s=20.0),
     facts(verifier=known({"gen": None, "rate": 1.0}))),
    (ONE, step(indicator("served", "cluster", "replicas_serving")), facts(verifier=known({"served": 1.0}))),
    (verdict("G9", "deny", "the step has no verify"), question(step=STEP.model_copy(update={"verify": None})), facts()),
    (verdict("G9", "deny", "no criterion of the verify is a real generation"),
     question(step=STEP.model_copy(update={"indicators": ()})), facts()),
    (verdict("G9", "deny", "no criterion of the verify is a real generation"), step(RATE), facts(verifier=known({"rate": 1.0}))),
    (verdict("G9", "deny", NO_READING.format("route_generation"), unknown=True), question(), facts(verifier=known({}))),
    (verdict("G9", "deny", NO_READING.format("gen, rate"), unknown=True), step(RATE, PROBE), facts(verifier=known({"up": 1.0}))),
    # So many that no order of a set is theirs by chance.
    (verdict("G9", "deny", NO_READING.format("a, b, c, d, e, f, g, gen"), unknown=True),
     step(PROBE, *(indicator(n) for n in "gfedcba")), facts(verifier=known({"up": 1.0}))),
    (verdict("G9", "ask", "what verify will measure is unknown (no reading of route_generation); policy asks people"),
     question(policy=policy(ask_on_unknown=("G9",))), facts(verifier=known({}))),
    (verdict("G9", "deny", "what verify will measure is unknown: x", unknown=True), question(), facts(verifier=X)),
    (verdict("G9", "ask", "what verify will measure is unknown (x); policy asks people"),
     question(policy=policy(ask_on_unknown=("G9",))), facts(verifier=X)),
    (verdict("G9", "allow", "undo returns to what stood before, and waits for no proof"),
     question(purpose="undo", step=STEP.model_copy(update={"verify": None})), facts(verifier=X)),
    (ONE, k.ask(k.DRAIN, k.CORDON), k.facts()),
    # A node returns only after it made tokens under load.
    (verdict("G9", "deny", "n1 has not been checked under load"), *back()),
    (verdict("G9", "deny", "n1 has not been checked under load"), *back(rejoin=k.rejoin(node="n2"))),
    (verdict("G9", "deny", "n1 failed under load: no token"), *back(rejoin=k.rejoin(ok=False, why="no token"))),
    (verdict("G9", "deny", "the check of n1 under load is 61 s old; 60 s is the most"), *back(rejoin=aged(61))),
    (ONE, *back(rejoin=aged(60))),
    (ONE, *back(rejoin=k.rejoin())),
    (ONE, *back(k.GROW)),
    (verdict("G9", "deny", "n2 has not been checked under load"), *back(RebalanceNodes(node="n2"), rejoin=k.rejoin())),
]  # fmt: skip


@table(*G8, *G9)
def test_the_way_back_and_the_proof_are_there_before_the_act(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """An idle health check proves nothing."""
    agrees(wanted, asked, seen)
