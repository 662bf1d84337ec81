"""A check as a record keeps it, as the question that the real gates are asked again. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from runbooks.change import Blast, Change, NothingToDo
from runbooks.detection import Target
from runbooks.facts import Facts, GuardView, Known, Unknown
from runbooks.fleet import Endpoint, Fleet, Pool, Workload
from runbooks.gates.question import Question
from runbooks.levers import ClusterStep, NodeStep, ProxyStep
from runbooks.plan import Envelope, PlannedStep, Verdict
from runbooks.policy import Policy
from runbooks.schema import RestoreRule

STEPS: dict[str, Any] = {
    cls.model_fields["lever"].default: cls for union in (ProxyStep, ClusterStep, NodeStep) for cls in union.__args__
}
"""Lever → its model."""
MANY = 10**6
"""Replicas of a pool whose size is not known: a share of them is never the reason."""


class Seen(NamedTuple):
    """One check, and what its act then took; `blast` None: it was not done."""

    lever: str
    target: Target
    failure_class: str
    workflow_id: str
    at: datetime
    domains: tuple[str, ...]
    increment: int
    verdict: Verdict
    blast: Blast | None

    def judged_by(self, *policies: Policy) -> Policy | None:
        """Whichever of these it was that judged it; None: another."""
        return next((p for p in policies if self.verdict.policy.endswith(f"@{p.digest}")), None)


def question(seen: Seen, rule: Policy, fleet: Fleet | None) -> Question:
    """Of a step, the gates that are asked again read its kind, its domains and its envelope."""
    blast = seen.blast
    change = NothingToDo(why="not done") if blast is None else Change(before={}, after={}, blast=blast, last=True)
    most = blast or Blast()
    envelope = Envelope(
        step_id="",
        lever=seen.lever,
        targets=(),
        direction="",
        largest_share=min(1.0, most.largest_share),
        largest_endpoints=most.endpoints,
        largest_nodes=len(most.nodes),
        largest_gpus=most.gpus,
    )
    step = PlannedStep(
        id="",
        step=STEPS[seen.lever].model_construct(lever=seen.lever),
        targets=(),
        domains=seen.domains,
        verify=None,
        indicators=(),
        on_cannot_tell="undo",
        restore=RestoreRule(),
        envelope=envelope,
    )
    return Question(
        step=step,
        change=change,
        failure_class=seen.failure_class,
        target=seen.target,
        workflow_id=seen.workflow_id,
        increment=seen.increment,
        purpose="act",
        planned_at=seen.at,
        policy=_in_any_increments(rule, seen.lever),
        fleet=fleet or _endless(most),
    )


def _in_any_increments(rule: Policy, lever: str) -> Policy:
    """`largest_increment` bounds what is planned: under a smaller one the same move goes in more parts, and is not refused."""
    limits = rule.for_lever(lever).model_copy(update={"largest_increment": 1.0})
    return rule.model_copy(update={"levers": {**rule.levers, lever: limits}})


def _endless(blast: Blast) -> Fleet:
    work = Workload(namespace="any", deployment="any", replicas=MANY)
    names = sorted({*blast.endpoints_down, *blast.restarting})
    one = (Endpoint(address="any:1"),)
    pools = [
        Pool(name=n, cluster="any", dialect="vllm", endpoints=one, tokens_per_second=1.0, workload=work) for n in names
    ]
    return Fleet(routes=(), pools=tuple(pools))


def facts(seen: Seen, view: GuardView) -> Facts:
    """What is on record. A gate that wants more would deny: none of those is asked."""
    lost = Unknown(why="not on record")
    return Facts(
        now=seen.at,
        evidence_at=lost,
        fault=lost,
        before=lost,
        pools=lost,
        guard=Known(value=view, observed_at=seen.at),
        verifier=lost,
        skew_s=lost,
        control=lost,
    )
