"""Classify, pick the runbook, plan: pure, recorded in history, so that a later edit cannot change this case."""

from __future__ import annotations

from temporalio import activity
from temporalio.exceptions import ApplicationError

from runbooks.fleet import Fleet
from runbooks.library import Library
from runbooks.plan import Classification, Diagnosis, TriageRequest
from runbooks.planning import plan
from runbooks.policy import Policy
from runbooks.taxonomy import UNKNOWN, classify

SURE = 0.9
"""A class with less confidence than this is looked at before anything is done: the rules' own scale, where 0.9 and more is a
measurement that names its cause."""


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
        found = classify(firing, self._library.taxonomy, req.looked)
        made = plan(found, firing, library=self._library, policy=self._policy, fleet=self._fleet, now=req.now)
        rule = self._policy.for_class(found.failure_class)
        if rule.mode == "auto" and not self._vouched(found):
            # Whoever fires an alert of any name must not be able to make anything act: the class is likely, and not proven.
            steps = tuple(s.model_copy(update={"attended": True}) for s in made.steps)
            why = f"{made.why}; people are asked, since rule {found.rule} is no proof"
            made, rule = made.model_copy(update={"steps": steps, "why": why}), rule.model_copy(update={"mode": "ask"})
        unsure = found.failure_class == UNKNOWN or found.confidence < SURE
        return Diagnosis(
            classification=found,
            plan=made,
            policy=rule,
            timing=self._policy.timing,
            unsure=unsure and self._fleet.has(firing[0].target),
        )

    def _vouched(self, found: Classification) -> bool:
        rule = self._library.taxonomy.rule(found.rule)
        return rule is not None and rule.vouched
