"""What a gate is asked, and how it answers. A gate is a pure function: a Question and Facts give a verdict with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import Field

from runbooks.base import Model, Seconds, Time
from runbooks.change import CannotPlan, Change, NothingToDo
from runbooks.detection import Target
from runbooks.facts import Facts, PoolState, StandingReceipt, Unknown
from runbooks.fleet import Fleet
from runbooks.plan import GateVerdict, PlannedStep
from runbooks.policy import ClassPolicy, LeverPolicy, Policy


class Question(Model):
    """What is asked of the gates."""

    step: PlannedStep
    change: Change | NothingToDo | CannotPlan
    failure_class: str
    target: Target
    workflow_id: str
    increment: int = 0
    purpose: Literal["act", "undo", "restore"]
    alert_age_s: float | None = None
    planned_at: Time
    approved: bool = Field(default=False, description="Named, verified people have approved exactly this plan.")
    waited_s: Seconds = Field(default=0.0, description="How long this step has been held or queued by now.")
    policy: Policy
    fleet: Fleet

    @property
    def for_class(self) -> ClassPolicy:
        """The class's policy."""
        return self.policy.for_class(self.failure_class)

    @property
    def limits(self) -> LeverPolicy:
        """The lever's limits."""
        return self.policy.for_lever(self.step.step.lever)


Gate = Callable[[Question, Facts], GateVerdict]


def say(
    gate: str, outcome: Literal["allow", "ask", "hold", "deny"], reason: str, until: datetime | None = None
) -> GateVerdict:
    return GateVerdict(gate=gate, outcome=outcome, reason=reason, until=until)


def unknown(q: Question, gate: str, what: str, fact: Unknown) -> GateVerdict:
    """Unknown denies. Policy may turn that into Ask for the short list that its type allows, and no other gate."""
    if gate in q.policy.ask_on_unknown and q.approved:
        return say(gate, "allow", f"{what} is unknown ({fact.why}); named people have approved it all the same")
    if gate in q.policy.ask_on_unknown:
        return say(gate, "ask", f"{what} is unknown ({fact.why}); policy asks people")
    return GateVerdict(gate=gate, outcome="deny", reason=f"{what} is unknown: {fact.why}", unknown=True)


def pool_of(q: Question, f: Facts, gate: str, name: str) -> PoolState | GateVerdict:
    if isinstance(f.pools, Unknown):
        return unknown(q, gate, f"the state of pool {name}", f.pools)
    state = f.pools.value.get(name)
    if state is None:
        return unknown(q, gate, f"the state of pool {name}", Unknown(why="it was not measured"))
    return state


def allowed_by_people(q: Question, f: Facts) -> bool:
    """True when named, verified people have approved exactly this plan, and their leave has not ended."""
    a = f.approval
    if a is None or not a.verified or not a.approvers:
        return False
    return a.digest == q.step.envelope.digest and a.expires_at > f.now


def named(standing: Sequence[StandingReceipt]) -> str:
    """What stands already, so that a person sees what counts against him."""
    return f" ({', '.join(f'{s.lever} on {s.target_id} stands' for s in standing[:3])})" if standing else ""
