"""Asks the Guards for an increment: all of its domains in sorted order, or none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from temporalio import activity

from activities.facts import Clock, utc_now
from activities.guard_client import GuardClient
from runbooks.change import Change
from runbooks.facts import Facts
from runbooks.guard import AcquireRequest, Announce, Answer, Release
from runbooks.plan import CheckRequest
from runbooks.policy import Policy

PRIORITY = {"undo": 0, "restore": 3, "act": 5}
FIRST = {"isolate_endpoint": 1, "shed_load": 2}
"""Isolate, shed, undo and restore go before long moves."""


class Permits:
    """What `check` asks of the Guards once the gates have spoken."""

    def __init__(self, guard: GuardClient, policy: Policy, clock: Clock = utc_now) -> None:
        self._guard = guard
        self._policy = policy
        self._clock = clock

    async def acquire(
        self,
        req: CheckRequest,
        domains: Sequence[str],
        writes: str,
        change: Change,
        facts: Facts,
        epochs: Mapping[str, int],
    ) -> Answer:
        """The permit of the domain that is written to, when every domain grants; else the first answer that is none.

        What was granted before a refusal is given back at once: a case never sits on one domain while it waits for another,
        but for an undo, which holds them already.
        """
        granted: list[tuple[str, Answer]] = []
        for domain in sorted(domains):
            answer = await self._guard.acquire(self._request(req, domain, change, facts, epochs[domain]))
            if answer.kind != "permit":
                if req.purpose == "undo":
                    # What stands unproven keeps its domains: another case must not act beside it.
                    return answer
                await asyncio.gather(*(self._give_back(req, d) for d, _ in granted))
                return answer
            granted.append((domain, answer))
        return next(answer for domain, answer in granted if domain == writes)

    async def announce(self, req: CheckRequest, domain: str) -> Answer:
        """Counts a case that may not act yet: many at once are one fault, and a resume is told to it."""
        return await self._guard.announce(
            Announce(
                domain=domain,
                workflow_id=req.workflow_id,
                target=req.target,
                failure_class=req.failure_class,
                limits=self._policy.domain,
                case=req.case,
            )
        )

    async def _give_back(self, req: CheckRequest, domain: str) -> None:
        back = Release(case=req.case, workflow_id=req.workflow_id, applied=False, at=self._clock())
        await self._guard.release(domain, back)

    def _request(self, req: CheckRequest, domain: str, change: Change, facts: Facts, seen_epoch: int) -> AcquireRequest:
        lever = req.step.step.lever
        limits, timing = self._policy.for_lever(lever), self._policy.timing
        return AcquireRequest(
            domain=domain,
            case=req.case,
            workflow_id=req.workflow_id,
            run_id=activity.info().workflow_run_id or "",
            target=req.target,
            step_id=req.step.id,
            increment=req.increment,
            attempt=req.attempt,
            purpose=req.purpose,
            lever=lever,
            failure_class=req.failure_class,
            change_digest=change.digest,
            blast=change.blast,
            facts_oldest_at=facts.oldest,
            seen_epoch=seen_epoch,
            priority=PRIORITY[req.purpose] if req.purpose != "act" else FIRST.get(lever, PRIORITY["act"]),
            settle_s=timing.settle_s,
            permit_ttl_s=timing.permit_ttl_s,
            max_acts_per_hour=limits.max_acts_per_hour,
            attempts=limits.attempts,
            cooldown_s=limits.cooldown_s,
            ineffective_s=limits.ineffective_s,
            limits=self._policy.domain,
            shadow=req.observe,
        )
