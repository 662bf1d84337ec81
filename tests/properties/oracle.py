"""What a Guard must answer, written anew from its protocol (docs, design 7) and not from its code. The system is real;
this only judges it. Times come in as an interval, since nobody outside knows the moment at which the Guard decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from runbooks.detection import Target, TargetKind
from runbooks.guard import AcquireRequest, Answer
from runbooks.policy import DomainPolicy

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Granted:
    """One act that the Guard has granted. `shadow`: observe mode."""

    at: datetime
    request: AcquireRequest
    shadow: bool

    @property
    def endpoints(self) -> int:
        """Serving units that the budgets of these tests count."""
        return sum(self.request.blast.endpoints_down.values())


@dataclass
class Ticket:
    """A place in the queue. Who asked in the same moment shares `turn`: any of them may be first."""

    workflow: str
    life: str
    priority: int
    turn: int


@dataclass
class Stands:
    """A change in force. Without a target: told by somebody who did not hold the lock."""

    owner: str
    target: Target | None


@dataclass
class Oracle:
    """One domain. `seen`: the highest epoch that the actuator saw; `epoch`: the highest that this Guard gave."""

    limits: DomainPolicy
    settle_s: float
    halted: bool = False
    breaker: bool = False
    reset_at: datetime | None = None
    acts: list[Granted] = field(default_factory=list)
    bad: list[datetime] = field(default_factory=list)
    askers: dict[str, tuple[Target, datetime, datetime]] = field(default_factory=dict)
    one_fault: bool = False
    resumed: datetime | None = None
    lock_act: Granted | None = None
    holder: tuple[str, str] | None = None
    turn_only: bool = False
    queue: list[Ticket] = field(default_factory=list)
    arrivals: int = 0
    standing: dict[str, Stands] = field(default_factory=dict)
    last_change: datetime | None = None
    ineffective: dict[str, datetime] = field(default_factory=dict)
    seen: int = 0
    epoch: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)

    # --- what is asked -----------------------------------------------------------------------------------------------

    def kinds(self, req: AcquireRequest, life: str, times: tuple[datetime, datetime]) -> set[str]:
        """Every kind of answer that would be right somewhere between the two times."""
        return {self._kind(req, life, at) for at in times}

    def _kind(self, req: AcquireRequest, life: str, now: datetime) -> str:
        act = req.purpose == "act"
        if act and (self.halted or self.breaker):
            return "halted"
        if act and self._member(req, now):
            return "correlated"
        if req.shadow:
            return "refused" if self._over(req, now, True) or self._related(req) else "shadow"
        if self.holder is not None and self.holder != (req.workflow_id, life):
            return "queued"
        if self.holder is None and self.queue:
            return "queued"  # whoever waits has his turn before somebody who comes now
        if self._related(req) or (act and self._over(req, now, False)):
            return "refused"
        if act and self.resumed is not None and req.facts_oldest_at <= self.resumed:
            return "refused"  # facts from before levers were free again
        settled = None if self.last_change is None else self.last_change + timedelta(seconds=self.settle_s)
        return "permit" if settled is None or req.facts_oldest_at >= settled else "refused"

    def _member(self, req: AcquireRequest, now: datetime) -> bool:
        if req.target.kind is TargetKind.CLUSTER:
            return False
        acting = self.holder is not None and self.holder[0] == req.workflow_id and not self.turn_only
        if acting or any(s.owner == req.workflow_id for s in self.standing.values()):
            return False
        if req.shadow:
            return self.correlated(now)
        return self._would_correlate(req.workflow_id, req.target, now)

    def correlated(self, now: datetime) -> bool:
        """Their faults are one, and stay it for as long as so many go on asking."""
        return self.one_fault and self._sites(now, self.limits.correlate_quiet_s) >= self.limits.correlate_targets

    def _sites(self, now: datetime, seconds: float, more: tuple[str, Target] | None = None) -> int:
        recent = {w: t for w, (t, _, last) in self.askers.items() if now - last <= timedelta(seconds=seconds)}
        if more is not None:
            recent[more[0]] = more[1]
        return len({_site(t) for t in recent.values()})

    def _fell_sick(self, now: datetime, asking: tuple[str, Target]) -> int:
        """Places whose cases asked for the first time within the window."""
        within = now - timedelta(seconds=self.limits.correlate_within_s)
        fresh = {w: t for w, (t, first, _) in self.askers.items() if first >= within}
        if asking[0] in fresh or self._first_ask(asking[0], now) >= within:
            fresh[asking[0]] = asking[1]
        return len({_site(t) for t in fresh.values()})

    def _first_ask(self, workflow: str, now: datetime) -> datetime:
        longest = timedelta(seconds=max(self.limits.correlate_quiet_s, self.limits.correlate_within_s))
        before = self.askers.get(workflow)
        return before[1] if before is not None and now - before[2] <= longest else now

    def _would_correlate(self, workflow: str, target: Target, now: datetime) -> bool:
        most, asking = self.limits.correlate_targets, (workflow, target)
        if self.one_fault and self._sites(now, self.limits.correlate_quiet_s, asking) >= most:
            return True
        return self._fell_sick(now, asking) >= most

    def asks(self, workflow: str, target: Target, now: datetime) -> None:
        """Somebody's target is sick."""
        if target.kind is TargetKind.CLUSTER:
            return
        self.one_fault = self._would_correlate(workflow, target, now)
        self.askers[workflow] = (target, self._first_ask(workflow, now), now)

    def _related(self, req: AcquireRequest) -> bool:
        return any(
            s.owner != req.workflow_id and s.target is not None and s.target.related(req.target)
            for s in self.standing.values()
        )

    def _over(self, req: AcquireRequest, now: datetime, shadow: bool) -> bool:
        acts = [a for a in self.acts if a.at > now - HOUR and (shadow or not a.shadow)]
        units = sum(req.blast.endpoints_down.values())
        if len(acts) >= req.max_acts_per_hour:
            return True
        if units and units + sum(a.endpoints for a in acts) > self.limits.endpoints_per_hour:
            return True
        if self.ineffective.get(req.remedy, now) > now:
            return True
        cool = now - timedelta(seconds=req.cooldown_s)
        mine = [a for a in self.acts if a.request.remedy == req.remedy and a.request.increment == 0 and a.at > cool]
        tries = [a for a in mine if shadow or not a.shadow]
        return req.increment == 0 and len(tries) >= req.attempts

    # --- what has happened -------------------------------------------------------------------------------------------

    def grant(self, req: AcquireRequest, life: str, epoch: int, now: datetime) -> None:
        """A permit was given."""
        self.holder, self.turn_only = (req.workflow_id, life), False
        self.queue = [t for t in self.queue if t.workflow != req.workflow_id]
        self.epoch = epoch
        self.lock_act = Granted(now, req, False) if req.purpose == "act" else None
        if self.lock_act is not None:
            self._act(self.lock_act)

    def unused(self) -> None:
        """A permit that was given back without an act counts as none."""
        if self.lock_act in self.acts:
            self.acts.remove(self.lock_act)

    def shadowed(self, req: AcquireRequest, now: datetime) -> None:
        """Observe mode was told that it would have been granted."""
        self._act(Granted(now, req, True))

    def _act(self, act: Granted) -> None:
        self.acts.append(act)
        since = act.at - timedelta(seconds=self.limits.breaker_window_s)
        if self.reset_at is not None:
            since = max(since, self.reset_at)
        count = sum(a.at > since and not a.shadow for a in self.acts)
        self.breaker = self.breaker or (not act.shadow and count >= self.limits.breaker_acts)

    def enqueue(self, req: AcquireRequest, life: str, turn: int) -> None:
        """A ticket. The same case has one place, whatever it asks for next."""
        mine = next((t for t in self.queue if t.workflow == req.workflow_id), None)
        if mine is not None and mine.life == life:
            return
        self.queue = [t for t in self.queue if t is not mine]
        self.queue.append(Ticket(req.workflow_id, life, req.priority, turn))

    def first(self, alive: set[tuple[str, str]]) -> list[Ticket]:
        """Whose turn it may be, were the lock free."""
        here = [t for t in self.queue if (t.workflow, t.life) in alive]
        best = min(((t.priority, t.turn) for t in here), default=None)
        return [t for t in here if (t.priority, t.turn) == best]

    def changed(self, at: datetime) -> None:
        """The world was changed at this moment."""
        self.last_change = at if self.last_change is None else max(at, self.last_change)

    def ended_badly(self, at: datetime) -> None:
        """A bad outcome."""
        if at in self.bad:
            return
        self.bad = [*(t for t in self.bad if t > at - timedelta(seconds=self.limits.breaker_window_s)), at]
        self.breaker = self.breaker or len(self.bad) >= self.limits.breaker_bad

    def reset_breaker(self, at: datetime) -> None:
        """By a verified person."""
        self.breaker, self.bad, self.reset_at = False, [], at

    def within_budget(self) -> None:
        """In no hour has more been granted than the budget holds."""
        real = [a for a in self.acts if not a.shadow and a.endpoints]
        for last in real:
            hour = [a for a in real if last.at - HOUR < a.at <= last.at]
            spent = sum(a.endpoints for a in hour)
            assert spent <= self.limits.endpoints_per_hour, f"{spent} endpoints within one hour"


def _site(target: Target) -> str:
    return f"{target.cluster}/node/{target.node}" if target.node is not None else target.id
