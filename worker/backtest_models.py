"""What a backtest says: each decision that differs between two policies, why, and what it would have cost or saved."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from runbooks.base import Model, Seconds, Time
from worker.backtest_settings import Setting

Does = Literal["acts", "asks", "observes", "refused", "tells", "cannot_tell"]
Answer = Literal["approved", "not_enough", "rejected", "expired", "not_asked", ""]
WORDS: dict[Does, str] = {
    "acts": "acts",
    "asks": "asks",
    "observes": "only observes",
    "refused": "refused",
    "tells": "tells people",
    "cannot_tell": "cannot be told",
}


class Decision(Model):
    """What a policy makes of a case: the first step that it would do, ask for or observe, else what refused the last one."""

    does: Does
    lever: str = ""
    wants: str = Field(default="", description="asks: how many of whom.")
    gates: tuple[str, ...] = Field(default=(), description="Who asks, refuses, or cannot be told.")
    why: str = ""
    ends_early: int | None = Field(default=None, description="acts: stopped after so many increments.")
    answer: Answer = Field(
        default="", description="asks: what people's words on record would have come to. not_asked: there are none."
    )

    def same_as(self, other: Decision) -> bool:
        """Whatever the limits are called in the reasons."""
        mine, theirs = ((d.does, d.lever, d.wants, d.gates, d.answer, d.ends_early) for d in (self, other))
        return mine == theirs

    def words(self) -> str:
        """`asks 1 of sre-oncall for reroute_traffic (G7)`."""
        gates = f" ({', '.join(self.gates)})" if self.gates else ""
        if self.does == "asks":
            return f"asks {self.wants} for {self.lever}{gates}"
        return f"{WORDS[self.does]}{f' {self.lever}' if self.lever else ''}{gates}"


class Differs(Model):
    """One closed case that the policies decide differently. Positive seconds: B saves them."""

    case: str
    failure_class: str
    target: str
    at: Time
    a: Decision
    b: Decision
    saves_s: float | None = Field(description="People's waiting that B saves. None: not on record.")
    estimated: bool = Field(default=False, description="From the median wait of the class, not from this case.")
    approvals: int = Field(description="Requests for approval that B adds; negative: saves.")
    risks: tuple[str, ...] = Field(
        default=(), description="What B does that a person had stopped, or that did not help."
    )


class OfJournal(Model):
    """The backtest over closed cases."""

    a: str
    b: str
    settings: tuple[Setting, ...]
    source: str
    left_out: dict[str, int]
    cases: int
    same: int
    differ: tuple[Differs, ...]
    cannot_tell: tuple[Differs, ...] = Field(description="Cases of which one policy's decision is not on record.")


class Side(Model):
    """One incident under one policy, as it was replayed."""

    failure_class: str | None
    mode: str | None
    levers: tuple[str, ...]
    refused: dict[str, str] = Field(description="`lever by gate` → why.")
    outcome: str | None
    ttm_s: Seconds | None
    failed_requests: float | None = Field(description="Beyond doing nothing; negative: fewer.")
    asked: int | None
    waited_s: float | None
    failed: tuple[str, ...] = Field(description="Expectations of the file that did not hold.")


class PlayedDiffers(Model):
    """One incident that the policies play differently. Positive figures: B saves them. None: not known of one of them."""

    incident: str
    truth: str
    a: Side
    b: Side
    what: tuple[str, ...] = Field(description="What differs, a sentence each.")
    ttm_saved_s: float | None
    requests_saved: float | None
    approvals: int | None = Field(description="Requests for approval that B adds; negative: saves.")
    waiting_saved_s: float | None


class OfFiles(Model):
    """The backtest over incident files, replayed under each policy."""

    a: str
    b: str
    settings: tuple[Setting, ...]
    incidents: int
    same: int
    differ: tuple[PlayedDiffers, ...]
    lost: tuple[str, ...] = Field(description="Incidents that could not be played under one of the policies, and why.")
