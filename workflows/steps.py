"""One step of the plan, from its first check to its end: what each answer of the gates and of the Guard leads to."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from temporalio import workflow

from runbooks.levers import RolloutHotfix
from runbooks.plan import CheckResult, PlannedStep
from workflows import details
from workflows.acting import Acting
from workflows.answers import enough, momentary, outdated, stopped_by_people, unseen
from workflows.asking import ask
from workflows.casefile import CaseFile, Stop
from workflows.diagnosis import still_planned
from workflows.holding import Holding
from workflows.increments import Increments
from workflows.one_step import HISTORY_AT_MOST, OneStep, StepEnd

UNKNOWN_AGAIN_S = 2.0
"""A fact that cannot be had now denies; it is asked for again after this, until policy's `hold_limit_s` is over."""


class StepRun:
    """Runs one acting step. `follows`: a step before it stands, proven; this one is for what that one left."""

    def __init__(self, case: CaseFile, moves: Increments, step: PlannedStep, follows: bool = False) -> None:
        self.one = one = OneStep(case, moves, step)
        self.case, self.moves, self.record = case, moves, one.record
        self._acting = Acting(self.one)
        self._holding = Holding(self.one)
        self._follows = follows
        self._gone_since: datetime | None = None

    async def run(self) -> StepEnd:
        """Until the step is complete and Better, or has ended some other way. Standing changes stay in the record."""
        end = await self._run()
        await self._holding.step_back()  # it may have ended while it waited for its turn
        await self._holding.no_more_follows()
        self.record.end = end
        self.case.pending = None
        self.case.approvals = {}
        self.case.named = False
        return end

    async def _run(self) -> StepEnd:
        while True:
            stop = await self.case.safe_point(self._holding.rest)
            if stop is not None and (ended := await self._stopped(stop)):
                return ended
            if workflow.info().get_current_history_length() > HISTORY_AT_MOST:
                return await self.one.give_up("this case has grown too long to go on by itself")
            self.case.show("checking")
            waited = (workflow.now() - self._holding.since).total_seconds() if self._holding.since else 0.0
            result = await self.moves.check(self.one.step, "act", self.one.increment, waited_s=waited)
            if result is None:
                # A grant whose answer was lost may hold the domain: giving back too much harms nobody.
                self._holding.queued = True
                await self._holding.step_back()
                if not await self._holding.hold(5, "facts or Guard could not be had"):
                    return await self.one.give_up("the facts that the gates need could not be had")
                continue
            ended = await self._answer(result)
            if ended is not None:
                return ended

    async def _stopped(self, stop: Stop) -> StepEnd | None:
        """What a safe point asks for. With something standing, a fault that has cleared is the restore's matter."""
        if stop == "resolved" and self.record.standing is not None and isinstance(self.one.step.step, RolloutHotfix):
            return None  # its first ring mended it: half of the pools on another version is no end
        if stop == "resolved" and self.record.receipts:
            return "mitigated"
        await self.moves.release(self.one.step, self.record, applied=False)
        return stop

    async def _answer(self, result: CheckResult) -> StepEnd | None:
        """None: go on. Otherwise the step has ended."""
        outcome, view = result.verdict.outcome, result.facts.guard
        mine = view.state == "known" and view.value.holder == self.case.record.workflow_id
        if mine and not result.begun:  # what was begun before a Reset and has no receipt yet keeps its domain
            self._holding.queued = True  # kept for this case, or granted in an answer that was lost
        if result.left:
            return await self._acting.remembered(result)
        if result.explained and not self.record.receipts:
            await self._holding.step_back()
            await self._holding.wait_it_out(result.explained)
            return None
        if outcome == "hold" and outdated(result):
            await self._plan_anew(result)
            return None
        if outcome != "allow":
            await self._holding.step_back()
        if result.guard == "correlated" and not self.record.receipts:
            if self.case.called:
                return None  # said meanwhile: heard first, for the domain's case would not know of it
            self.case.note("correlated", result.guard_why)
            await self.moves.release(self.one.step, self.record, applied=False)
            return "correlated"
        if outcome in ("allow", "ask") and result.complete:  # nobody is asked to approve nothing
            if self.record.receipts:
                return "mitigated" if self.one.proven else await self._acting.prove_all()
            await self.one.give_up("nothing is left to change: the settings are already as this step wants them")
            return "already"
        if (self.record.receipts or self._follows) and enough(result):
            return await self._suffices(result.verdict.because())
        self._gone_since = None
        observe = self.case.diagnosis is not None and self.case.diagnosis.policy.mode == "observe"
        if outcome == "deny" and observe and [g.gate for g in result.verdict.gates if g.outcome == "deny"] == ["G13"]:
            return self._observed(result)  # two hundred of them would else page two hundred times about nothing done
        if outcome == "deny":
            # A run that began before this was known gives up, as it did.
            passing = momentary(result) or (unseen(result) and workflow.patched("old-evidence-may-be-of-a-moment"))
            # A Guard that cannot be asked is not this target's matter: sixty cases that gave up at once would page sixty times.
            patience = math.inf if result.facts.guard.state == "unknown" else self._holding.patience()
            if passing and await self._holding.hold(UNKNOWN_AGAIN_S, result.verdict.because(), patience):
                return None
            return await self.one.give_up(result.verdict.because())
        if self.case.diagnosis is not None and self.case.diagnosis.policy.mode == "observe":
            return self._observed(result)
        if outcome == "ask":
            return await ask(self.one, result, self._holding.no_more_follows)
        if outcome == "hold" and stopped_by_people(result):
            # However long it lasts: a halt must not make cases give up one by one. News of its end wakes this one.
            await self._holding.halted(result.verdict.because())
            return None
        if outcome == "hold":
            until = result.verdict.until or workflow.now() + timedelta(seconds=10)
            if not await self._holding.hold((until - workflow.now()).total_seconds(), result.verdict.because()):
                return await self.one.give_up(f"held too long: {result.verdict.because()}")
            return None
        if result.guard == "halted":
            await self._holding.halted(result.guard_why)
            return None
        if result.permit is not None and result.change is not None:
            self._holding.since, self._holding.queued = None, False
            if self.case.called:
                # Said while the gates were asked: heard before anything is touched. The next check gets a new permit.
                await self.moves.release(self.one.step, self.record, applied=False)
                return None
            return await self._acting.act(result, result.change)
        return await self._holding.guarded(result)

    def _observed(self, result: CheckResult) -> StepEnd:
        told = f" (Guard: {result.guard_why})" if result.guard != "none" else ""
        would = f"would {result.verdict.outcome}: {self.one.step.envelope.direction}{told}"
        self.record.would = result.change.note if result.change is not None else ""
        self.record.would_at = workflow.now()
        self.case.note("observed", f"{would}; nothing was touched")
        return "observed"

    async def _plan_anew(self, result: CheckResult) -> None:
        """G14 wants a new plan. After a halt everything begins again, approvals as well. After a long wait a plan that comes
        out the same goes on, in its place of the queue: stepping back would cost it its turn each time."""
        case, view = self.case, result.facts.guard
        case.note("plan again", result.verdict.because())
        stopped = (
            view.state == "known" and view.value.resumed_at is not None and case.planned_at <= view.value.resumed_at
        )
        if not case.firing():
            # A rollout that has mended its fault goes on with nothing to classify: each ring is planned anew by its check.
            case.planned_at, self._holding.since = workflow.now(), None
            if stopped:
                case.approvals, case.pending = {}, None  # given before the halt: asked again, like everything else
            return
        step = None if stopped else await still_planned(case, self.one.step)
        if step is None:
            case.plan_again = True  # heard at the next safe point, which gives the domain back
            return
        self.one.step = step

    async def _suffices(self, why: str) -> StepEnd | None:
        """The fault is gone while something stands. Seen once it proves little: for a whole soak it is enough."""
        assert self.one.step.verify is not None
        now = workflow.now()
        self._gone_since = self._gone_since or now
        if (now - self._gone_since).total_seconds() < self.one.step.verify.soak_s:
            self.case.show("holding", f"Is it enough? {details.esc(why)}")
            await self.case.wait(self.one.step.verify.every_s, f"Is it enough? {why}")
            self.case.news.clear()
            return None
        self.case.note("enough", f"{self.one.step.id}: {why}")
        return "mitigated" if self.record.receipts else "enough"
