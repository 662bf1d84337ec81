"""One step of the plan, from its first check to its end: increments, approval, undo."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Literal

from temporalio import workflow

from runbooks.change import Change, Receipt
from runbooks.effects import fair, patient, worse_in_the_end
from runbooks.levers import Kind, RerouteTraffic, RolloutHotfix, kind, takes_back_whole
from runbooks.people import Pending
from runbooks.plan import CheckResult, Effect, PlannedStep
from runbooks.record import StepRecord
from runbooks.standing import merged
from workflows import details
from workflows.casefile import CaseFile, Stop
from workflows.diagnosis import still_planned
from workflows.increments import Increments

StepEnd = Literal[
    "mitigated",
    "observed",
    "refused",
    "undone",
    "rejected",
    "expired",
    "kept",
    "partly",
    "uncertain",
    "aborted",
    "replan",
    "resolved",
    "already",
    "enough",
    "stopped",
    "correlated",
]
REFUSED_AT_MOST = 5
"""An act that the actuator refuses this often in one step is given up: somebody else is changing the same thing."""


UNKNOWN_AGAIN_S = 2.0
"""A fact that cannot be had now denies; it is asked for again after this, until policy's `hold_limit_s` is over."""


KEPT_AT_MOST_S = 5.0
"""The longest that the domain is kept for this step while it may not act yet: others, undo among them, wait for it."""
DENIED_AT_MOST_S = 60.0
"""What is not known, or has no room at this moment, is asked again for so long; then people are told."""


HISTORY_AT_MOST = 1500
"""Events after which no further increment begins: undo, restore and the record still need room under 2,000."""
EXPLAINED_AGAIN_S = 5.0
EXPLAINED_AT_MOST_S = 900.0
"""Looks at a fault of our own making grow rarer, up to this and then to a twentieth of the time waited: a node may be out
for weeks, and the history holds 2,000 events."""


STOPPED_AGAIN_S = 7.5
STOPPED_AT_MOST_S = 3600.0
"""The same for a halt or a tripped breaker, whose end is told by the Guard."""


def stopped_by_people(result: CheckResult) -> bool:
    """Held by a halt or a tripped breaker, and by nothing else that a wait would end."""
    view = result.facts.guard
    return view.state == "known" and bool(view.value.halted or view.value.breaker)


def outdated(result: CheckResult) -> bool:
    """The plan itself is what holds it (G14): made before a halt ended, or held for too long."""
    return any(g.gate == "G14" and g.outcome == "hold" for g in result.verdict.gates)


def momentary(result: CheckResult) -> bool:
    """A denial of this moment alone: of what is not known now, or for want of room or of a plan that fits, which load may
    make another in five seconds. One slow look at the engines gives all of these together."""
    denied = [g for g in result.verdict.gates if g.outcome == "deny"]
    return bool(denied) and all(g.unknown or (g.gate in ("G3", "G8") and not g.lasting) for g in denied)


def enough(result: CheckResult) -> bool:
    """The fault is measured to be gone, and nothing is against more but that its evidence grows old: what was done
    suffices, and nobody is to be told that the rest could not be done."""
    against = [g for g in result.verdict.gates if g.outcome in ("hold", "deny")]
    gone = any(g.gate == "G16" and g.outcome == "hold" for g in against)
    return gone and all(g.gate == "G16" or (g.gate == "G1" and not g.unknown) for g in against)


def unseen(result: CheckResult) -> bool:
    """The fault is not seen now, its evidence is old for that alone, and what else is against is unknown: one slow look at
    the control plane while the queue dips for a moment. The next look says which of them holds."""
    against = [g for g in result.verdict.gates if g.outcome in ("hold", "deny")]
    gone = any(g.gate == "G16" and g.outcome == "hold" for g in against)
    rest = [g for g in against if g.gate != "G16" and not (g.gate == "G1" and not g.unknown)]
    return gone and bool(rest) and all(g.unknown for g in rest)


