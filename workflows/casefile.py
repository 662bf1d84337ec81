"""The running case: its record, its inbox, its people, and the page that shows it. No decision is taken here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from activities.attest import AttestActivities
from activities.casebook import CasebookActivities
from runbooks.decisions import counted, same_person, with_requesters
from runbooks.detection import CORRELATED, Detection, guard_id
from runbooks.guard import News, Release
from runbooks.people import Attested, AttestRequest, Pending, Rights, Stage, TellRequest
from runbooks.plan import CheckResult, Diagnosis
from runbooks.record import CaseRecord, Judged, State
from workflows import details
from workflows.loose import opened
from workflows.retries import BRIEF, QUICK

CLASS = SearchAttributeKey.for_keyword("InterlockClass")
STATE = SearchAttributeKey.for_keyword("InterlockState")
SERVICE = SearchAttributeKey.for_keyword("InterlockService")
LEVER = SearchAttributeKey.for_keyword("InterlockLever")
Stop = Literal["aborted", "replan", "resolved"]


SPOKEN_AT_MOST = 100
"""Detections in the input of one activity: two megabytes end a workflow, unheard."""
MEMBERS_TOLD_FIRST = timedelta(seconds=60)
MEMBERS_TOLD_EVERY = timedelta(minutes=15)


def readable(error: ValidationError) -> str:
    """The first problem of a payload in one sentence that names the field."""
    first = error.errors()[0]
    field = ".".join(str(p) for p in first["loc"]) or "the payload"
    return f"{field}: {first['msg']}"


class Cancelled(Exception):
    """The case was cancelled in Temporal, and has come to a point where that can be heard."""


class CaseFile:
    """State shared by the parts of a Remediation."""

    def __init__(self, case: str, now: datetime) -> None:
        info = workflow.info()
        self.record = CaseRecord(case=case, workflow_id=info.workflow_id, run_id=info.run_id, opened_at=now)
        self.inbox: list[Detection] = []
        self.detections: dict[str, Detection] = {}
        self.news: list[News] = []
        self.bell = 0
        self.heard = 0
        self.attested_upto = 0
        self.diagnosis: Diagnosis | None = None
        self.requesters: set[str] = set()
        self._pending: Pending | None = None
        self._ended: Pending | None = None
        self.left_out = False  # something stands that nobody watches: people own it
        self.at_work = False  # under a lock, whatever the state says
        self._had_receipts = 0
        self._attesting = asyncio.Lock()
        self.taken_back = False
        self.named = False
        self.approvals: dict[str, Attested] = {}
        self.rejected: Attested | None = None
        self.nonces: set[str] = set()
        self.taken_by = ""
        self.aborted_by = ""
        self.state: State = "triage"
        self.waiting = ""
        self.plan_again = False
        self.planned: frozenset[str] = frozenset()
        self.renewed = False
        """Whether its run began with what this release brought (see `Rounds.rounds`)."""
        self.cancelled = False  # in Temporal: heard at the next safe point
        self.newest = False
        """Whether its run began with the newest of what a run begins with (see `Rounds.rounds`)."""
        self.by_hand: set[str] = set()  # receipts that people took back or settled themselves
        self.handed_back = False  # by a person, and nothing that stands was looked at since
        self.tries_on = False
        """Whether a restore that failed is tried on, for ever: a run that began before there was this ends after three."""
        self.planned_at = now
        self.members_told: set[str] = set()
        self.members_told_at = now
        self.members_told_again = False

    # --- what the page and the search show -------------------------------------------------------------------------

    def show(self, state: State | None = None, waiting: str = "") -> None:
        """Sets the state and renders the page."""
        self.waiting = waiting
        if state is not None and state != self.state:
            self.state = state
            workflow.upsert_search_attributes([STATE.value_set(state)])
        workflow.set_current_details(details.page(self.record, self.state, waiting))

    def note(self, what: str, text: str) -> None:
        """A line of the timeline."""
        self.record.add(workflow.now(), what, text)
        workflow.set_current_details(details.page(self.record, self.state, self.waiting))

    def judged(self, step: str, purpose: str, result: CheckResult) -> None:
        """Keeps a verdict; the same verdict of the same gates again is kept once."""
        guard = f"{result.guard}: {result.guard_why}" if result.guard != "none" else ""
        new = Judged(at=workflow.now(), step=step, purpose=purpose, verdict=result.verdict, guard=guard)
        last = self.record.verdicts[-1] if self.record.verdicts else None
        if last is not None and result.guard != "permit" and last.like(new):
            self.record.verdicts[-1] = new  # held for an hour: a record that grew with it could not be written at last
            return
        self.record.verdicts.append(new)
        if result.guard not in ("none", "permit", "shadow"):
            self.note(f"no permit yet ({result.guard})", f"{step} ({purpose}): {result.guard_why}")
            return
        self.note(f"gates: {result.verdict.outcome}", f"{step} ({purpose}): {result.verdict.because()}")

    # --- detections ------------------------------------------------------------------------------------------------

    def take_in(self, raw: Any) -> str:
        """One detection, or a list of them, into the inbox. Returns what is wrong with one of them, or nothing."""
        raw, unreadable = opened(raw)
        if unreadable:
            return unreadable
        if isinstance(raw, list) and raw:
            # A storm comes as lists; one bad detection does not cost the others.
            wrong = [w for w in [self.take_in(one) for one in raw] if w]
            return "; ".join(wrong[:3])
        try:
            detection = raw if isinstance(raw, Detection) else Detection.model_validate(raw)
        except ValidationError as error:
            return readable(error)
        if detection.received_at is None:
            detection = detection.model_copy(update={"received_at": workflow.now()})
        self.inbox.append(detection)
        return ""

    async def send_on(self) -> None:
        """What is about another target goes to the right case. It leaves the inbox only when it is there."""
        while stray := next((d for d in self.inbox if d.workflow_id != self.record.workflow_id), None):
            await workflow.execute_activity_method(
                CasebookActivities.forward, stray, **QUICK, summary=f"Forward to {stray.workflow_id}"[:200]
            )
            self.inbox.remove(stray)
            self.note("forwarded", stray.workflow_id)

    def merge(self) -> None:
        """Empties the inbox into the set of fingerprints. A graver or a new one makes the case plan again.

        A storm brings thousands in one task, which the server ends after two seconds: one pass, one look at the page.
        """
        inbox, self.inbox = self.inbox, []
        rank = max((d.severity.rank for d in self.detections.values()), default=-1)
        members = sum(d.alert == CORRELATED and d.status == "firing" for d in self.detections.values())
        told: dict[tuple[str, str, str], int] = {}
        for new in inbox:
            if new.reported_by:
                self.requesters.add(new.reported_by)  # kept when a detector's word replaces this one
            old = self.detections.get(new.key)
            if old is not None and new.seen_at < old.seen_at:
                continue  # re-ordered on the way: the newer word counts
            graver, rank = new.severity.rank > rank, max(rank, new.severity.rank)
            was = old is not None and old.status == "firing" and old.alert == CORRELATED
            self.detections[new.key] = new
            if old is None or old.status != new.status:
                line = (new.status, new.alert, new.detector)
                told[line] = told.get(line, 0) + 1
            # One more member of a fault that is known to be the domain's changes no plan: else 200 would ask 200 times.
            joins = new.alert == CORRELATED and members - was > 0
            members += (new.alert == CORRELATED and new.status == "firing") - was
            if new.status == "firing" and (graver or (not joins and (old is None or old.status == "resolved"))):
                self.plan_again = True
        for (status, alert, detector), count in told.items():
            self.note(f"alert {status}", f"{alert} by {detector}" + (f", {count} times" if count > 1 else ""))
        if inbox:
            self.record.detections = list(self.detections.values())

    def spoken(self) -> tuple[Detection, ...]:
        """The detections that a check or a triage gets: all, or of very many the gravest and newest that fire."""
        if len(self.detections) <= SPOKEN_AT_MOST:
            return tuple(self.detections.values())
        gravest = sorted(self.firing(), key=lambda d: (d.severity.rank, d.observed_at, d.key), reverse=True)
        return tuple(gravest[:SPOKEN_AT_MOST])

    async def tell_of_members(self, last: bool = False) -> None:
        """A domain's case whose people know of it tells them of further targets, now and then: whoever joins it later must
        not fall sick in silence."""
        members = {d.labels.get("member", "") for d in self.firing() if d.alert == CORRELATED}
        new, now = sorted(members - self.members_told), workflow.now()
        due = self.members_told_at + (MEMBERS_TOLD_FIRST if not self.members_told_again else MEMBERS_TOLD_EVERY)
        if not new or (self.members_told and now < due and not last):
            return
        first = not self.members_told
        self.members_told |= members
        self.members_told_at = now
        self.members_told_again = not first
        if not first:  # the first ones are what its own page is about
            names = "\n".join(f"- {name}" for name in new[:50])
            title = (
                f"{len(new)} more target(s) of {self.record.target.id if self.record.target else 'the domain'} are sick"
            )
            await self.page_briefly(f"members/{now:%Y%m%dT%H%M%S}", title, names)

    def firing(self) -> tuple[Detection, ...]:
        """What fires now."""
        return tuple(d for d in self.detections.values() if d.status == "firing")

    def last_word(self) -> datetime:
        """When a detector last said that it fires."""
        heard = [d.received_at for d in self.firing() if d.received_at is not None]
        return max(heard, default=self.record.opened_at)

    def silent(self) -> bool:
        """Its detectors fire, and have said nothing for so long that only what is measured counts: many never repeat."""
        assert self.diagnosis is not None
        firing = self.firing()
        if any(d.key not in self.planned for d in firing):
            return False  # it came after the plan, and nothing that is measured for this one says anything about it
        quiet_s = (workflow.now() - self.last_word()).total_seconds()
        return bool(firing) and quiet_s > self.diagnosis.timing.max_alert_age_s

    # --- people ----------------------------------------------------------------------------------------------------

    def rights(self) -> Rights:
        """Who may decide: the class's policy; before the diagnosis, nobody unverified."""
        if self.diagnosis is None:
            return with_requesters(Rights(group="sre-oncall", quorum=1, accept_unverified=False), self.requesters)
        rule = self.diagnosis.policy
        # What cannot be taken back needs a named, verified person (G6), whatever the class's policy accepts else.
        unverified = rule.accept_unverified and not self.named
        rights = Rights(
            group=rule.approvers,
            quorum=rule.quorum,
            accept_unverified=unverified,
            irreversible=self.named,
            never=rule.never,
            four_eyes=rule.four_eyes,
        )
        return with_requesters(rights, self.requesters)

    @property
    def pending(self) -> Pending | None:
        """The request that people were asked last, until its step ends."""
        return self._pending

    @pending.setter
    def pending(self, new: Pending | None) -> None:
        old = self._pending
        if new is None:
            self._ended = old or self._ended
        elif old is None or old.expires_at != new.expires_at:
            self._had_receipts = self._receipts()  # another request: what was done before it is not its act
        self._pending = new

    @property
    def asked(self) -> Pending | None:
        """What a decision can be about, and how far that has come. While a step is checked or acts, only some count."""
        shown = self._pending or self._ended
        return shown and shown.model_copy(update={"stage": self._stage()})

    def _stage(self) -> Stage:
        if self.state == "waiting_approval":
            return "asked"
        if self.state in ("acting", "verifying", "undoing") or self._receipts() > self._had_receipts:
            return "begun"
        return "held" if self._pending is not None else "ended"

    def _receipts(self) -> int:
        """Acts of the step that runs now, or ran last."""
        return len(self.record.steps[-1].receipts) if self.record.steps else 0

    @property
    def called(self) -> bool:
        """Somebody has said something that the next safe point must hear before anything acts."""
        return (
            self.bell > self.heard or bool(self.taken_by) or bool(self.aborted_by) or self.taken_back or self.cancelled
        )

    async def attest(self) -> None:
        """Reads what people sent by signal, from the history, and takes it in. One reader at a time: else it is heard twice."""
        async with self._attesting:
            self.heard = self.bell
            request = AttestRequest(
                after_event_id=self.attested_upto, rights=self.rights(), pending=self.asked, now=workflow.now()
            )
            result = await workflow.execute_activity_method(
                AttestActivities.attest, request, **QUICK, summary="Who decided what?"
            )
            self.attested_upto = max(self.attested_upto, result.last_event_id)
            self.requesters |= set(result.requesters)
            for decision in result.decisions:
                self.hear(decision)

    def hear(self, one: Attested) -> None:
        """Takes one judged decision in."""
        self.record.decisions.append(one)
        who = f"{one.who}{'' if one.verified else ' (unverified)'}"
        if not one.accepted:
            self.note(f"{one.action} refused", f"{who}: {one.why}")
            return
        word = "approved" if one.approve else "approval taken back" if one.withdraw else "rejected"
        self.note(one.action if one.action != "decide" else word, f"{who}: {one.reason}")
        if self._pending is not None:
            self._pending = counted(self._pending, one)
        match one.action:
            case "decide" if one.approve:
                self.approvals[one.who] = one
            case "decide" if one.withdraw:
                self.approvals = {w: a for w, a in self.approvals.items() if not same_person(w, one.who)}
                self.taken_back = True  # the gates may be judging with it at this moment
            case "decide":
                self.rejected = one
            case "takeover":
                self.taken_by = who
            case "hand_back":
                self.taken_by = ""
                self.plan_again = self.handed_back = True
            case "abort":
                self.aborted_by = who

    # --- cancelled in Temporal -------------------------------------------------------------------------------------

    def mind_cancel(self) -> None:
        """Raises Cancelled when the case was: here nothing is under way that its record would not have."""
        if self.cancelled:
            raise Cancelled

    async def pause(self, seconds: float, summary: str) -> None:
        """Between two tries or two ticks; a cancel ends it."""
        try:
            await workflow.wait_condition(
                lambda: self.cancelled, timeout=timedelta(seconds=seconds), timeout_summary=summary[:200]
            )
        except TimeoutError:
            return
        self.mind_cancel()

    # --- waiting ---------------------------------------------------------------------------------------------------

    async def wait(self, seconds: float, why: str, until: Callable[[], bool] = lambda: False) -> bool:
        """Waits for something to happen: an alert, a person, news of the Guard, `until`. False when the time is up."""
        self.mind_cancel()
        had = len(self.record.decisions)

        def stirred() -> bool:
            spoken = (
                self.bell > self.heard or len(self.record.decisions) > had or bool(self.aborted_by) or self.cancelled
            )
            return spoken or bool(self.inbox) or bool(self.news) or until()

        try:
            await workflow.wait_condition(
                stirred, timeout=timedelta(seconds=max(seconds, 0.05)), timeout_summary=why[:200]
            )
        except TimeoutError:
            return False
        return True

    async def safe_point(self, taken: Callable[[], Awaitable[None]] | None = None) -> Stop | None:
        """Between two acts: hear people, merge alerts; while a person has the case, wait for him, after `taken`."""
        while True:
            self.mind_cancel()
            if self.bell > self.heard:
                await self.attest()
            self.taken_back = False
            await self.send_on()
            self.merge()
            await self.tell_of_members()
            if self.aborted_by:
                return "aborted"
            if self.taken_by:
                self.show("taken_over")
                if taken is not None:
                    await taken()
                await self.wait(3600, f"{self.taken_by} has this case", lambda: not self.taken_by)
                self.news.clear()
                continue
            if not self.firing():
                return "resolved"
            return "replan" if self.plan_again else None

    # --- telling ---------------------------------------------------------------------------------------------------

    async def page_briefly(self, key: str, title: str, body: str) -> None:
        """Pages, but keeps nobody waiting: a webhook that is away must not keep a decision from being heard."""
        request = TellRequest(dedup_key=f"{self.record.case}/{key}", title=title[:200], body=body)
        try:
            told = await workflow.execute_activity_method(
                CasebookActivities.tell, request, **BRIEF, summary=f"Tell people: {title}"[:200]
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            self.note("nobody told", f"{title}: {error.cause or error}")
            return
        self.note("people told", f"{title} ({told.reference})")

    async def page_people(self, key: str, title: str, body: str) -> str:
        """Pages, and does not go on before somebody's system has taken it. Returns its reference."""
        told = await workflow.execute_activity_method(
            CasebookActivities.tell,
            TellRequest(dedup_key=f"{self.record.case}/{key}", title=title[:200], body=body),
            **QUICK,
            summary=f"Tell people: {title}"[:200],
        )
        self.note("people told", f"{title} ({told.reference})")
        return f"people told by {told.channel} ({told.reference})"

    async def release(self, domain: str, release: Release) -> None:
        """Gives the domain back. A Guard that is gone has no lock to give back."""
        handle = workflow.get_external_workflow_handle(guard_id(domain))
        try:
            await handle.signal("release", release)
        except ApplicationError as gone:
            # It was terminated, or never started. Failing here would lose the case, and with it what stands.
            self.note("release not heard", f"the Guard of {domain} is gone: {gone}")
