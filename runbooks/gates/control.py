"""G11: a lever does not go through the very thing that is sick."""

from __future__ import annotations

from runbooks.detection import Target
from runbooks.facts import Facts, Unknown
from runbooks.gates.question import Question, say
from runbooks.levers import ClusterStep, FreezeChanges, NodeStep
from runbooks.plan import GateVerdict
from runbooks.policy import Policy

SICK_BY_CLASS = {"infra.control_plane": "cluster"}
"""Failure classes that are about a control plane itself."""


def control_kind(q: Question) -> str:
    """What the step works through."""
    if isinstance(q.step.step, NodeStep):
        return "node"
    return "cluster" if isinstance(q.step.step, ClusterStep) else "traffic"


def slow(policy: Policy, answered_in_s: float) -> bool:
    """A control plane that answers this late is sick itself."""
    return answered_in_s > policy.timing.control_answer_s


def g11_control_plane(q: Question, f: Facts) -> GateVerdict:
    """The actuator does not depend on the sick plane, and its own control answers in time. Telemetry overloaded the API
    servers, and with them the tools to mend it, in oai-2024-12-11."""
    kind = control_kind(q)
    if isinstance(f.control, Unknown):
        return _unknown(f"whether the {kind} control answers is unknown: {f.control.why}", passing=True)
    if slow(q.policy, f.control.value.answered_in_s):
        most = q.policy.timing.control_answer_s
        why = f"the {kind} control took {f.control.value.answered_in_s:.1f} s to answer; {most:g} s is the most"
        return GateVerdict(gate="G11", outcome="deny", reason=why, unknown=True)  # it may answer faster in a moment
    if q.purpose == "undo":
        return say("G11", "allow", f"the {kind} control answers, and an undo is not kept from trying")
    for domain in q.step.domains or (q.target.domain,):
        found = q.fleet.control(domain, kind)
        if found is None:
            return _unknown(f"the fleet does not say what the {kind} control of {domain} runs on; add it to `controls`")
        for needed in found.runs_on:
            if _carries(q.target, Target.of(needed)) and q.purpose == "act":
                why = f"the {kind} control of {domain} runs on {needed}, which {q.target.id} is or carries, and that is sick"
                return GateVerdict(gate="G11", outcome="deny", reason=why, lasting=True)
        # A freeze only stops what others do: while it can still be written, it is.
        if (
            SICK_BY_CLASS.get(q.failure_class) == kind
            and q.purpose == "act"
            and not isinstance(q.step.step, FreezeChanges)
        ):
            why = f"{q.failure_class} means that the {kind} control itself is sick: nothing is moved through it"
            return GateVerdict(gate="G11", outcome="deny", reason=why, lasting=True)
    return say(
        "G11",
        "allow",
        f"the {kind} control answered in {f.control.value.answered_in_s:.1f} s and does not run on what is sick",
    )


def _carries(sick: Target, needed: Target) -> bool:
    """True when the sick target is what is needed, or has it inside."""
    inner = needed.model_dump()
    return all(inner[k] == v for k, v in sick.model_dump(exclude_none=True).items())


def _unknown(why: str, passing: bool = False) -> GateVerdict:
    """Never asked instead of denied, whatever policy lists."""
    return GateVerdict(gate="G11", outcome="deny", reason=why, unknown=passing, lasting=not passing)
