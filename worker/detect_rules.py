"""What makes an endpoint hung or crashed and a pool lost, from real generations alone. Pure: no clock, no I/O."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

NEEDED = 3
"""Consecutive failures that make a fault: one slow prompt is none."""
ANSWERS = 2
"""Consecutive answers that end it."""
KEPT = 20


class Outcome(StrEnum):
    """How one real generation ended."""

    OK = "ok"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    OTHER = "other"


class State(StrEnum):
    """What an endpoint's last generations say about it."""

    ANSWERING = "answering"
    SUSPECT = "suspect"
    HUNG = "hung"
    CRASHED = "crashed"
    FAILING = "failing"


@dataclass
class Track:
    """The last generations of one endpoint, by the time at which they were sent; and its token counter meanwhile."""

    sent: list[tuple[datetime, Outcome]] = field(default_factory=list)
    counter: list[tuple[datetime, float]] = field(default_factory=list)

    def add(self, at: datetime, outcome: Outcome) -> None:
        """An answer may overtake an older generation that still waits for its deadline: order by sending."""
        bisect.insort(self.sent, (at, outcome))
        del self.sent[:-KEPT]
        if not self.failures:
            self.counter.clear()

    def count(self, at: datetime, tokens: float) -> None:
        """A reading of the engine's token counter, taken while its generations fail."""
        self.counter.append((at, tokens))
        del self.counter[:-KEPT]

    @property
    def failures(self) -> list[tuple[datetime, Outcome]]:
        """The failed generations since the last answer, oldest first."""
        last_ok = max((i for i, (_, outcome) in enumerate(self.sent) if outcome is Outcome.OK), default=-1)
        return self.sent[last_ok + 1 :]

    @property
    def answers(self) -> int:
        """Consecutive answers up to now."""
        run = 0
        for _, outcome in reversed(self.sent):
            if outcome is not Outcome.OK:
                break
            run += 1
        return run

    @property
    def tokens_rising(self) -> bool | None:
        """Whether the engine made tokens since the failures began; None: it could not be read twice."""
        if len(self.counter) < 2:
            return None
        # A counter that went back is a restart: it says nothing about tokens.
        return self.counter[-1][1] > self.counter[0][1]

    @property
    def state(self) -> State:
        """Without a look at the siblings."""
        failures = self.failures
        if not failures:
            return State.ANSWERING
        last = [outcome for _, outcome in failures[-NEEDED:]]
        if len(last) < NEEDED:
            return State.SUSPECT
        if all(o is Outcome.REFUSED for o in last):
            return State.CRASHED
        if all(o is Outcome.TIMEOUT for o in last):
            return State.FAILING if self.tokens_rising else State.HUNG
        return State.FAILING


@dataclass(frozen=True)
class Fault:
    """A fault that holds now. `endpoint` None: the pool's. `since`: first failed generation, `newest`: the last one."""

    alert: str
    endpoint: str | None
    since: datetime
    newest: datetime
    evidence: dict[str, float | bool | str]


def pool_lost(tracks: Mapping[str, Track]) -> Fault | None:
    """PoolEnginesLost: more than half of the endpoints give no token (hung or crashed)."""
    lost = [t for t in tracks.values() if t.state in (State.HUNG, State.CRASHED)]
    if 2 * len(lost) <= len(tracks):
        return None
    answering = sum(1 for t in tracks.values() if t.state is State.ANSWERING and t.answers)
    return Fault(
        "PoolEnginesLost",
        None,
        min(t.failures[0][0] for t in lost),
        max(t.sent[-1][0] for t in tracks.values() if t.sent),
        {"endpoints": len(tracks), "answering": answering, "lost": len(lost)},
    )


def pool_answers(tracks: Mapping[str, Track]) -> bool:
    """True when at least half of the endpoints answered twice in a row."""
    return 2 * sum(1 for t in tracks.values() if t.answers >= ANSWERS) >= len(tracks)


def undecided(tracks: Mapping[str, Track]) -> bool:
    """True while the pool itself may be lost: more than half fail, but not yet often enough to say so.

    Engines that die together are seen to die within one period of each other: no endpoint is accused meanwhile.
    """
    return 2 * sum(1 for t in tracks.values() if t.state in (State.SUSPECT, State.HUNG, State.CRASHED)) > len(tracks)


def endpoint_fault(address: str, tracks: Mapping[str, Track]) -> Fault | None:
    """EngineHang or EngineCrash of one endpoint of the pool, else None."""
    track = tracks[address]
    failures = track.failures
    if track.state is State.CRASHED:
        evidence: dict[str, float | bool | str] = {"refused": len(failures), "generations_ok": 0}
        return Fault("EngineCrash", address, failures[0][0], failures[-1][0], evidence)
    if track.state is not State.HUNG:
        return None
    window = failures[-NEEDED][0]
    siblings = sum(
        1
        for other, theirs in tracks.items()
        if other != address and any(at >= window and outcome is Outcome.OK for at, outcome in theirs.sent)
    )
    if not siblings:
        return None  # the network, the prober or the whole pool: not this engine
    evidence = {"generations_failed": len(failures), "generations_ok": 0, "siblings_ok": siblings}
    rising = track.tokens_rising
    if rising is not None:  # not measured is left out, never claimed
        evidence["tokens_rising"] = rising
    return Fault("EngineHang", address, failures[0][0], failures[-1][0], evidence)
