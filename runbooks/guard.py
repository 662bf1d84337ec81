"""The Guard's rules as a pure state machine: one domain's lock, permits, standing receipts, counters, halt.

The workflow (`workflows/guard.py`) only feeds it and carries its state. Every method takes `now`; none reads a clock.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from runbooks.base import digest
from runbooks.change import Permit
from runbooks.detection import Target, TargetKind
from runbooks.facts import GuardView, StandingReceipt
from runbooks.guard_asking import Asker, Asking
from runbooks.guard_book import KEEP_ACTS, Act, Book, over_budget
from runbooks.guard_memory import Memory, Recovered, latest
from runbooks.guard_words import AcquireRequest, Announce, Answer, Lock, News, Release, Ticket
from runbooks.policy import DomainPolicy
from runbooks.standing import is_of

__all__ = ["AcquireRequest", "Announce", "Answer", "GuardState", "News", "Recovered", "Release", "Ticket"]

KEEP_ANSWERS = 64
"""Answers kept per case: more than one case can ask between two releases."""
KEEP_ALL = 512
"""Answers kept in all, the newest: they are carried by continue-as-new, which takes 2 MB and no more."""


UNUSED_AT_MOST = timedelta(seconds=60)
"""How long a turn is kept for a case that does not come for its permit. A lock with a permit never ends by clock."""


def _life(case: str) -> str:
    """A case id without its round: the runs of one workflow id that know of each other (Reset keeps it, a new start does not)."""
    head, _, tail = case.rpartition("#")
    return f"{head}#{tail.partition('.')[0]}"


class GuardState(BaseModel):
    """Everything the Guard knows; carried whole across continue-as-new."""

    model_config = ConfigDict(extra="forbid")

    domain: str
    epoch: int = 0
    lock: Lock | None = None
    queue: list[Ticket] = Field(default_factory=list)
    answers: dict[str, Answer] = Field(default_factory=dict)
    standing: dict[str, StandingReceipt] = Field(default_factory=dict)
    owners: dict[str, str] = Field(default_factory=dict, description="Standing receipt id → workflow id of its case.")
    targets: dict[str, Target] = Field(default_factory=dict, description="Standing receipt id → its target.")
    current: Target | None = Field(default=None, description="Target of the lock's holder.")
    last_change_at: datetime | None = None
    book: Book = Field(default_factory=Book)
    asking: Asking = Field(default_factory=Asking)
    limits: DomainPolicy = Field(default_factory=DomainPolicy, description="As the last request brought them.")
    ineffective_s: dict[str, float] = Field(
        default_factory=dict, description="By lever, as the last request brought it."
    )
    halted: str | None = None
    halted_since: datetime | None = None
    stopped_at: datetime | None = Field(default=None, description="The last halt or trip of the breaker.")
    halts: int = Field(default=0, description="Halts so far: an order that was judged across one does not count.")
    resumed_at: datetime | None = None
    dirty: str | None = None
    stopped: list[str] = Field(
        default_factory=list, description="Cases that met a halt or the breaker, and are told when it ends."
    )
    nonces: list[str] = Field(default_factory=list, description="Of orders through the API, each of which counts once.")
    news: list[str] = Field(default_factory=list, description="Cases still to be told that their faults are one.")

    def standing_of(self, rid: str) -> tuple[str, ...]:
        """Ids under which a step stands, see `is_of`."""
        return tuple(s for s in self.standing if is_of(s, rid))

    def counted_of(self, workflow_id: str) -> tuple[str, ...]:
        """Ids under which something of a case stands."""
        return tuple(rid for rid, owner in self.owners.items() if owner == workflow_id)

    def recover(self, found: Recovered, newer: bool = False) -> None:
        """Takes over what stands by the journal: before this Guard began, or (`newer`) after a case's last word to it."""
        for standing in found.standing:
            if newer:
                self.standing[standing.receipt_id] = standing
            self.standing.setdefault(standing.receipt_id, standing)
        self.owners = {**found.owners, **self.owners}
        self.targets = {**found.targets, **self.targets}
        if found.memory is not None:
            self._recall(found.memory)

    def left_to_people(self, workflow_id: str, ended: Collection[str] = ()) -> None:
        """What a case that is gone left standing is theirs. Nothing of it goes on: nobody waits for its next increment.

        `ended`: what it put back while no Guard was there to hear it. As people's it would bar its target for ever.
        """
        for rid in self.counted_of(workflow_id):
            if rid in ended:
                self._drop(rid)
                continue
            self.owners[rid] = f"people:{workflow_id}"
            self.standing[rid] = self.standing[rid].model_copy(update={"under_way": False})

    def memory(self) -> Memory:
        """What the next Guard of this domain must know if this one is terminated."""
        return Memory.model_validate({name: getattr(self, name) for name in Memory.model_fields})

    def _recall(self, memory: Memory) -> None:
        """Takes over what the Guard before this one knew. Called before the first question is answered; a halt may have come
        in already, and stands beside the old one."""
        for name in ("epoch", "current", "book", "asking", "limits", "ineffective_s", "nonces"):
            setattr(self, name, getattr(memory, name))
        # Its case may have given it back while nobody was there to hear it: it is asked, see `Guard._look_after`.
        self.lock = memory.lock and memory.lock.model_copy(update={"recalled": True})
        self.dirty = memory.dirty if self.lock is not None else None  # only who looks after a lock can end it
        self.last_change_at = latest(self.last_change_at, memory.last_change_at)
        self.stopped_at = latest(self.stopped_at, memory.stopped_at)
        self.resumed_at = latest(self.resumed_at, memory.resumed_at)
        self.halts += memory.halts
        if memory.halted is not None:
            self.halted = memory.halted if self.halted is None else f"{memory.halted}; {self.halted}"[-600:]
            self.halted_since = memory.halted_since

    def acquire(self, req: AcquireRequest, now: datetime) -> Answer:
        """Answers at once and remembers the answer under the request's key."""
        known = self.answers.get(req.key)
        if known is not None:
            if known.permit is not None and not (self._holds(req) and known.permit.epoch == self.epoch):
                # After a Reset: the lock has gone on since, and without it the permit would be leave to act beside another.
                return Answer(kind="refused", why="the permit of this question was given back", retry_after_s=0.2)
            self._seen(req)
            return known
        if (again := self._given(req, now)) is not None:
            self.answers[req.key] = again
            return again
        self.limits = req.limits
        self.ineffective_s[req.lever] = req.ineffective_s
        if req.purpose == "act" and not req.shadow:
            self._asks(req.workflow_id, req.case, req.target, req.failure_class, now)
        answer = self._decide(req, now)
        self.answers[req.key] = answer
        mine = [k for k in self.answers if k.startswith(req.case + "|")]
        for old in mine[:-KEEP_ANSWERS]:
            del self.answers[old]
        for old in list(self.answers)[:-KEEP_ALL]:
            del self.answers[old]
        return answer

    def _holds(self, who: AcquireRequest | Release) -> bool:
        """True when the lock is this case's. A new run of the same workflow id is another case: what the old one left
        unverified must be found and told, not taken over in silence."""
        lock = self.lock
        return lock is not None and lock.workflow_id == who.workflow_id and _life(lock.case) == _life(who.case)

    def _given(self, req: AcquireRequest, now: datetime) -> Answer | None:
        """The permit that was given for this very question, by the Guard before this one or so long ago that its answer is
        forgotten: the case may be acting under it, and a second one would be leave to act twice."""
        lock = self.lock
        if lock is None or not (lock.key == req.key and self._holds(req)) or self.dirty is not None:
            return None
        # It has spoken: who looks whether it gave the lock back meanwhile must not take it for silent.
        self.lock = lock.model_copy(update={"recalled": False, "run_id": req.run_id, "since": now})
        return Answer(kind="permit", why="granted", permit=lock.permit)

    def announce(self, what: Announce, now: datetime) -> Answer:
        """Counts a case whose gates do not allow yet. Correlated: its fault is the domain's."""
        self.limits = what.limits
        self._asks(what.workflow_id, what.case, what.target, what.failure_class, now)
        if self._is_member(what.workflow_id, what.target, now):
            return Answer(kind="correlated", why=self.asking.why)
        if self.halted or self.book.breaker:
            self._waits_for_resume(what.workflow_id)
        return Answer(kind="refused", why="it is counted, and no more was asked")

    def _waits_for_resume(self, workflow_id: str) -> None:
        # One that falls off the end of the list looks again by itself, only later.
        self.stopped = [*(w for w in self.stopped if w != workflow_id), workflow_id][-KEEP_ALL:]

    def freed(self) -> list[str]:
        """Cases to be told that levers may move again: those that met the stop, and those that wait for their turn."""
        told, self.stopped = list(dict.fromkeys([*self.stopped, *(t.workflow_id for t in self.queue)])), []
        return told

    def _asks(self, workflow_id: str, case: str, target: Target, failure_class: str, now: datetime) -> None:
        if target.domain != self.domain:
            return  # a step that only loads this domain: its target is sick elsewhere
        asker = Asker(workflow_id=workflow_id, case=case, target=target, failure_class=failure_class, at=now)
        if self.asking.note(asker, self.limits):
            self.news += [w for w, a in self.asking.askers.items() if self._is_member(w, a.target, now)]

    def _is_member(self, workflow_id: str, target: Target, now: datetime) -> bool:
        """True for a case that belongs to the domain's. One that has changed something finishes it, or undoes it, first."""
        if target.kind is TargetKind.CLUSTER or target.domain != self.domain or not self.asking.holds(now, self.limits):
            return False
        holds = self.lock is not None and self.lock.workflow_id == workflow_id and self.current is not None
        return not holds and workflow_id not in self.owners.values()

    def members(self) -> list[str]:
        """Cases that must be told that their faults are one. Each is named once."""
        told, self.news = self.news, []
        return told

    def _decide(self, req: AcquireRequest, now: datetime) -> Answer:
        stopped = self.halted or self.book.breaker
        if stopped is not None and req.purpose == "act":
            self._waits_for_resume(req.workflow_id)
            return Answer(kind="halted", why=stopped)
        if req.purpose == "act" and self._is_member(req.workflow_id, req.target, now):
            return Answer(kind="correlated", why=self.asking.why)
        if req.shadow:
            return self._shadow(req, now)
        if self.dirty is not None:
            return Answer(kind="refused", why=f"domain {self.domain} is dirty: {self.dirty}", retry_after_s=10)
        held = self.lock
        if held is not None and not self._holds(req):
            self._enqueue(req, now)
            return Answer(kind="queued", why=f"the domain is held by {held.workflow_id}", retry_after_s=30)
        if held is None and self.queue and not self._first(req):
            # It was freed in this very moment, and the turn is about to be given: nobody slips in before who has waited.
            self._enqueue(req, now)
            return Answer(kind="queued", why=f"{self.queue[0].workflow_id} waits for the domain", retry_after_s=30)
        refusal = self._limits(req, now)
        if refusal is not None:
            return refusal
        settled = self._settled(req)
        if settled is not None:
            return settled
        return self._grant(req, now)

    def _limits(self, req: AcquireRequest, now: datetime) -> Answer | None:
        # A freeze of the domain only stops what others do: no member's own change keeps the domain's case from it.
        wide = req.target.kind is TargetKind.CLUSTER and req.lever == "freeze_changes"
        for rid, target in () if wide else tuple(self.targets.items()):
            if self.standing[rid].lever == "freeze_changes":
                continue  # it stands on the whole domain and takes no serving unit: no other case need wait for its end
            if self.owners[rid] != req.workflow_id and target.related(req.target):
                why = f"{self.standing[rid].lever} of {self.owners[rid]} stands on the related target {target.id}"
                return Answer(kind="refused", why=why, retry_after_s=15)
        if req.purpose != "act":
            return None  # undo and restore are never capped: they return to what stood before
        acts = self.book.real(now - timedelta(hours=1), req.shadow)
        if len(acts) >= min(
            req.max_acts_per_hour, KEEP_ACTS
        ):  # no more are remembered, and what is forgotten is not free
            why = (
                f"{len(acts)} acts in domain {self.domain} in the last hour; the limit is {req.max_acts_per_hour} (G2)"
            )
            return Answer(kind="refused", why=why, retry_after_s=60)
        over = over_budget(self.book.spent(now, req.shadow), req.blast, req.limits)
        if over:
            return Answer(kind="refused", why=f"{over} (G2)", retry_after_s=60)
        if self.book.ineffective.get(req.remedy, now) > now:
            return Answer(kind="refused", why=f"{req.lever} did not help {req.target.id} lately (G10)")
        if req.increment == 0:
            tried = self.book.attempts(now, req.shadow).get(req.remedy, ())
            tries = [at for at in tried if at > now - timedelta(seconds=req.cooldown_s)]
            if len(tries) >= req.attempts:
                why = f"{req.lever} was tried {len(tries)} times on {req.target.id} within {req.cooldown_s:.0f} s (G10)"
                return Answer(kind="refused", why=why)
        return None

    def _shadow(self, req: AcquireRequest, now: datetime) -> Answer:
        """What observe mode would have been told. Its acts count against each other as real ones would, and against
        nothing that is real."""
        refusal = self._limits(req, now)
        if refusal is not None:
            return refusal
        self.book.note(self._act(req, now), req.limits)
        return Answer(kind="shadow", why="it would have been granted")

    def _act(self, req: AcquireRequest, now: datetime) -> Act:
        return Act(
            at=now,
            lever=req.lever,
            target_id=req.target.id,
            failure_class=req.failure_class,
            first=req.increment == 0,
            blast=req.blast,
            shadow=req.shadow,
            key=req.key,
        )

    def _settled(self, req: AcquireRequest) -> Answer | None:
        """No verdict rests on a world that has since been changed."""
        if self.resumed_at is not None and req.purpose == "act" and req.facts_oldest_at <= self.resumed_at:
            why = f"the facts are from before levers were free again at {self.resumed_at:%H:%M:%S}: read again in a moment"
            return Answer(kind="refused", why=why, retry_after_s=0.5)
        if self.last_change_at is None:
            return None
        bound = self.last_change_at + timedelta(seconds=req.settle_s)
        if req.facts_oldest_at >= bound:
            return None
        why = (
            f"the facts are from {req.facts_oldest_at:%H:%M:%S}, before the domain's last change at {self.last_change_at:%H:%M:%S}: "
            "read again in a moment"
        )
        behind = (bound - req.facts_oldest_at).total_seconds()
        return Answer(kind="refused", why=why, retry_after_s=min(max(behind, 0.1), 5.0))

    def _grant(self, req: AcquireRequest, now: datetime) -> Answer:
        # A new epoch for EVERY permit, not only for every lock: an apply that wakes after its own undo is then fenced.
        self.epoch = max(self.epoch, req.seen_epoch) + 1
        act = self._act(req, now) if req.purpose == "act" else None
        self.current = req.target
        self.queue = [t for t in self.queue if t.workflow_id != req.workflow_id]
        if act is not None:
            self.book.note(act, req.limits)
        permit = Permit(
            id=f"{self.domain}.{self.epoch}.{digest({'k': req.key, 'r': req.run_id})[:8]}",
            domain=self.domain,
            case=req.case,
            step_id=req.step_id,
            change_digest=req.change_digest,
            purpose=req.purpose,
            epoch=self.epoch,
            act_before=req.facts_oldest_at + timedelta(seconds=req.permit_ttl_s),
        )
        self.lock = Lock(
            case=req.case,
            workflow_id=req.workflow_id,
            run_id=req.run_id,
            since=now,
            act=act,
            key=req.key,
            permit=permit,
        )
        return Answer(kind="permit", why="granted", permit=permit)

    def _first(self, req: AcquireRequest) -> bool:
        first = self.queue[0]
        return first.workflow_id == req.workflow_id and _life(first.case) == _life(req.case)

    def _enqueue(self, req: AcquireRequest, now: datetime) -> None:
        mine = next((t for t in self.queue if t.workflow_id == req.workflow_id), None)
        if mine is not None and _life(mine.case) == _life(req.case):
            return
        self.queue = [t for t in self.queue if t is not mine]  # of an earlier run, which has closed
        ticket = Ticket(case=req.case, workflow_id=req.workflow_id, run_id=req.run_id, priority=req.priority, at=now)
        self.queue.append(ticket)
        self.queue.sort(key=lambda t: (t.priority, t.at))

    def _seen(self, req: AcquireRequest) -> None:
        """The same workflow may go on as another run (UI Reset): the liveness check must look at that run."""
        if self.lock is not None and self._holds(req) and self.lock.run_id != req.run_id:
            self.lock = self.lock.model_copy(update={"run_id": req.run_id})

    def release(self, rel: Release, cleans: bool = True) -> None:
        """Takes in what stands now, and frees the lock if this case holds it. Sent twice: no difference.

        `cleans`: a holder that was found closed, went on after a Reset and gives the domain back leaves it clean as well.
        """
        for rid in rel.removed:
            self._drop(rid)
        if rel.stands is not None:
            self.standing[rel.stands.receipt_id] = rel.stands
            self.owners[rel.stands.receipt_id] = rel.workflow_id
            if self.current is not None and self._holds(rel):
                self.targets[rel.stands.receipt_id] = self.current
        if rel.applied:
            self.last_change_at = max(rel.at, self.last_change_at or rel.at)
        if rel.ineffective:
            patience = self.ineffective_s.get(rel.ineffective.partition("|")[0], 3600.0)
            self.book.did_not_help(rel.ineffective, rel.at + timedelta(seconds=patience))
        if rel.bad:
            self.book.ended_badly(rel.bad, rel.at, self.limits)
        if self.lock is not None and self._holds(rel):
            if self.lock.act is not None and not rel.applied:
                self.book.undo_note(self.lock.act)
            self.lock = None
            self.current = None
        if cleans and self.lock is None:
            self.dirty = None  # only who looks after a lock could end it, and there is none any more
        self.queue = [t for t in self.queue if t.workflow_id != rel.workflow_id or _life(t.case) != _life(rel.case)]

    def _drop(self, rid: str) -> None:
        self.standing.pop(rid, None)
        self.owners.pop(rid, None)
        self.targets.pop(rid, None)

    def next_ticket(self, now: datetime) -> Ticket | None:
        """Keeps the free lock for the first of the queue. No permit yet: the case must check again."""
        unused = self.lock is not None and self.current is None and now - self.lock.since > UNUSED_AT_MOST
        if unused and self.dirty is None and self.queue:
            self.lock = None  # no permit was given under it, so nothing can have been done: the turn goes on
        if self.lock is not None or self.dirty is not None or not self.queue:
            return None
        first = self.queue.pop(0)
        self.lock = Lock(case=first.case, workflow_id=first.workflow_id, run_id=first.run_id, since=now)
        return first

    def give_up(self, workflow_id: str) -> None:
        """The case that the lock was kept for is gone."""
        if self.lock is not None and self.lock.workflow_id == workflow_id:
            self.lock = None
            self.current = None

    def halt(self, why: str, now: datetime) -> None:
        """No new permit for an act from now on. A second order is kept beside the first: who halted first still has a say."""
        self.halts += 1
        self.stopped_at = now
        self.halted = why if self.halted is None else f"{self.halted}; {why}"[-600:]
        self.halted_since = self.halted_since or now

    def stopped_after(self, given_at: float) -> bool:
        """True when levers were stopped again after this moment (epoch seconds): what was ordered before does not count.
        While no worker answers orders wait, and signals are handled before updates, whichever came first."""
        stops = [t for t in (self.stopped_at, self.book.breaker_since) if t is not None]
        return any(given_at <= t.timestamp() for t in stops)

    def resume(self, now: datetime) -> None:
        """Levers may move again. What was planned before is void (G14)."""
        self.halted = self.halted_since = None
        self.resumed_at = now

    def reset_breaker(self, now: datetime) -> None:
        """By a person alone."""
        self.book.reset_breaker(now)
        self.resumed_at = now

    def view(self, now: datetime) -> GuardView:
        """What the gates may know."""
        hour = now - timedelta(hours=1)
        shadow: dict[str, int] = {}
        for act in self.book.acts:
            if act.shadow and act.at > hour:
                shadow[act.lever] = shadow.get(act.lever, 0) + 1
        return GuardView(
            domain=self.domain,
            halted=self.halted,
            halted_since=self.halted_since,
            resumed_at=self.resumed_at,
            breaker=self.book.breaker,
            dirty=self.dirty,
            holder=self.lock.workflow_id if self.lock else None,
            held_since=self.lock.since if self.lock else None,
            queue=len(self.queue),
            correlated=self.asking.why if self.asking.holds(now, self.limits) else None,
            asked=self.asking.lately(now, self.limits),
            last_change_at=self.last_change_at,
            standing=tuple(self.standing.values()),
            acts_last_hour=len(self.book.real(hour)),
            spent=self.book.spent(now),
            attempts=self.book.attempts(now),
            ineffective={k: until for k, until in self.book.ineffective.items() if until > now},
            shadow=shadow,
        )
