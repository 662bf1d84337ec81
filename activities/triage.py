"""Classify, pick the runbook, plan: pure, recorded in history, so that a later edit cannot change this case."""

from __future__ import annotations

from temporalio import activity
from temporalio.exceptions import ApplicationError

from runbooks.fleet import Fleet
from runbooks.library import Library
from runbooks.plan import Diagnosis, TriageRequest
from runbooks.planning import plan
from runbooks.policy import Policy
from runbooks.taxonomy import classify


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
        found = classify(firing, self._library.taxonomy)
        made = plan(found, firing, library=self._library, policy=self._policy, fleet=self._fleet, now=req.now)
        rule = self._policy.for_class(found.failure_class)
        return Diagnosis(classification=found, plan=made, policy=rule, timing=self._policy.timing)
