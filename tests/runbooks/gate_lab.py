"""A small fleet without a cluster, all of it well, to ask gates about; and whole verdicts to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from runbooks.change import Blast, Change
from runbooks.detection import Target
from runbooks.facts import Approval, ControlNow, Facts, FaultNow, GuardView, Known, PoolState, StandingReceipt
from runbooks.fleet import Endpoint, Fleet, Pool, Route, outside
from runbooks.gates.question import Question
from runbooks.levers import IsolateEndpoint
from runbooks.plan import Envelope, GateVerdict, IndicatorQuery, PlannedStep
from runbooks.policy import ClassPolicy, LeverPolicy, Policy, Timing
from runbooks.safety import GATES
from runbooks.schema import Criterion, RestoreRule, Verify

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SICK = "a-1:8000"
KEY = f"endpoint/pool-a/{SICK}"


def known(value: Any, age_s: float = 0.5) -> Any:
    """A fact of half a second ago."""
    return Known(value=value, observed_at=NOW - timedelta(seconds=age_s))


def pool(name: str, answering: int | None = 3, load: float | None = 40.0, endpoints: int = 4) -> PoolState:
    """Four endpoints of 30 tokens/s; the sick one does not answer."""
    capacity = 30.0 * (answering or 0)
    return PoolState(
        pool=name, endpoints=endpoints, in_rotation=endpoints, answering=answering, capacity_tps=capacity, load_tps=load
    )


def facts(**more: Any) -> Facts:
    """Everything known and good: the fault holds, three of four answer, the domain is free."""
    base: dict[str, Any] = {
        "now": NOW,
        "evidence_at": known(NOW - timedelta(seconds=1)),
        "fault": known(FaultNow(holds=True, detail="no token")),
        "before": known({KEY: "in"}),
        "pools": known({"pool-a": pool("pool-a"), "pool-b": pool("pool-b", 4)}),
        "guard": known(GuardView(domain="lab")),
        "verifier": known({"route_generation": 1.0}),
        "skew_s": known(0.0),
        "control": known(ControlNow(kind="traffic", answered_in_s=0.1)),
    }
    return Facts(**{**base, **more})


ENVELOPE = Envelope(
    step_id="1", lever="isolate_endpoint", targets=("t",), direction="out", largest_share=0.5, largest_endpoints=1
)
STEP = PlannedStep(
    id="1",
    step=IsolateEndpoint(pool="pool-a", endpoint=SICK),
    targets=("t",),
    domains=("lab",),
    verify=Verify(criteria=(Criterion(indicator="route_generation", above=1.0),)),
    indicators=(IndicatorQuery(name="route_generation", source="probe", query="chat", unit="ok"),),
    on_cannot_tell="undo",
    restore=RestoreRule(),
    envelope=ENVELOPE,
)
FLEET = Fleet(
    routes=(Route(name="chat", pools=("pool-a", "pool-b"), tiers=("batch",)),),
    pools=tuple(
        Pool(
            name=p, cluster="lab", dialect="vllm", tokens_per_second=30.0,
            endpoints=tuple(Endpoint(address=f"{p[-1]}-{n}:8000") for n in range(1, 5)),
        )
        for p in ("pool-a", "pool-b")
    ),
    controls=outside("lab"),
)  # fmt: skip


def policy(rule: ClassPolicy | None = None, **more: Any) -> Policy:
    """engine.hang auto; quick times."""
    base: dict[str, Any] = {
        "name": "test",
        "classes": {"engine.hang": rule or ClassPolicy(mode="auto")},
        "levers": {"isolate_endpoint": LeverPolicy()},
        "timing": Timing(scrape_period_s=2.5),
    }
    return Policy(**{**base, **more})


def change(**blast: Any) -> Change:
    """The endpoint goes out; or another blast."""
    return Change(
        before={KEY: "in"}, after={KEY: "out"}, blast=Blast(**(blast or {"endpoints_down": {"pool-a": 1}})), last=True
    )


def question(**more: Any) -> Question:
    """May the sick endpoint be isolated?"""
    base: dict[str, Any] = {
        "step": STEP, "change": change(), "failure_class": "engine.hang", "workflow_id": "me", "purpose": "act",
        "target": Target(cluster="lab", service="pool-a", endpoint=SICK), "alert_age_s": 1.0, "planned_at": NOW - timedelta(seconds=1),
        "policy": policy(), "fleet": FLEET,
    }  # fmt: skip
    return Question(**{**base, **more})


def standing(**more: Any) -> Any:
    """A Guard that knows of one standing receipt."""
    receipt = StandingReceipt(receipt_id="r", case="c", lever="isolate_endpoint", target_id="t", since=NOW, **more)
    return known(GuardView(domain="lab", standing=(receipt,)))


def approval(**more: Any) -> Approval:
    """By ana, verified, for this plan."""
    base: dict[str, Any] = {
        "digest": ENVELOPE.digest, "approvers": ("ana",), "verified": True, "expires_at": NOW + timedelta(minutes=1),
    }  # fmt: skip
    return Approval(**{**base, **more})


HOLD_S = 10.0
"""How long a Hold of the policy above lasts."""
Row = tuple[GateVerdict, Question, Facts]
BY_ID = {gate.__name__.partition("_")[0].upper(): gate for gate in GATES}


def verdict(gate: str, outcome: Literal["allow", "ask", "hold", "deny"], reason: str, **more: Any) -> GateVerdict:
    """The whole answer of one gate. Unless it says otherwise it is neither unknown nor lasting, and a Hold ends in 10 s."""
    until = NOW + timedelta(seconds=HOLD_S) if outcome == "hold" else None
    return GateVerdict(**{"gate": gate, "outcome": outcome, "reason": reason, "until": until, **more})


def table(*rows: Row) -> pytest.MarkDecorator:
    """Parametrizes a test over rows of what the gate must say, to which question, on which facts."""
    ids = [f"{v.gate}-{v.outcome}-{v.reason[:70]}" for v, _, _ in rows]
    return pytest.mark.parametrize(("wanted", "asked", "seen"), rows, ids=ids)


def agrees(wanted: GateVerdict, asked: Question, seen: Facts) -> None:
    """The gate says exactly this: outcome, reason, until, unknown, lasting."""
    assert BY_ID[wanted.gate](asked, seen) == wanted


def together(*tables: Sequence[Row]) -> list[Row]:
    """Tables, one after the other."""
    return [row for rows in tables for row in rows]
