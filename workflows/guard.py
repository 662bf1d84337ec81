"""The durable keeper of one domain. All rules are in `runbooks/guard.py`; this feeds it and tells cases what changed.

Updates answer at once (a waiting acquire would block the release that it waits for); release and news are signals.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from pydantic import Field
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

from activities.attest import AttestActivities
from activities.reaper import Holder, ReaperActivities, ReapRequest
from runbooks.base import Model, Seconds
from runbooks.claims import SignedClaim
from runbooks.facts import GuardView
from runbooks.guard import AcquireRequest, Announce, Answer, GuardState, News, Release
from runbooks.guard_memory import Remember
from runbooks.guard_words import Lock, reading
from runbooks.people import OrderAttestRequest, OrderClaimRequest, Ordered
from workflows.guard_page import guard_page
from workflows.guard_turns import Settled, Turns, Word
from workflows.locally import judged, reason
from workflows.loose import NOTHING, opened
from workflows.retries import KEEP, LOOK, PURE, QUICK
from workflows.uncancelled import uncancelled

LEAST = timedelta(milliseconds=1)
CONTINUE_AFTER = 500
"""Requests and signals handled in one run before it continues as new: far from the server's 2,000 updates."""


class GuardStart(Model):
    """`state` is carried by continue-as-new; a first start has none."""

    domain: str
    state: GuardState | None = None
    number: int = Field(default=0, description="Of the memory that is kept in the journal.")
    look_every_s: Seconds = Field(default=20.0, description="How often the holder of the lock is looked at.")


