"""What stands after a mitigation: watched until the fault has been gone long enough, then restored by gated, ramped steps."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError

from runbooks.change import Receipt, one_way
from runbooks.facts import Rejoin
from runbooks.levers import Kind, kind, rejoins
from runbooks.plan import CheckResult, PlannedStep, RejoinRequest, WatchRequest, WatchResult
from runbooks.record import StepRecord
from runbooks.restoring import without_own
from runbooks.retelling import lasted
from runbooks.standing import merged
from workflows import details, levers
from workflows.casefile import CaseFile
from workflows.increments import Increments
from workflows.one_step import HISTORY_AT_MOST

StandEnd = Literal["restored", "fixed", "aborted", "replan", "absent", "kept", "by_hand"]
TELL_AFTER = 3
"""Failed restores before people are asked to look: a fault that comes back each time is not gone. It is tried on: what
stands (users who are refused, an engine that is missed) must not outlive the fault because nobody came."""
AGAIN_AFTER, MOST_PATIENCE = 4, 16
"""So many times as long must the fault have been gone after each restore that failed; and at most so many times in all,
until the history has grown long: from then on twice as long each time, since the server ends a case of 51,200 events."""
UNDOES_AT_MOST = 3
"""Tries to take a change back for an abort, before its people are told that it stands."""
NOT_YET_AT_MOST = 10
"""Answers of the Guard with a time to ask again, before this part of a restore counts as failed."""
LEAST_LOAD_S = 120.0
"""A replica that is put on a node for its check is waited for so long at least."""
MOST_LOAD_S = 900.0
"""And no longer: the node's own check replica must outlive both tries (`LIVES_S` of the Kubernetes adapter)."""
LONGEST_LOOK_S = 900.0
"""Looks grow rarer up to this, seconds, and then to a twentieth of the time that the change has stood: a case that
stands for weeks must not fill its history. News of any kind wake it earlier."""


