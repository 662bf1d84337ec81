"""A step that may not go on yet: it waits, each time longer, and keeps no place that others wait for."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Literal

from temporalio import workflow

from runbooks.plan import CheckResult
from workflows import details
from workflows.one_step import OneStep, StepEnd

KEPT_AT_MOST_S = 5.0
"""The longest that the domain is kept for this step while it may not act yet: others, undo among them, wait for it."""
DENIED_AT_MOST_S = 60.0
"""What is not known, or has no room at this moment, is asked again for so long; then people are told."""
EXPLAINED_AGAIN_S = 5.0
EXPLAINED_AT_MOST_S = 900.0
"""Looks at a fault of our own making grow rarer, up to this and then to a twentieth of the time waited: a node may be out
for weeks, and the history holds 2,000 events."""
STOPPED_AGAIN_S = 7.5
STOPPED_AT_MOST_S = 3600.0
"""The same for a halt or a tripped breaker, whose end is told by the Guard."""


class Holding:
    """`queued`: it has a place in the Guard's queue, or the domain is kept for it. `since`: it has waited from then on."""

    def __init__(self, one: OneStep) -> None:
        self.one = one
        self.case, self.moves, self.record = one.case, one.moves, one.record
        self.queued = False
        self.since: datetime | None = None
        self._holds = 0
        self._explained = ""
        self._explained_s = EXPLAINED_AGAIN_S
        self._explained_since = workflow.now()
        self._stopped_s = STOPPED_AGAIN_S

    async def rest(self) -> None:
        """A person has the case, for as long as he likes: nobody waits for its turn, nor for its next increment."""
        await self.step_back()
        await self.no_more_follows()

    async def no_more_follows(self) -> None:
        """Other cases are held while the increments of a step follow each other (G4). Now none does, or not soon."""
        if self.moves.under_way and self.case.renewed:
            await self.moves.release(self.one.step, self.record, applied=False)

    async def step_back(self) -> None:
        """Gives up the place in the queue, or the domain that the Guard keeps for this case: nobody is made to wait
        while it waits for people or for facts."""
        if self.queued:
            self.queued = False
            await self.moves.release(self.one.step, self.record, applied=False)

    async def guarded(self, result: CheckResult) -> StepEnd | None:
        """The gates allow, the Guard does not yet."""
        state: Literal["waiting_domain", "holding"] = "waiting_domain" if result.guard == "queued" else "holding"
        self.case.show(state, f"The domain is not free: {details.esc(result.guard_why)}")
        # Still so after "not yet": once it had its turn, the Guard keeps the domain for it until it acts or gives it back.
        self.queued = self.queued or result.guard == "queued"
        if result.guard != "queued" and result.retry_after_s > KEPT_AT_MOST_S:
            await self.step_back()
        if result.guard == "refused" and result.retry_after_s <= 0:
            return await self.one.give_up(result.guard_why)
        if not await self.hold(max(result.retry_after_s, 0.2), result.guard_why):
            return await self.one.give_up(f"held too long: {result.guard_why}")
        return None

    async def halted(self, why: str) -> None:
        """Levers are stopped by a person or by the breaker: nothing is given up, and afterwards all is planned again."""
        await self.step_back()
        self.case.show("holding", f"Stopped: {details.esc(why)}")
        # The look of its own is for a Guard whose news was lost; a halt of weeks must not fill the history.
        self._stopped_s = min(self._stopped_s * 2, STOPPED_AT_MOST_S)
        self.since = self.since or workflow.now()
        await self.case.wait(self._stopped_s, f"Stopped: {why}")
        self.case.news.clear()

    async def hold(self, seconds: float, why: str, at_most_s: float = math.inf) -> bool:
        """Waits, each time longer; False when the step has been held longer than policy or `at_most_s` allows."""
        now = workflow.now()
        if self.since is None:
            self.since, self._holds = now, 0
        assert self.case.diagnosis is not None
        limit = min(at_most_s, self.case.diagnosis.timing.hold_limit_s)
        if (now - self.since).total_seconds() > limit:
            return False
        # Fifteen minutes of holds must not fill the history: at most 60 s between two looks, news wake it earlier.
        seconds = max(seconds, min(60.0, seconds * 1.3**self._holds))
        self._holds += 1
        if self.case.state != "waiting_domain":
            self.case.show("holding", f"Held: {details.esc(why)}")
        await self.case.wait(seconds, f"Held: {why}")
        self.case.news.clear()
        return True

    def patience(self) -> float:
        """Seconds for which a denial of this moment is asked again. Between two increments as long as one may take to
        prove itself: a replica that loads its model for minutes keeps the next one waiting."""
        deadline = self.one.step.verify.deadline_s if self.one.step.verify is not None and self.record.receipts else 0.0
        return max(DENIED_AT_MOST_S, deadline)

    async def wait_it_out(self, why: str) -> None:
        """Our own change makes it look sick: nobody is asked and nothing is mended, until it ends or the alert does."""
        if self._explained != why:
            self._explained, self._explained_s = why, EXPLAINED_AGAIN_S
            self._explained_since = workflow.now()
            self.case.note("explained", why)
        self.case.show("holding", f"Explained: {details.esc(why)}")
        await self.case.wait(self._explained_s, f"Explained: {why}")
        self.case.news.clear()
        waited_s = (workflow.now() - self._explained_since).total_seconds()
        self._explained_s = min(self._explained_s * 1.5, max(EXPLAINED_AT_MOST_S, waited_s / 20))
