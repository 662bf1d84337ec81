"""The spine of a Remediation: diagnose; per step check → apply → verify → undo if worse; stand; restore; close."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.casebook import CasebookActivities
from runbooks.detection import Detection, Target, batches, member, workflow_id
from runbooks.levers import Page
from runbooks.people import CloseRequest
from runbooks.record import CaseRecord, CaseResult, Outcome, StepRecord, sealed
from workflows import details
from workflows.casefile import LEVER, Cancelled, CaseFile
from workflows.diagnosis import diagnose
from workflows.doors import Doors
from workflows.increments import Increments
from workflows.loose import NOTHING
from workflows.one_step import HISTORY_AT_MOST
from workflows.retries import QUICK
from workflows.standing import Standing
from workflows.steps import StepRun
from workflows.uncancelled import uncancelled

NOTHING_STANDS = ("refused", "undone", "rejected", "expired", "already")
"""Ends of a step that changed nothing for good, after which the runbook goes on."""


class Rounds(Doors):
    """Durable mitigation of one target, from the first detection to closed; what fires again at the end, in another round."""

    def __init__(self) -> None:
        super().__init__()
        self._round = 1
        self._cut_short = False
        self._renewed = self._by_chance = self._tells_all = self._newest = False
        self._cancelled_in_temporal = False

    async def rounds(self, raw: RawValue) -> CaseResult:
        """Until nothing fires that came after the last round."""
        # Asked for before anything else: where a query cuts a workflow task short while a local activity runs, a replay comes
        # by here before it knows of a patch that was asked for after it (temporalio 1.35, measured).
        # One for all that is there by now: each one asked for is two events and a write to the visibility store in every case.
        now = workflow.patched("2026-11-28")
        self._renewed = now or workflow.patched("looks-and-rests")
        self._by_chance = now or workflow.patched("case-ids-by-chance")
        self._tells_all = now or workflow.patched("hands-over-what-was-overtaken")
        self._newest = now
        while True:
            one = self._whole_round(raw)
            case, result = await (uncancelled(one, self._cancel) if self._newest else one)
            # No await between this look and the return: an alert that comes later starts the next run instead.
            firing = any(d.status == "firing" for d in case.inbox)
            if not firing and workflow.all_handlers_finished():
                return result
            raw = NOTHING
            self._early = list(case.inbox)
            self._round += 1

    def _cancel(self) -> None:
        """Heard at the next safe point, as everything that people say."""
        self._cancelled_in_temporal = True
        if self._case is not None:
            self._case.cancelled = True

    async def _whole_round(self, raw: Any) -> tuple[CaseFile, CaseResult]:
        case = self._open()
        result = await self._one_round(case, raw)
        await workflow.wait_condition(workflow.all_handlers_finished)
        while result.outcome == "handed_over" and case.inbox:
            fired = [d for d in case.inbox if d.status == "firing"] if self._tells_all else []
            case.merge()  # said while it was handed over, a resolution as well: the domain's case must hear it
            # And what fired meanwhile and is resolved already: no record would have it, for ours is written.
            await self._hand_to_domain(case, [d for d in fired if case.detections.get(d.key) != d])
            await workflow.wait_condition(workflow.all_handlers_finished)
        return case, result

    def _open(self) -> CaseFile:
        info = workflow.info()
        # A run id begins with its time: two cases of one target within a minute had one id, and one record for both.
        run = info.first_execution_run_id[-8:] if self._by_chance else info.first_execution_run_id[:8]
        case = CaseFile(f"{info.workflow_id}#{run}.{self._round}", workflow.now())
        case.renewed, case.tries_on = self._renewed, self._by_chance  # which came in one release
        case.cancelled, case.newest = self._cancelled_in_temporal, self._newest
        if self._case is not None:
            case.attested_upto, case.bell, case.heard = self._case.attested_upto, self._case.bell, self._case.heard
            case.nonces = self._case.nonces
            # What was resolved stays so for an older firing that was overtaken on its way.
            case.detections = {k: d for k, d in self._case.detections.items() if d.status == "resolved"}
        self._case = case
        return case

    async def _one_round(self, case: CaseFile, raw: Any) -> CaseResult:
        refused = case.take_in(raw) if raw is not NOTHING else ""
        while self._early:
            refused = case.take_in(self._early.pop(0)) or refused
        if not case.inbox:
            why = refused or "it was started without a detection"
            await case.page_people("refused-input", "A detection could not be read", why)
            return await self._close(case, "refused_input", why)
        if refused:
            case.note("input refused", refused)
        try:
            return await self._remediate(case)
        except Cancelled:
            return await self._cancelled(case)
        except asyncio.CancelledError:
            if self._newest:
                raise  # it is put out of memory
            return await self._cancelled(case)
        except ActivityError as error:
            if is_cancelled_exception(error):
                return await self._cancelled(case)
            # What must happen could not, for good. People are told before the case ends; a lock that is still held is
            # left to the Guard, which finds the case closed and tells people what stands.
            why = f"Interlock could not go on: {error.cause or error}"
            case.note("failed", why)
            case.record.owner = await case.page_people("failed", "A case could not go on", f"{why}\n\n{_story(case)}")
            return await self._close(case, "paged", why)

    async def _cancelled(self, case: CaseFile) -> CaseResult:
        """Cancelled in Temporal: nothing more is done, but the record is written and people get what stands.

        A lock that is still held is left to the Guard, which finds the case closed and tells people as well.
        """
        stands = [s.standing for s in case.record.steps if s.standing is not None]
        why = "cancelled in Temporal" + (f"; {len(stands)} change(s) stand" if stands else "; nothing of it stands")
        doubtful = unproven(case.record) if self._newest else []
        why += "".join(f"; {what}" for what in doubtful)
        case.record.owner = await case.page_people(
            "cancelled", "A case was cancelled in Temporal", f"{why}\n\n{_story(case)}"
        )
        return await self._close(case, "adopted" if stands or doubtful else "aborted", why)

    async def _remediate(self, case: CaseFile) -> CaseResult:
        if await self._misdirected(case):
            return await self._close(case, "forwarded", "it was about another target, and was forwarded")
        moves = Increments(case)
        case.merge()
        stood: list[Standing] = []
        self._cut_short = False
        while True:
            outcome, why = await self._plan_and_act(case, moves, stood)
            if outcome is not None:
                return await self._close(case, outcome, why)

    async def _misdirected(self, case: CaseFile) -> bool:
        """Forwards what is not about this workflow's target. True when nothing is left for this one."""
        await case.send_on()
        if case.inbox:
            case.record.target = case.inbox[0].target
        return not case.inbox

    async def _plan_and_act(
        self, case: CaseFile, moves: Increments, stood: list[Standing]
    ) -> tuple[Outcome | None, str]:
        """One plan. (None, …): plan again. Nothing ends while something of this case stands unwatched."""
        if not case.firing() and not stood:
            return self._resolved(case)
        before = case.record.classification
        case.plan_again = False
        if case.firing():
            case.planned = frozenset(d.key for d in case.firing())
            await diagnose(case)
        same = before is not None and case.record.classification == before
        # One more alert of the same fault must not leave half a drain standing, nor the steps after it undone.
        cut_short, self._cut_short = self._cut_short, False
        if stood and (not case.firing() or (same and not cut_short)):
            return await self._stand(case, stood)
        outcome, why = await self._steps(case, moves, stood)
        if stood and outcome in ("paged", "observed", "self_resolved"):
            return await self._stand(case, stood)
        if outcome in ("paged", "observed"):
            return await self._linger(case, outcome, why)
        return outcome, why

    async def _steps(self, case: CaseFile, moves: Increments, stood: list[Standing]) -> tuple[Outcome | None, str]:
        """The plan's steps in order: a refused or undone one falls through to the next, after the last comes a person."""
        assert case.diagnosis is not None
        plan = case.diagnosis.plan
        for step in plan.steps:
            case.mind_cancel()
            if isinstance(step.step, Page):
                key = f"{plan.failure_class}/{step.id}"
                case.record.owner = await case.page_people(key, step.step.summary, _story(case))
                return "paged", step.step.summary
            run = StepRun(case, moves, step, follows=bool(stood))
            workflow.upsert_search_attributes([LEVER.value_set(step.step.lever)])
            end = await run.run()
            if run.record.standing is not None or (end == "mitigated" and run.record.receipts):
                stood.append(Standing(case, moves, step, run.record))
            helps = (end == "mitigated" and step.then != "enable") or (end == "enough" and stood)
            if helps and case.record.mitigated_at is None:
                case.record.mitigated_at = workflow.now()  # time to mitigate stops here
                helped = step if end == "mitigated" else stood[-1].step
                case.note("mitigated", f"{helped.step.lever}: {helped.envelope.direction}")
            if end in NOTHING_STANDS:
                await self._no_use(case, stood)
            if end == "partly" or (end in ("mitigated", "kept") and step.then != "stand"):
                # What helped a little stands, and the next step is added to it. What stands unproven has been told to people;
                # a freeze in the middle of an outage can prove nothing, and must not keep traffic from being moved.
                continue
            if stood and stood[-1].record is run.record and end in ("mitigated", "kept"):
                return await self._stand(case, stood)
            match end:
                case "replan":
                    self._cut_short = True
                    return None, ""
                case "enough":
                    return await self._stand(case, stood)
                case "resolved":
                    return self._resolved(case)
                case "correlated":
                    return await self._hand_over(case, stood)
                case "aborted":
                    return await self._aborted(case, stood)
                case "observed":
                    return "observed", "observe mode: decided and recorded, nothing was touched"
                case "stopped":
                    return "paged", f"{step.step.lever} was taken back, and what was there before is bad as well"
                case "uncertain":
                    return "paged", f"{step.step.lever} may or may not have been applied"
                case _:
                    continue  # refused, rejected, expired, undone: the next step
        if stood:  # the last step went on to a next that there is not: what helped stands
            if case.record.steps[-1].end == "partly":
                key = f"{plan.failure_class}/partly"
                case.record.owner = await case.page_people(key, "The runbook ends with only a part done", _story(case))
            return await self._stand(case, stood)
        case.record.owner = await case.page_people(
            f"{plan.failure_class}/exhausted", "The runbook has no further step", _story(case)
        )
        return "paged", "no step of the runbook could be done"

    async def _no_use(self, case: CaseFile, stood: list[Standing]) -> None:
        """A step that only made room for this one is taken back at once, by the gates of an undo: whoever it refuses would be
        refused for nothing. When it cannot be, it stands and is watched like everything else."""
        if not stood or stood[-1].step.then != "enable":
            return
        if case.bell > case.heard:
            await case.attest()
        if case.taken_by:
            return  # a person has it: nothing is done, and what stands is watched
        case.note("no use", f"{stood[-1].step.id}: nothing stands of what it made room for")
        if await stood[-1].take_back():
            stood.pop()

    async def _hand_over(self, case: CaseFile, stood: list[Standing]) -> tuple[Outcome | None, str]:
        """Many targets are sick at once: the domain's case takes its detections. What stands of this one it ends itself."""
        if stood:
            return await self._stand(case, stood)
        return "handed_over", f"its fault is one of many: {await self._hand_to_domain(case)} has it"

    async def _hand_to_domain(self, case: CaseFile, overtaken: Sequence[Detection] = ()) -> str:
        """All that is known of this target, resolved or not, after what was overtaken. The domain's workflow id."""
        assert case.record.target is not None
        wide = Target(cluster=case.record.target.domain)
        await case.attest()  # who has asked for this may not approve it there either
        members = [member(d, wide, min(case.requesters, default="")) for d in (*overtaken, *case.detections.values())]
        for part in batches(members):
            await workflow.execute_activity_method(
                CasebookActivities.hand_over, part, **QUICK, summary=f"Hand over to {wide.id}"[:200]
            )
        return workflow_id(wide)

    async def _linger(self, case: CaseFile, outcome: Outcome, why: str) -> tuple[Outcome | None, str]:
        """People have it now. While its alerts go on firing, repeats join this case instead of asking people again."""
        assert case.diagnosis is not None
        quiet_s = case.diagnosis.timing.linger_s
        while True:
            case.mind_cancel()
            case.show("handed_over", f"People were told: {details.esc(why)}")
            left = quiet_s - (workflow.now() - case.last_word()).total_seconds()
            if left <= 0 or workflow.info().get_current_history_length() > HISTORY_AT_MOST:
                await case.tell_of_members(last=True)
                return outcome, why
            await case.wait(left, "People have this case; repeats join it")
            case.news.clear()
            match await case.safe_point():
                case "aborted" | "resolved":
                    return outcome, why
                case "replan":
                    return None, ""
                case None:
                    continue

    async def _stand(self, case: CaseFile, stood: list[Standing]) -> tuple[Outcome | None, str]:
        """What stands is watched until it can be restored, the newest first."""
        while stood:
            end = await stood[-1].run()
            if end == "replan":
                return None, ""
            if end == "aborted":
                return await self._aborted(case, stood)
            if end == "kept":
                return await self._kept(case, stood)
            case.left_out = case.left_out or end == "absent"  # kept through a new plan: it may not close as restored
            stood.pop()
            if end == "by_hand" and not stood:
                return await self._by_hand(case)
        if case.firing() and not case.silent():
            return None, ""
        if case.left_out:
            return "adopted", f"what stands is owned by: {case.record.owner}"
        if not any(s.back == "restorable" and s.receipts for s in case.record.steps):
            return "fixed", "the fault is gone, and what was changed is meant to stay"
        case.record.restored_at = workflow.now()
        return "restored", "the fault is gone and everything is back to normal"

    async def _by_hand(self, case: CaseFile) -> tuple[Outcome | None, str]:
        """People took back the last of what stood. Done anew at once it would be a fight; handed back since, it is planned anew."""
        if case.handed_back and case.firing():
            case.handed_back = False
            return None, ""
        why = "what stood was taken back or settled by people"
        case.record.owner = await case.page_people(
            "by-hand", "A change was taken back by hand", f"{why}\n\n{_story(case)}"
        )
        return await self._linger(case, "adopted", why) if case.firing() else ("adopted", why)

    def _resolved(self, case: CaseFile) -> tuple[Outcome, str]:
        if case.left_out:
            return "adopted", f"what stands is owned by: {case.record.owner}"
        return "self_resolved", "all its alerts resolved before anything was done"

    async def _kept(self, case: CaseFile, stood: list[Standing]) -> tuple[Outcome, str]:
        """A change that could not be restored is owned by who was told."""
        if len(stood) > 1:  # people were told of the last one only
            lines = "\n".join(f"- {s.step.step.lever}: {s.step.envelope.direction}" for s in stood)
            case.record.owner = await case.page_people("adopted", "A case ends with several changes standing", lines)
        return "adopted", f"what stands is owned by: {case.record.owner}"

    async def _aborted(self, case: CaseFile, stood: list[Standing]) -> tuple[Outcome, str]:
        """All is taken back, or owned by the person who said so."""
        left = [s for s in reversed(stood) if not await s.take_back()]  # the newest first: it may lie on an older
        if not left and case.left_out:  # its people were told when it was
            return "adopted", f"aborted by {case.aborted_by}; what stands is owned by: {case.record.owner}"
        if not left:
            return "aborted", f"aborted by {case.aborted_by}; nothing of it stands"
        case.record.owner = case.aborted_by
        await case.page_people("aborted", "An aborted case left changes standing", _story(case))
        return "adopted", f"aborted by {case.aborted_by}, who owns what stands"

    async def _close(self, case: CaseFile, outcome: Outcome, why: str) -> CaseResult:
        """The lock is free by now. First the record, then people are told, then the end."""
        case.show("closing")
        record = case.record
        record.outcome, record.why, record.closed_at = outcome, why, workflow.now()
        case.note("closed", f"{outcome}: {why}")
        kept = sealed(record)
        record.head = kept.head
        await workflow.execute_activity_method(
            CasebookActivities.close,
            CloseRequest(
                case=record.case,
                workflow_id=record.workflow_id,
                record=kept.text,
                settle=_settled(record, case.by_hand),
            ),
            **QUICK,
            summary="Write the record",
        )
        if outcome in ("restored", "fixed", "observed", "aborted"):
            await case.page_people(f"{record.case}/closed", f"Closed: {outcome}", why)
        case.show("closed")
        found = record.classification
        return CaseResult(
            case=record.case,
            outcome=outcome,
            failure_class=found.failure_class if found else "",
            lever=_lever(record),
            why=why,
            restored=outcome == "restored",
            head=kept.head,
        )