class Standing:
    """Watches and restores one step's standing change."""

    def __init__(self, case: CaseFile, moves: Increments, step: PlannedStep, record: StepRecord) -> None:
        self.case = case
        self.moves = moves
        self.step = step
        self.record = record
        self._clear_since: datetime | None = None
        self._back = 0.0
        self._failed = self._failed_late = 0
        self._since = workflow.now()
        self._rejoin: Rejoin | None = None
        self._absent = False

    async def run(self) -> StandEnd:
        """Until everything is back to normal, or a person or a graver alert ends it."""
        while True:
            stop = await self._watch()
            if stop is not None:
                return stop
            if kind(self.step.step) is not Kind.RESTORABLE:
                return await self._for_good()
            self.case.show("restoring")
            if await self._serves_again() and await self._restore():
                return "restored"
            self._clear_since = None
            if self.case.taken_by or self.case.aborted_by:
                continue  # a person's word is no failed restore; the watch hears it first
            self._failed += 1
            self._failed_late += _long()
            if self._failed >= TELL_AFTER and self._absent:
                return await self._left_out()
            if self._failed == TELL_AFTER:
                told = await self._tell_of_failure()
                if not self.case.tries_on:
                    self.case.record.owner = told
                    return "kept"

    async def _tell_of_failure(self) -> str:
        why = f"{self.step.step.lever} could not be taken back {self._failed} times; it stands"
        if self.case.tries_on:
            why += f", and is tried again each time the fault has been gone for {lasted(self._patience())} or longer"
        return await self.case.page_people(f"{self.step.id}/restore", "Restore failed", why)

    async def _left_out(self) -> Literal["absent"]:
        """Users would meet nobody at each further try. People own what stands: who comes back there must be put in by them."""
        rid = self.record.standing.id if self.record.standing is not None else ""
        why = (
            f"nobody is there any more, and it could not be put back {self._failed} times: it stays as it is "
            f"({self.step.envelope.direction}). When somebody is there again: interlock undo {rid}"
        )
        self.case.record.owner = await self.case.page_people(
            f"{self.step.id}/absent", "Nobody is there to be put back", why
        )
        return "absent"

    async def _for_good(self) -> StandEnd:
        """The fault is gone, and this change is meant to stay: it counts no longer as standing."""
        self.record.standing = None
        # Said also for what never stood: a Guard that recovered from the journal meanwhile counts it, and would for ever.
        await self.moves.release(self.step, self.record, applied=False)
        return "fixed"

    async def _serves_again(self) -> bool:
        """A drained node proves itself under load before it may take replicas. True at once for every other lever."""
        node = rejoins(self.step.step)
        if not node:
            return True
        assert self.case.record.target is not None
        request = RejoinRequest(
            case=self.case.record.case,
            cluster=self.case.record.target.cluster,
            node=node,
            pool=self.step.rejoin_pool,
            # A replica must load its model there first: as long as one may take to prove itself after a drain.
            deadline_s=min(
                MOST_LOAD_S, max(LEAST_LOAD_S, self.step.verify.deadline_s if self.step.verify is not None else 0.0)
            ),
        )
        try:
            self._rejoin = await self._proves_itself(request)
        except ActivityError as error:
            self.case.mind_cancel()
            self.case.note("not checked under load", f"{node}: {error.cause or error}")
            return False
        self.case.note("under load" if self._rejoin.ok else "failed under load", f"{node}: {self._rejoin.why}")
        return self._rejoin.ok

    async def _proves_itself(self, request: RejoinRequest) -> Rejoin:
        """Takes as long as a model takes to load: a cancel of the case ends it, and its replica is taken away again."""
        if not self.case.newest:
            return await levers.rejoin(request)
        self.case.mind_cancel()
        proof = asyncio.create_task(levers.rejoin(request))
        await workflow.wait_condition(lambda: proof.done() or self.case.cancelled)
        if not proof.done():
            proof.cancel()
        return await proof

    async def _watch(self) -> Literal["aborted", "replan", "by_hand"] | None:
        """Returns None once the fault has been gone for `clear_for_s`: no alert fires AND it is measured gone."""
        every, since = self.step.restore.every_s, workflow.now()
        pause = every
        while True:
            stop = await self.case.safe_point()
            if stop == "aborted" or stop == "replan":
                return stop
            look = await self._look()
            if look.by_hand and await self._ended(look.by_hand):
                return "by_hand"
            if look.by_hand is not None:
                self.case.handed_back = False
            self._absent = look.absent
            quiet = self._quiet()
            if look.gone and quiet:
                now = workflow.now()
                if self._clear_since is None:
                    self.case.note("fault gone?", look.detail)
                self._clear_since = self._clear_since or now
                pause = every * self._times()
                if (now - self._clear_since).total_seconds() >= self._patience():
                    # What stood unproven has helped after all, or only in part and something else did: users are well.
                    self.case.record.mitigated_at = self.case.record.mitigated_at or self._clear_since
                    return None
            else:
                self._clear_since = None
            why = look.detail if quiet else f"{look.detail}; an alert still fires"
            self.case.show("mitigated", details.stands(self.step.envelope.direction, self.record.receipts, why))
            await self.case.wait(max(pause, self._least_pause()), f"Stands: {why}")
            self.case.news.clear()
            if self._clear_since is None:
                stood_s = (workflow.now() - since).total_seconds()
                pause = min(pause * 1.3, max(LONGEST_LOOK_S, stood_s / 20))

    def _patience(self) -> float:
        """What stands may be all that keeps the fault away: after a restore that failed it is tried again much later."""
        return self.step.restore.clear_for_s * self._times()

    def _times(self) -> float:
        return min(float(AGAIN_AFTER) ** self._failed, MOST_PATIENCE) * 2.0**self._failed_late

    def _least_pause(self) -> float:
        """A fault that comes and goes makes looks frequent again each time: not for ever."""
        return (workflow.now() - self._since).total_seconds() / 20 if _long() else 0.0

    def _quiet(self) -> bool:
        """No alert fires, or its detector has said nothing for so long that only the measurement counts."""
        return not self.case.firing() or self.case.silent()

    async def _look(self) -> WatchResult:
        assert self.case.record.target is not None
        request = WatchRequest(target=self.case.record.target, step=self.step)
        if self.case.newest:
            receipts = tuple(r.id for r in self.record.receipts if r.id not in self.case.by_hand)
            request = request.model_copy(update={"workflow_id": self.case.record.workflow_id, "receipts": receipts})
        try:
            return await levers.watch(request)
        except ActivityError as error:
            return WatchResult(gone=None, detail=f"could not be measured: {error.cause or error}", by_hand=None)

    async def _ended(self, receipts: Collection[str]) -> bool:
        """What people took back, or settled, is theirs. True when nothing of the step is left to be watched."""
        self.case.by_hand |= set(receipts)
        self.case.note("by hand", f"{self.step.id}: {', '.join(receipts)} taken back or settled by people")
        stands: Receipt | None = None
        for receipt in self.record.receipts:
            if receipt.id not in self.case.by_hand:
                stands = merged(stands, receipt)
        self.record.standing = stands
        await self.moves.release(self.step, self.record, applied=False)
        return stands is None

    async def _restore(self) -> bool:
        """The whole ramp. Each part is checked, permitted, applied and verified like any other change."""
        for share in self.step.restore.ramp:
            if share <= self._back:
                continue
            if self.case.bell > self.case.heard:
                await self.case.attest()
            if self.case.taken_by or self.case.aborted_by:
                return False
            part = (share - self._back) / (1 - self._back)
            if not await self._ramp(part):
                return False
            self._back = share
        return True

    async def _ramp(self, part: float) -> bool:
        stands = self.record.standing
        if stands is None:
            return True
        result = await self._permitted(stands, part)
        if result is None or result.permit is None or result.change is None:
            if result is not None and result.complete:
                if part == 1.0:  # nothing is left to go back to: after a Reset the restore was done already
                    self.record.standing = None
                    await self.moves.release(self.step, self.record, applied=False)
                return True
            await self.moves.release(self.step, self.record, applied=False)
            await self.case.wait(2, "Restore is not allowed yet")
            self.case.news.clear()
            return False
        if self.case.cancelled:  # said while the gates were asked: the next safe point hears it
            await self.moves.release(self.step, self.record, applied=False)
            return False
        # The journal counts what stood until the case closes: a restore may yet be taken back.
        acted = await self.moves.apply(self.step, result.change, result.permit)
        if acted.receipt is None:
            self.case.note("restore refused", acted.why)
            await self.moves.release(self.step, self.record, applied=acted.uncertain)
            return False
        self.record.receipts.append(acted.receipt)
        if not acted.whole:  # what is back already is passed over when it is tried again
            self.case.note("restored in part", acted.why)
            await self.moves.release(self.step, self.record, applied=True)
            return False
        effect = await self.moves.verify(without_own(self.step), acted.receipt, {})
        self.record.effects.append(effect)
        self.case.note(f"restore: {effect.outcome}", effect.why)
        if effect.outcome == "better":
            self.record.standing = left(stands, acted.receipt, whole=part == 1.0)
            await self.moves.release(self.step, self.record, applied=True)
            return True
        if self.case.taken_by or self.case.aborted_by:
            # What is back stays back, what stands is this person's or is taken back whole: nothing is applied anew.
            self.record.standing = left(stands, acted.receipt, whole=part == 1.0)
            await self.moves.release(self.step, self.record, applied=True)
            return False
        return await self._mitigate_again(stands, acted.receipt)

    async def _permitted(self, stands: Receipt, part: float) -> CheckResult | None:
        """The gates' and the Guard's word on this part of the ramp.

        "Not yet" of the Guard is the rule after the part before it (the domain must settle): asked again at once, since
        counting it as a failed restore would give every ramp of four parts up half way.
        """
        for _ in range(NOT_YET_AT_MOST):
            result = await self.moves.check(self.step, "restore", len(self.record.receipts), stands, part, self._rejoin)
            waits = result is not None and result.guard in ("refused", "queued") and result.retry_after_s > 0
            if result is None or not waits:
                return result
            # Queued: its turn comes by news of the Guard, which wakes it; counted as failed, a long rollout of another
            # case would end in "Restore failed" three times over.
            if await self.case.wait(result.retry_after_s, f"Restore: {result.guard_why}") and not self._granted():
                return result  # somebody has something to say: he is heard first
        return result

    def _granted(self) -> bool:
        """True when what woke us is only that our turn has come."""
        only = bool(self.case.news) and not self.case.called and not self.case.inbox
        self.case.news.clear()
        return only

    async def _mitigate_again(self, stands: Receipt, restored: Receipt) -> bool:
        """The restore did harm or proved nothing: put the mitigation back, and watch on. Always False."""
        result = await self.moves.check(self.step, "undo", len(self.record.receipts), restored)
        if result is not None and result.permit is not None and result.change is not None:
            acted = await self.moves.apply(self.step, result.change, result.permit)
            if acted.receipt is not None and acted.whole:
                self.record.receipts.append(acted.receipt)
                await self.moves.release(self.step, self.record, applied=True)
                return False
        # It could not be put back: what stands is now the partly restored state, and people must know.
        self.record.standing = left(stands, restored)
        await self.moves.release(
            self.step, self.record, applied=True, bad="a restore did harm and could not be taken back"
        )
        await self.case.page_people(
            f"{self.step.id}/restore-harm",
            "A restore did harm",
            "It could not be taken back; look at the endpoint now.",
        )
        return False

    async def take_back(self) -> bool:
        """For an abort: back to before at once, by the undo gates. True when nothing stands any more."""
        stands = self.record.standing
        if stands is None:
            return True
        if self.case.newest:
            look = await self._look()
            if look.by_hand is None:  # it may be theirs by now: nothing is taken back on a guess
                self.case.note("not taken back", f"{self.step.id}: {look.detail}")
                return False
            if look.by_hand and await self._ended(look.by_hand):
                return True
            stands = self.record.standing
            assert stands is not None
        # No state of a case says this: a Guard that doubts whether its lock is in use must hear it all the same.
        self.case.at_work = True
        whole = await self._taken_back(stands)
        # Not where it was cancelled or failed: the lock is in its hand then until the case has closed.
        self.case.at_work = False
        return whole

    async def _taken_back(self, stands: Receipt) -> bool:
        for _ in range(UNDOES_AT_MOST):
            result = await self.moves.check(self.step, "undo", len(self.record.receipts), stands)
            if result is not None and result.complete:  # somebody was faster, or nothing of it can be taken back
                self.record.standing = None
                await self.moves.release(self.step, self.record, applied=False)
                return True
            if result is not None and result.permit is not None and result.change is not None:
                ends = {**{r.id: "undone" for r in self.record.receipts}, "self": "undone"}
                acted = await self.moves.apply(self.step, result.change, result.permit, ends)
                if acted.receipt is not None:
                    self.record.receipts.append(acted.receipt)
                if acted.receipt is not None and acted.whole:
                    self.record.standing = None
                    await self.moves.release(self.step, self.record, applied=True)
                    return True
            await self.case.pause(1, "Undo is tried again")
        await self.moves.release(self.step, self.record, applied=False)
        return False


def _long() -> bool:
    """True when the case must not grow as it did."""
    return workflow.info().get_current_history_length() > HISTORY_AT_MOST


def left(stands: Receipt, restored: Receipt, whole: bool = False) -> Receipt | None:
    """What still stands after a part of the way back: None when all settings are those of before.

    `whole`: it was the last part. What it passed over (a freeze that the case's own rollback has lifted) was back
    already, is not in its receipt, and would else stand in the Guard's book for ever.
    """
    if whole:
        return None
    after = {**stands.after, **restored.after}
    if all(after[k] == stands.before[k] for k in stands.before if not one_way(k)):
        return None
    return merged(None, stands).model_copy(update={"after": after, "permit_id": restored.permit_id})