@workflow.defn(name="Guard")
class Guard:
    """One per domain; never ends."""

    @workflow.init
    def __init__(self, start: GuardStart) -> None:
        self._state = start.state or GuardState(domain=start.domain)
        self._ready = start.state is not None
        self._handled = 0
        self._look = False
        self._outbox: list[tuple[str, News]] = []
        self._armed = False
        self._bell = self._heard = 0
        self._attested = 0
        self._orders: list[Ordered] = []
        self._shown = ""
        self._turns = Turns(lambda: self._ready, self._take)
        self._kept = ""
        self._unkept = False
        self._number = start.number
        self._changed = self._keeps = self._heeds = self._remote = self._begun = False
        self._doubted: Lock | None = None

    @workflow.run
    async def run(self, start: GuardStart) -> None:
        """Grants, tells, looks after the holder, and continues as new when it has handled enough."""
        # A run that began before there was this goes on without it; its next run has it.
        now = workflow.patched("guard-2026-11-28")
        self._remote, self._begun = now, True
        self._keeps = now or workflow.patched("guard-remembers")
        # Whether the run before this one could write it down is not known here: once more.
        self._unkept = self._keeps and self._ready
        self._turns.written = now or workflow.patched("guard-turns")
        self._heeds = now or workflow.patched("guard-heeds-what-comes-meanwhile")
        # A timer each time, also when it is due already: where a query cuts a task short while a local activity runs, what came
        # of it is heard later than in a replay (temporalio 1.35), and only how long a timer is may hang on the time.
        least = LEAST if now or workflow.patched("guard-waits-by-a-timer") else timedelta(0)
        if now:
            # A halt that the journal has not taken yet would be forgotten with it. Whoever means it terminates it.
            await uncancelled(
                self._keep_domain(start, least), lambda: workflow.logger.warning("a Guard is not cancelled")
            )
        else:
            await self._keep_domain(start, least)
        # No await between this and its state: what a handler granted meanwhile would be forgotten.
        workflow.continue_as_new(
            GuardStart(domain=start.domain, state=self._state, number=self._number, look_every_s=start.look_every_s)
        )

    async def _keep_domain(self, start: GuardStart, least: timedelta) -> None:
        """Until it has handled enough for one run."""
        self._turning = asyncio.create_task(self._turns.run())
        if not self._ready:
            found = await workflow.execute_activity_method(
                ReaperActivities.recover, start.domain, **QUICK, summary="What stands here by the journal?"
            )
            self._state.recover(found)
            self._kept = (found.memory or GuardState(domain=start.domain).memory()).mark
            self._number = found.number
            if found.standing:
                # The Guard before this one may have granted a moment ago: facts from before now are of another world.
                self._state.last_change_at = workflow.now()
            self._ready = True
            self._turns.begin()
        due: datetime | None = None
        while True:
            idle = self._state.lock is None and not self._state.standing and not self._unkept
            due = None if idle else due or workflow.now() + timedelta(seconds=start.look_every_s)
            left = None if due is None else max(due - workflow.now(), least)
            self._armed = due is not None
            try:
                await workflow.wait_condition(self._busy, timeout=left, timeout_summary="look at the holder")
            except TimeoutError:
                due = None
                try:
                    await self._look_after()
                except ActivityError as error:
                    # A Guard that failed here would lose the halt, the counters and the lock. It looks again.
                    workflow.logger.error("could not look after the holder: %s", error.cause or error)
            if self._bell > self._heard:
                await self._hear_orders()
            await self._tell()
            self._show()
            await self._keep()
            # A doorbell is answered from this run's history: the next run has another.
            quiet = not self._outbox and self._bell == self._heard
            if self._handled >= CONTINUE_AFTER and quiet and workflow.all_handlers_finished():
                return

    def _busy(self) -> bool:
        ready = self._state.lock is None and self._state.dirty is None and bool(self._state.queue)
        # The first lock after an idle time must start the clock that looks after its holder.
        unwatched = not self._armed and (self._state.lock is not None or bool(self._state.standing))
        return (
            ready
            or unwatched
            or bool(self._outbox)
            or self._look
            or (self._changed and self._keeps)
            or self._bell > self._heard
            or (self._handled >= CONTINUE_AFTER and workflow.all_handlers_finished())
        )

    async def _tell(self) -> None:
        self._look = False
        ticket = self._state.next_ticket(workflow.now())
        if ticket is not None:
            self._outbox.append((ticket.workflow_id, News(kind="granted", domain=self._state.domain)))
        for member in self._state.members():
            self._outbox.append((member, self._news("correlated")))
        while self._outbox:
            to, news = self._outbox.pop(0)
            try:
                await workflow.get_external_workflow_handle(to).signal("guard_news", news)
            except ApplicationError as gone:
                # A closed case needs no news. It cannot have acted under a lock that it was never told of.
                workflow.logger.info("case %s is gone: %s", to, gone)
                if news.kind == "granted":
                    self._state.give_up(to)

    async def _keep(self) -> None:
        """Writes down what the next Guard must know if this one is terminated: a halt, above all. News goes out first."""
        memory = self._state.memory()
        # Before the wait: a memory shares its parts with the state, and after it this is the mark of what came meanwhile.
        mark = memory.mark
        self._changed = False
        if mark == self._kept or not self._keeps:
            self._unkept = False  # it may have come back to what is written down
            return
        # A full book is large, and each write of it stays in the history of this run.
        self._handled += 1 + len(memory.book.acts) // 10
        try:
            # Not a local one: an answer that a case waits for would wait for the disk.
            kept = await workflow.execute_activity_method(
                ReaperActivities.remember,
                Remember(number=self._number + 1, memory=memory),
                **KEEP,
                summary="Written down for a Guard that comes after this one",
            )
        except ActivityError as error:
            # The journal is away. Acts are not kept from: each is written down there before it is done, or not done.
            workflow.logger.error("the Guard's memory could not be written down: %s", error.cause or error)
            self._unkept = True
            return
        # Another Guard's last word came between: once more, with a higher number.
        self._unkept = kept != self._number + 1
        self._kept = self._kept if self._unkept else mark if self._heeds else memory.mark
        # What was taken in while the journal wrote is not in what it wrote: overlooked, it was lost with a termination.
        self._changed = self._unkept or (self._changed and self._heeds)
        self._number = kept

    async def _look_after(self) -> None:
        """A lock never ends by clock alone: only when its holder is found closed, or says that it has nothing under way."""
        lock = self._state.lock
        held = [(lock.workflow_id, lock.run_id)] if lock else []
        owners = sorted({(o, "") for o in self._state.owners.values()})
        for owner, run in held + [o for o in owners if o[0] not in {h[0] for h in held}]:
            # Counted as well: a day of looks fills a history, and a Guard that the server ends for it forgets a halt.
            self._handled += 1
            doubtful = lock is not None and lock.workflow_id == owner and lock.asks(workflow.now())
            found: Holder = await workflow.execute_activity_method(
                ReaperActivities.describe,
                ReapRequest(domain=self._state.domain, workflow_id=owner, run_id=run, asks=doubtful),
                **LOOK,
                summary=f"Is {owner} still open?",
            )
            forgotten = found.state == "open" and found.idle and doubtful and self._state.lock == lock
            # Its word that it gave the domain back may be on its way: only one from before this Guard began is lost for sure.
            if forgotten and lock is not None and not lock.recalled and self._doubted != lock:
                self._doubted = lock
            elif forgotten:
                self._state.give_up(owner)
                # What it did that this Guard did not hear of is in the journal, and was not counted here.
                self._state.last_change_at = workflow.now()
                self._changed = True
            elif doubtful:
                self._doubted = None  # it has something under way, or was not heard: it must say so twice running
            if found.state != "closed":
                continue  # unknown is not closed
            mine = self._state.lock is not None and self._state.lock.workflow_id == owner
            if mine and self._state.lock != lock:
                continue  # it changed hands while we looked
            if mine and self._state.current is None:
                self._state.give_up(owner)  # a turn without a permit: nothing can have been done under it
                mine = False
                if owner not in self._state.owners.values():
                    continue
            if mine:
                self._state.dirty = f"{owner} closed without releasing the domain"
            reaped = await workflow.execute_activity_method(
                ReaperActivities.reap,
                ReapRequest(
                    domain=self._state.domain,
                    workflow_id=owner,
                    run_id=run,
                    counted=self._state.counted_of(owner),
                    case=lock.case if mine and lock is not None else "",
                ),
                **LOOK,
                summary=f"Tell people what {owner} left standing",
            )
            workflow.logger.warning("reaped %s: %s", owner, reaped.told)
            if mine:
                # Whatever came meanwhile (a late release, a retry of its last question): dirty must never stay for ever.
                self._state.dirty = None
                # What it applied and never reported stands, and counts like everything that stands.
                self._state.recover(reaped.left, newer=True)
                self._state.last_change_at = workflow.now()
                if self._state.lock is not None and self._state.lock.workflow_id == owner:
                    self._state.give_up(owner)
            # What it left stands on, owned by the people who were told, until one of them undoes or settles it.
            self._state.left_to_people(owner, reaped.ended)
            self._changed = True

    @workflow.update(description="Asks for the domain: {AcquireRequest}. Answers at once.")
    async def acquire(self, request: AcquireRequest) -> Answer:
        """Permit, queued, correlated, halted or refused."""
        self._handled += 1
        answer = await self._turns.tell(request)
        assert answer is not None
        return answer

    def _take(self, word: Word) -> Answer | None:
        now = workflow.now()
        answer: Answer | None = None
        if isinstance(word, Release):
            self._state.release(word, cleans=self._heeds)
        elif isinstance(word, Settled):
            gone = self._state.standing_of(word.receipt_id)
            self._state.release(
                Release(case="", workflow_id="", applied=True, removed=gone, at=now), cleans=self._heeds
            )
        elif isinstance(word, Announce):
            answer = self._state.announce(word, now)
        else:
            answer = self._state.acquire(word, now)
        # An idle Guard waits without a clock: from a permit on there is a holder to look after. And what changed is kept.
        self._look = self._look or bool(self._state.news) or (answer is not None and answer.kind == "permit")
        self._changed = True
        return answer

    @workflow.update(description="A case that may not act yet says that its target is sick: {Announce}.")
    async def announce(self, what: Announce) -> Answer:
        """Counted; correlated: the fault is the domain's."""
        self._handled += 1
        answer = await self._turns.tell(what)
        assert answer is not None
        return answer

    @workflow.update(
        description="For Interlock's own API: resume or reset_breaker by a verified person (a signed claim)."
    )
    async def order(self, claim: SignedClaim) -> Ordered:
        """What became of it. Nothing changes before the person's rights are judged."""
        self._handled += 1
        # The halt that it ends may still have to be read from the journal.
        await workflow.wait_condition(lambda: self._ready and self._begun)
        before = (self._state.halts, self._state.book.breaker_since)
        request, summary = OrderClaimRequest(claim=claim), f"{claim.action} by {claim.who}"[:200]
        try:
            answer = await judged(AttestActivities.check_order, request, PURE, summary, remote=self._remote)
        except ActivityError as error:
            raise ApplicationError(reason(error), type="Refused") from error
        # Only now, since it is genuine: junk must not push out what keeps an old claim from counting again.
        if claim.nonce in self._state.nonces:
            raise ApplicationError("this claim was used before: send the order again", type="Refused")
        self._state.nonces = [*self._state.nonces, claim.nonce][-200:]
        meanwhile = before != (self._state.halts, self._state.book.breaker_since)
        if answer.accepted and (meanwhile or self._state.stopped_after(claim.iat)):
            why = "levers were stopped again after this order was given: look, and send it again"
            answer = answer.model_copy(update={"accepted": False, "why": why})
        self._obey(answer)
        return answer

    @order.validator
    def _order_is_new(self, claim: SignedClaim) -> None:
        if claim.nonce in self._state.nonces:
            raise ValueError("this claim was used before: send the order again")

    @acquire.validator
    def _acquire_is_for_us(self, request: AcquireRequest) -> None:
        if request.domain != self._state.domain:
            raise ValueError(f"domain {request.domain!r} is not kept here; this Guard keeps {self._state.domain!r}")

    @workflow.signal(description="A case gives the domain back (Release).")
    async def release(self, release: Release) -> None:
        """The lock goes on, standing receipts and counters are taken in."""
        self._handled += 1
        await self._turns.tell(release)

    @workflow.signal(description='Stop every lever of this domain: {"reason": "...", "who": "..."}')
    def halt(self, raw: RawValue = NOTHING) -> None:
        """No new permit from now on. A malformed order halts as well, decodable or not: halting is the safe side."""
        self._handled += 1
        order, _ = opened(raw)
        order = order if isinstance(order, dict) else {"reason": str(order)[:200]}
        why = f"halted by {order.get('who', 'somebody')}: {order.get('reason', 'no reason given')}"[:300]
        # At once, and never in its turn: whatever came with it is answered after it, in a replay as well.
        self._state.halt(why, workflow.now())
        self._changed = True
        if self._state.lock is not None:
            self._outbox.append((self._state.lock.workflow_id, self._news("halted")))
        self._outbox += [(t.workflow_id, self._news("halted")) for t in self._state.queue]

    @workflow.signal(description='Let levers move again: {"reason": "..."}. Needs a verified sender; cases plan anew.')
    def resume(self, raw: RawValue = NOTHING) -> None:
        """A doorbell: who sent it is read from the history. Resuming is the unsafe side."""
        self._handled += 1
        self._bell += 1

    @workflow.signal(
        description='Let the breaker close again: {"reason": "..."}. Needs a verified sender; cases plan anew.'
    )
    def reset_breaker(self, raw: RawValue = NOTHING) -> None:
        """A doorbell, like resume."""
        self._handled += 1
        self._bell += 1

    async def _hear_orders(self) -> None:
        bell, before = self._bell, (self._state.halts, self._state.book.breaker_since)
        request, summary = OrderAttestRequest(after_event_id=self._attested), "Who ordered what?"
        try:
            found = await judged(AttestActivities.judge_orders, request, LOOK, summary, remote=self._remote)
        except ActivityError as error:
            # Nothing was let free. The bell stays rung, and after a pause it is looked at again.
            workflow.logger.error("orders could not be read: %s", error.cause or error)
            await workflow.sleep(5, summary="Orders could not be read")
            return
        if before != (self._state.halts, self._state.book.breaker_since):
            return  # stopped again meanwhile: read once more, and then the halt stands behind what it came after
        self._heard, self._attested = bell, max(self._attested, found.last_event_id)
        for one in found.orders:
            self._obey(one)

    def _obey(self, one: Ordered) -> None:
        self._orders = [*self._orders, one][-20:]
        if one.accepted and one.action == "resume":
            self._state.resume(workflow.now())
        elif one.accepted and one.action == "reset_breaker":
            self._state.reset_breaker(workflow.now())
        free = self._state.halted is None and self._state.book.breaker is None
        if one.accepted and free:
            self._outbox += [(w, self._news("resumed")) for w in self._state.freed()]
        self._look = True  # the page shows what became of it

    def _show(self) -> None:
        page = guard_page(self._state.view(workflow.now()), self._orders)
        if page != self._shown:
            self._shown = page
            workflow.set_current_details(page)

    @workflow.signal(description="A standing receipt was undone or adopted outside of a case: its id.")
    async def settled(self, receipt_id: str) -> None:
        """From `interlock undo`, or from a person who adopts what stands."""
        self._handled += 1
        await self._turns.tell(Settled(receipt_id=receipt_id))

    @workflow.query(description="Lock, queue, standing receipts, counters, halt.")
    def view(self) -> GuardView:
        """What the gates may know."""
        found = self._state.view(workflow.now())
        return found if self._ready else reading(found)

    def _news(self, kind: Any) -> News:
        why = self._state.asking.why if kind == "correlated" else self._state.halted or self._state.book.breaker or ""
        return News(kind=kind, domain=self._state.domain, why=why)