def _settled(record: CaseRecord, by_hand: Collection[str]) -> dict[str, str]:
    """Receipt id → how it ended, for the journal."""
    out: dict[str, str] = {}
    for step in record.steps:
        for receipt in step.receipts:
            if receipt.id in by_hand:
                continue  # people have said how it ended
            gone = (
                "undone"
                if step.end in ("undone", "stopped")
                else "restored"
                if step.back == "restorable"
                else "permanent"
            )
            out[receipt.id] = gone if step.standing is None else "adopted"
    return out


def unproven(record: CaseRecord) -> list[str]:
    """What a case that was cancelled leaves to people and nothing counts as standing."""
    out = []
    for step in record.steps:
        if step.end == "uncertain":
            out.append(f"{step.lever} may or may not have been applied")
        elif step.back == "irreversible" and step.receipts and not step.end:
            out.append(f"{step.lever} was done, cannot be taken back, and is not proven to help")
    return out


def _lever(record: CaseRecord) -> str:
    """The lever that acted last, if any did."""
    acted: list[StepRecord] = [s for s in record.steps if s.receipts]
    return acted[-1].lever if acted else ""


def _story(case: CaseFile) -> str:
    """What a person who is woken needs: what fires, what was tried, why it ended."""
    lines = [f"{e.at:%H:%M:%S} {e.what}: {e.text}" for e in case.record.timeline[-15:]]
    return "\n".join(lines)