class StepRun:
    """Runs one acting step. `follows`: a step before it stands, proven; this one is for what that one left."""

    def __init__(self, case: CaseFile, moves: Increments, step: PlannedStep, follows: bool = False) -> None:
        self.case = case
        self.moves = moves
        self.step = step
        self.record = StepRecord(
            step_id=step.id, lever=step.step.lever, back=kind(step.step).value, targets=step.targets
        )
        case.record.steps.append(self.record)
        self._increment = 0
        self._proven = False
        self._refused = 0
        self._queued = False
        self._waiting_since: datetime | None = None
        self._holds = 0
        self._follows = follows
        self._gone_since: datetime | None = None
        self._first: dict[str, float] = {}
        self._measured: dict[str, float] = {}
        self._explained = ""
        self._explained_s = EXPLAINED_AGAIN_S
        self._explained_since = workflow.now()
        self._stopped_s = STOPPED_AGAIN_S

    async def run(self) -> StepEnd:
        """Until the step is complete and Better, or has ended some other way. Standing changes stay in the record."""
        end = await self._run()
        await self._step_back()  # it may have ended while it waited for its turn
        await self._no_more_follows()
        self.record.end = end
        self.case.pending = None
        self.case.approvals = {}
        self.case.named = False
        return end

    async def _run(self) -> StepEnd:
        while True:
            stop = await self.case.safe_point(self._rest)
            if stop is not None and (ended := await self._stopped(stop)):
                return ended
            if workflow.info().get_current_history_length() > HISTORY_AT_MOST:
                return await self._give_up("this case has grown too long to go on by itself")
            self.case.show("checking")
            waited = (workflow.now() - self._waiting_since).total_seconds() if self._waiting_since else 0.0
            result = await self.moves.check(self.step, "act", self._increment, waited_s=waited)
            if result is None:
                self._queued = (
                    True  # a grant whose answer was lost may hold the domain: giving back too much harms nobody
                )
                await self._step_back()
                if not await self._hold(5, "facts or Guard could not be had"):
                    return await self._give_up("the facts that the gates need could not be had")
                continue
            ended = await self._answer(result)
            if ended is not None:
                return ended

    async def _stopped(self, stop: Stop) -> StepEnd | None:
        """What a safe point asks for. With something standing, a fault that has cleared is the restore's matter."""
        if stop == "resolved" and self.record.standing is not None and isinstance(self.step.step, RolloutHotfix):
            return None  # its first ring mended it: half of the pools on another version is no end
        if stop == "resolved" and self.record.receipts:
            return "mitigated"
        await self.moves.release(self.step, self.record, applied=False)
        return stop

    async def _answer(self, result: CheckResult) -> StepEnd | None:
        """None: go on. Otherwise the step has ended."""
        outcome, view = result.verdict.outcome, result.facts.guard
        mine = view.state == "known" and view.value.holder == self.case.record.workflow_id
        if mine and not result.begun:  # what was begun before a Reset and has no receipt yet keeps its domain
            self._queued = True  # kept for this case, or granted in an answer that was lost
        if result.left:
            return await self._remembered(result)
        if result.explained and not self.record.receipts:
            await self._step_back()
            await self._wait_it_out(result.explained)
            return None
        if outcome == "hold" and outdated(result):
            await self._plan_anew(result)
            return None
        if outcome != "allow":
            await self._step_back()
        if result.guard == "correlated" and not self.record.receipts:
            if self.case.called:
                return None  # said meanwhile: heard first, for the domain's case would not know of it
            self.case.note("correlated", result.guard_why)
            await self.moves.release(self.step, self.record, applied=False)
            return "correlated"
        if outcome in ("allow", "ask") and result.complete:  # nobody is asked to approve nothing
            if self.record.receipts:
                return "mitigated" if self._proven else await self._prove_all()
            await self._give_up("nothing is left to change: the settings are already as this step wants them")
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
            patience = math.inf if result.facts.guard.state == "unknown" else self._patience()
            if passing and await self._hold(UNKNOWN_AGAIN_S, result.verdict.because(), patience):
                return None
            return await self._give_up(result.verdict.because())
        if self.case.diagnosis is not None and self.case.diagnosis.policy.mode == "observe":
            return self._observed(result)
        if outcome == "ask":
            return await self._ask(result)
        if outcome == "hold" and stopped_by_people(result):
            # However long it lasts: a halt must not make cases give up one by one. News of its end wakes this one.
            await self._halted(result.verdict.because())
            return None
        if outcome == "hold":
            until = result.verdict.until or workflow.now() + timedelta(seconds=10)
            if not await self._hold((until - workflow.now()).total_seconds(), result.verdict.because()):
                return await self._give_up(f"held too long: {result.verdict.because()}")
            return None
        if result.guard == "halted":
            await self._halted(result.guard_why)
            return None
        if result.permit is not None and result.change is not None:
            self._waiting_since, self._queued = None, False
            if self.case.called:
                # Said while the gates were asked: heard before anything is touched. The next check gets a new permit.
                await self.moves.release(self.step, self.record, applied=False)
                return None
            return await self._act(result, result.change)
        return await self._guarded(result)

    async def _rest(self) -> None:
        """A person has the case, for as long as he likes: nobody waits for its turn, nor for its next increment."""
        await self._step_back()
        await self._no_more_follows()

    async def _no_more_follows(self) -> None:
        """Other cases are held while the increments of a step follow each other (G4). Now none does, or not soon."""
        if self.moves.under_way and self.case.renewed:
            await self.moves.release(self.step, self.record, applied=False)

    async def _step_back(self) -> None:
        """Gives up the place in the queue, or the domain that the Guard keeps for this case: nobody is made to wait
        while it waits for people or for facts."""
        if self._queued:
            self._queued = False
            await self.moves.release(self.step, self.record, applied=False)

    def _observed(self, result: CheckResult) -> StepEnd:
        told = f" (Guard: {result.guard_why})" if result.guard != "none" else ""
        would = f"would {result.verdict.outcome}: {self.step.envelope.direction}{told}"
        self.record.would = result.change.note if result.change is not None else ""
        self.record.would_at = workflow.now()
        self.case.note("observed", f"{would}; nothing was touched")
        return "observed"

    async def _guarded(self, result: CheckResult) -> StepEnd | None:
        """The gates allow, the Guard does not yet."""
        state: Literal["waiting_domain", "holding"] = "waiting_domain" if result.guard == "queued" else "holding"
        self.case.show(state, f"The domain is not free: {details.esc(result.guard_why)}")
        # Still so after "not yet": once it had its turn, the Guard keeps the domain for it until it acts or gives it back.
        self._queued = self._queued or result.guard == "queued"
        if result.guard != "queued" and result.retry_after_s > KEPT_AT_MOST_S:
            await self._step_back()
        if result.guard == "refused" and result.retry_after_s <= 0:
            return await self._give_up(result.guard_why)
        if not await self._hold(max(result.retry_after_s, 0.2), result.guard_why):
            return await self._give_up(f"held too long: {result.guard_why}")
        return None

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
            case.planned_at, self._waiting_since = workflow.now(), None
            if stopped:
                case.approvals, case.pending = {}, None  # given before the halt: asked again, like everything else
            return
        step = None if stopped else await still_planned(case, self.step)
        if step is None:
            case.plan_again = True  # heard at the next safe point, which gives the domain back
            return
        self.step = step

    async def _halted(self, why: str) -> None:
        """Levers are stopped by a person or by the breaker: nothing is given up, and afterwards all is planned again."""
        await self._step_back()
        self.case.show("holding", f"Stopped: {details.esc(why)}")
        # The look of its own is for a Guard whose news was lost; a halt of weeks must not fill the history.
        self._stopped_s = min(self._stopped_s * 2, STOPPED_AT_MOST_S)
        self._waiting_since = self._waiting_since or workflow.now()
        await self.case.wait(self._stopped_s, f"Stopped: {why}")
        self.case.news.clear()

    async def _hold(self, seconds: float, why: str, at_most_s: float = math.inf) -> bool:
        """Waits, each time longer; False when the step has been held longer than policy or `at_most_s` allows."""
        now = workflow.now()
        if self._waiting_since is None:
            self._waiting_since, self._holds = now, 0
        assert self.case.diagnosis is not None
        limit = min(at_most_s, self.case.diagnosis.timing.hold_limit_s)
        if (now - self._waiting_since).total_seconds() > limit:
            return False
        # Fifteen minutes of holds must not fill the history: at most 60 s between two looks, news wake it earlier.
        seconds = max(seconds, min(60.0, seconds * 1.3**self._holds))
        self._holds += 1
        if self.case.state != "waiting_domain":
            self.case.show("holding", f"Held: {details.esc(why)}")
        await self.case.wait(seconds, f"Held: {why}")
        self.case.news.clear()
        return True

    async def _suffices(self, why: str) -> StepEnd | None:
        """The fault is gone while something stands. Seen once it proves little: for a whole soak it is enough."""
        assert self.step.verify is not None
        now = workflow.now()
        self._gone_since = self._gone_since or now
        if (now - self._gone_since).total_seconds() < self.step.verify.soak_s:
            self.case.show("holding", f"Is it enough? {details.esc(why)}")
            await self.case.wait(self.step.verify.every_s, f"Is it enough? {why}")
            self.case.news.clear()
            return None
        self.case.note("enough", f"{self.step.id}: {why}")
        return "mitigated" if self.record.receipts else "enough"

    def _patience(self) -> float:
        """Seconds for which a denial of this moment is asked again. Between two increments as long as one may take to
        prove itself: a replica that loads its model for minutes keeps the next one waiting."""
        deadline = self.step.verify.deadline_s if self.step.verify is not None and self.record.receipts else 0.0
        return max(DENIED_AT_MOST_S, deadline)

    async def _wait_it_out(self, why: str) -> None:
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

    async def _give_up(self, why: str) -> StepEnd:
        self.case.note("step refused", f"{self.step.id}: {why}")
        await self.moves.release(self.step, self.record, applied=False)
        # Increments that were proven no worse stand, and what comes next in the runbook is added to them; after the last
        # step people are told.
        return "refused" if self.record.standing is None else "partly"

    # --- approval --------------------------------------------------------------------------------------------------

    async def _ask(self, result: CheckResult) -> StepEnd | None:
        """Waits for people, durably, holding nothing. On the last approval the gates are asked again."""
        case = self.case
        assert case.diagnosis is not None
        case.named = any(g.gate != "G7" and g.outcome == "ask" for g in result.verdict.gates)
        rights, now = case.rights(), workflow.now()
        old = case.pending
        fresh = old is None or old.digest != self.step.digest or old.expires_at <= now
        # Before anybody is told: whoever answers at once, while the page is on its way, must be counted.
        case.rejected = None
        had = set() if fresh else set(case.approvals)  # asked again although these have approved: one more is wanted
        await self._no_more_follows()  # people may take half an hour
        if fresh:
            case.approvals = {}
            ends = now + timedelta(seconds=case.diagnosis.policy.approval_ttl_s)
            case.pending = Pending(step=self.step.id, digest=self.step.digest, expires_at=ends)
            case.note(
                "approval asked",
                f"{self.step.envelope.direction}: {rights.quorum} of {rights.group} until {ends:%H:%M:%S}",
            )
            # Shown first: whoever is told must find it waiting.
            case.show("waiting_approval", details.request(result, self.step, case.pending, rights, ()))
            assert case.record.target is not None
            title, body = details.asked_page(self.step, case.pending, rights, case.record.target)
            await case.page_briefly(f"{self.step.id}/asked/{case.pending.digest}/{ends:%H%M%S}", title, body)
        patience = 5.0
        while len(case.approvals) < rights.quorum or had >= set(case.approvals):
            assert case.pending is not None
            rights = case.rights()  # who asked for it may be known only since somebody spoke
            case.show(
                "waiting_approval", details.request(result, self.step, case.pending, rights, tuple(case.approvals))
            )
            left = (case.pending.expires_at - workflow.now()).total_seconds()
            if left <= 0:
                await case.page_people(
                    f"{self.step.id}/approval-expired",
                    f"Nobody decided on {self.step.step.lever}",
                    f"{self.step.envelope.direction} was not approved in time.",
                )
                return "expired"
            woken = await case.wait(min(patience, left), "Waiting for approval")
            if not woken:
                # A signal that does not decode rings no bell: look from time to time, so that its sender gets an answer.
                patience = min(patience * 2, 300)
                await case.attest()
            stop = await case.safe_point()
            if stop == "resolved" and self.record.receipts:
                # What was done is done, and proven. But half of the pools on another version is no end: still asked.
                if not isinstance(self.step.step, RolloutHotfix):
                    return "mitigated"
            elif stop is not None:
                return stop
            if case.rejected is not None:
                return "rejected"
            if any(n.kind == "correlated" for n in case.news) and not self.record.receipts:
                # The domain's case asks once for all of them: nobody clicks two hundred times.
                case.note("correlated", next(n.why for n in case.news if n.kind == "correlated"))
                return "correlated"
            case.news.clear()
        return None

    # --- acting ----------------------------------------------------------------------------------------------------

    async def _act(self, result: CheckResult, change: Change) -> StepEnd | None:
        case = self.case
        assert result.permit is not None
        case.show("acting")
        if not self.record.receipts:
            self._first = _baseline(result)
            self._measured = _measured(result)
        acted = await self.moves.apply(self.step, change, result.permit)
        if acted.uncertain:
            return await self._uncertain(acted.why, change)
        if acted.receipt is None:
            case.note("act refused", acted.why)
            await self.moves.release(self.step, self.record, applied=False)
            self._refused += 1
            return "refused" if self._refused >= REFUSED_AT_MOST else None
        last = change.last and acted.whole
        return await self._prove(acted.receipt, last, {} if last else self._baseline(result))

    async def _remembered(self, result: CheckResult) -> StepEnd | None:
        """A Reset made this case forget what it had done; the journal has not. It stands as if just done: prove it."""
        self.case.note(
            "found in the journal", f"{self.step.id}: {len(result.left)} act(s) of this case, before a reset"
        )
        *earlier, last = result.left
        for receipt in earlier:
            self.record.receipts.append(receipt)
            if kind(self.step.step) is not Kind.IRREVERSIBLE:
                self.record.standing = merged(self.record.standing, receipt)
        return await self._prove(last, result.complete, {} if result.complete else self._baseline(result))

    async def _prove(self, receipt: Receipt, last: bool, baseline: dict[str, float]) -> StepEnd | None:
        """Verifies what now stands: kept when Better, else taken back or told."""
        case = self.case
        if case.record.first_act_at is None:
            case.record.first_act_at = workflow.now()
        before = self.record.standing
        self.record.receipts.append(receipt)
        if kind(self.step.step) is not Kind.IRREVERSIBLE:  # what nobody can take back does not stand: it has happened
            self.record.standing = merged(before, receipt)
        case.show("verifying")
        effect = await self.moves.verify(self._judged(), receipt, baseline)
        self.record.effects.append(effect)
        way = effect.outcome == "better" and bool(baseline)
        case.note("effect: on the way" if way else f"effect: {effect.outcome}", effect.why)
        if effect.outcome == "better":
            await self.moves.release(self.step, self.record, applied=True, under_way=not last)
            self._increment += 1
            self._proven = last
            return "mitigated" if last else None
        if effect.outcome == "cannot_tell" and (self.step.on_cannot_tell == "keep_and_page" or case.taken_by):
            return await self._keep(f"{self.step.step.lever} cannot be proven: {effect.why}")
        return await self._undo(receipt, before, effect)

    async def _prove_all(self) -> StepEnd:
        """Nothing is left to change, and no increment was proven as the last: the step as a whole is proven now."""
        case = self.case
        case.show("verifying")
        latest = self.record.standing or self.record.receipts[-1]
        effect = await self.moves.verify(self._judged(), latest, {})
        self.record.effects.append(effect)
        case.note(f"effect of the whole: {effect.outcome}", effect.why)
        if effect.outcome == "better":
            return "mitigated"
        if effect.outcome == "cannot_tell" and (self.step.on_cannot_tell == "keep_and_page" or case.taken_by):
            return await self._keep(f"{self.step.step.lever} cannot be proven: {effect.why}")
        return await self._undo(latest, None, effect)

    def _judged(self) -> PlannedStep:
        """With bounds for Worse that a service which was bad before the step does not break by itself."""
        assert self.step.verify is not None
        return self.step.model_copy(
            update={"verify": fair(self.step.verify, self._measured, isinstance(self.step.step, RerouteTraffic))}
        )

    async def _keep(self, why: str, bad: str = "") -> StepEnd:
        """The change stays, not proven Better: a person has been told and owns it. `bad`: and it did harm."""
        await self.moves.release(self.step, self.record, applied=True, bad=bad)
        self.case.record.owner = await self.case.page_people(f"{self.step.id}/kept", "A change stands unproven", why)
        return "kept"

    async def _uncertain(self, why: str, change: Change) -> StepEnd:
        """Nobody knows whether it was applied. The domain is given back only once people have been told."""
        self.record.end = "uncertain"  # said also by a case that is cancelled while it tells them
        self.case.record.owner = await self.case.page_people(
            f"{self.step.id}/uncertain", f"Nobody knows whether {self.step.step.lever} was applied", why
        )
        # Counted as if it stands: blast radius and minimum healthy must hold if it does.
        await self.moves.release_uncertain(self.step, change)
        return "uncertain"

    async def _undo(self, receipt: Receipt, before: Receipt | None, effect: Effect) -> StepEnd:
        """Takes the last increment back, or the whole step where one bad part condemns it. What cannot be taken back is
        told to people."""
        self.case.show("undoing")
        lever, why = self.step.step.lever, effect.why
        bad = f"{lever}: {why}" if effect.outcome == "worse" else ""
        if kind(self.step.step) is Kind.IRREVERSIBLE:
            return await self._keep(f"{lever} did not help ({why}) and cannot be taken back", bad)
        ends = {receipt.id: "undone"}
        if takes_back_whole(self.step.step) and self.record.standing is not None:
            receipt, before = self.record.standing, None
            ends = {r.id: "undone" for r in self.record.receipts}
        for _ in range(REFUSED_AT_MOST):
            if self.case.bell > self.case.heard:
                await self.case.attest()
            if self.case.taken_by:
                return await self._keep(
                    f"{lever} did not help ({why}); {self.case.taken_by} took over before its undo", bad
                )
            result = await self.moves.check(self.step, "undo", self._increment, receipt)
            if result is not None and result.permit is not None and result.change is not None:
                acted = await self.moves.apply(self.step, result.change, result.permit, {**ends, "self": "undone"})
                if acted.receipt is not None and acted.whole:
                    return await self._undone(acted.receipt, before, bad)
                if acted.receipt is not None:
                    self.record.receipts.append(acted.receipt)
            if result is not None and result.complete and result.verdict.outcome == "allow":
                return await self._undone(
                    None, before, bad
                )  # somebody has put it back already, or nothing of it can be
            if result is not None and result.verdict.outcome == "deny" and not momentary(result):
                break
            await workflow.sleep(1, summary="Undo is tried again")
        return await self._keep(
            f"{lever} did not help ({why}) and could not be undone", bad or f"{lever} could not be undone"
        )

    async def _undone(self, receipt: Receipt | None, before: Receipt | None, bad: str) -> StepEnd:
        """Taken back. A version that was rolled back is looked at again: the one before may be bad itself."""
        if receipt is not None:
            self.record.receipts.append(receipt)
        self.record.standing = before
        effect = None
        if receipt is not None and kind(self.step.step) is Kind.PERMANENT:
            effect = await self._way_back(receipt)
            self.record.effects.append(effect)
            self.case.note(f"effect of the way back: {effect.outcome}", effect.why)
        await self.moves.release(self.step, self.record, applied=True, ineffective=before is None, bad=bad)
        if effect is not None and effect.outcome == "worse":
            self.case.record.owner = await self.case.page_people(
                f"{self.step.id}/way-back", "The version before is bad as well: nothing more is rolled", effect.why
            )
            return "stopped"
        return "undone" if before is None else "partly"

    async def _way_back(self, receipt: Receipt) -> Effect:
        """Better: no worse than before the step began. Worse only by what is measured at the end: the version that is
        taken back fails requests until its last replica is gone."""
        assert self.step.verify is not None
        step = self.step.model_copy(update={"verify": patient(self.step.verify)})
        effect = await self.moves.verify(step, receipt, self._first)
        pools = len({key.split("/")[1] for key in receipt.after})
        if effect.outcome == "cannot_tell" and (why := worse_in_the_end(self.step.verify, effect.samples, pools)):
            return effect.model_copy(update={"outcome": "worse", "why": why})
        return effect

    def _baseline(self, result: CheckResult) -> dict[str, float]:
        """For an increment that does not complete its step: no worse than before, not yet well. A ring of a rollout
        is complete in itself, and is never judged so mildly."""
        return {} if isinstance(self.step.step, RolloutHotfix) else _baseline(result)


def _measured(result: CheckResult) -> dict[str, float]:
    """First readings, of what could be measured."""
    fact = result.facts.verifier
    return {n: v for n, v in fact.value.items() if v is not None} if fact.state == "known" else {}


def _baseline(result: CheckResult) -> dict[str, float]:
    """For an increment that does not complete its step: it must be no worse than before, not yet well."""
    fact = result.facts.verifier
    if fact.state != "known":
        return {}
    # A generation through a half-moved route may still meet a dead engine: it cannot prove this increment worse.
    return {name: 0.0 if value is None else value for name, value in fact.value.items()}
