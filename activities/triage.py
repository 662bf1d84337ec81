"""Classify, pick the runbook, plan: pure, recorded in history, so that a later edit cannot change this case."""

from __future__ import annotations

from typing import Literal

from temporalio import activity
from temporalio.exceptions import ApplicationError

from runbooks.detection import Target, TargetKind
from runbooks.fleet import Fleet
from runbooks.library import Library
from runbooks.plan import Classification, Diagnosis, TriageRequest
from runbooks.planning import plan
from runbooks.policy import Policy
from runbooks.taxonomy import UNKNOWN, classify

SURE = 0.9
"""A class with less confidence than this is looked at before anything is done: the rules' own scale, where 0.9 and more is a
measurement that names its cause."""
KEPT = "found before:"


def _kept(before: Classification | None, now: Classification) -> Classification:
    """The case's class so far, unless a rule is at least as sure of another one. What a mitigation has made well, or a look
    could not read this time, is no reason to call the fault something else half way through."""
    if before is None or before.failure_class in (UNKNOWN, now.failure_class):
        return now
    if now.failure_class != UNKNOWN and now.confidence >= before.confidence:
        return now
    said = f"{KEPT} now it looks like {now.failure_class} ({now.confidence:.0%}, rule {now.rule})"
    earlier = tuple(line for line in before.evidence if not line.startswith(KEPT))
    return before.model_copy(update={"evidence": (said, *earlier)})


class TriageActivities:
    """Holds the catalogue, the policy and the inventory that this worker started with."""

    def __init__(self, library: Library, policy: Policy, fleet: Fleet) -> None:
        self._library = library
        self._policy = policy
        self._fleet = fleet

    @activity.defn(name="diagnose")
    async def diagnose(self, req: TriageRequest) -> Diagnosis:
        """Class with evidence, and the plan. `now` is workflow time: no clock is read here."""
        firing = tuple(d for d in req.detections if d.status == "firing")
        if not firing:
            raise ApplicationError("nothing fires: there is nothing to diagnose", type="Permanent", non_retryable=True)
        found = _kept(req.before, classify(firing, self._library.taxonomy, req.looked))
        made = plan(found, firing, library=self._library, policy=self._policy, fleet=self._fleet, now=req.now)
        rule = self._policy.for_class(found.failure_class)
        if rule.mode == "auto" and not self._vouched(found):
            # Whoever fires an alert of any name must not be able to make anything act: the class is likely, and not proven.
            steps = tuple(s.model_copy(update={"attended": True}) for s in made.steps)
            why = f"{made.why}; people are asked, since rule {found.rule} is no proof"
            made, rule = made.model_copy(update={"steps": steps, "why": why}), rule.model_copy(update={"mode": "ask"})
        return Diagnosis(
            classification=found,
            plan=made,
            policy=rule,
            timing=self._policy.timing,
            look=self._look(found, firing[0].target, at_once=rule.mode == "auto" and req.before is None),
        )

    def _look(self, found: Classification, target: Target, *, at_once: bool) -> Literal["no", "cluster", "whole"]:
        """The less sure, the more is read; nothing of what the fleet does not have.

        `at_once`: it acts unattended. What is proven then acts without a look. Where people are asked first, or the case plans
        again, one thing is read that no detector of an engine can tell: a hung engine from a machine that is gone. It costs
        half a second at most, and only where a control plane knows.
        """
        if not self._fleet.has(target):
            return "no"
        if found.failure_class == UNKNOWN or found.confidence < SURE:
            return "whole"
        pool = self._fleet.pool(target.service or "")
        placed = target.kind is TargetKind.ENDPOINT and pool is not None and pool.workload is not None
        return "cluster" if placed and not at_once else "no"

    def _vouched(self, found: Classification) -> bool:
        rule = self._library.taxonomy.rule(found.rule)
        return rule is not None and rule.vouched
