"""What a case knows about itself: the record that closes it, and that people and tests read."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from runbooks.base import Model, Time
from runbooks.change import Receipt
from runbooks.detection import Detection, Target
from runbooks.people import Attested
from runbooks.plan import Classification, Effect, Verdict

State = Literal[
    "triage",
    "checking",
    "waiting_approval",
    "waiting_domain",
    "holding",
    "acting",
    "verifying",
    "undoing",
    "mitigated",
    "restoring",
    "taken_over",
    "handed_over",
    "closing",
    "closed",
]
Outcome = Literal[
    "restored",
    "fixed",
    "self_resolved",
    "paged",
    "observed",
    "aborted",
    "adopted",
    "refused_input",
    "forwarded",
]


class Event(Model):
    """One line of the timeline."""

    at: Time
    what: str
    text: str


class Judged(Model):
    """One check: all gates' verdicts with what they led to."""

    at: Time
    step: str
    purpose: str
    verdict: Verdict
    guard: str = ""

    def like(self, other: Judged) -> bool:
        """The same answer of every gate to the same question; the reasons may name other figures."""
        mine, its = ([(g.gate, g.outcome) for g in j.verdict.gates] for j in (self, other))
        same = (self.step, self.purpose) == (other.step, other.purpose) and mine == its
        return same and self.guard.partition(":")[0] == other.guard.partition(":")[0]


class StepRecord(BaseModel):
    """A step as it went. `standing` is what now stands of it: before the first increment, after the last."""

    model_config = ConfigDict(extra="forbid")

    step_id: str
    lever: str
    receipts: list[Receipt] = Field(default_factory=list)
    effects: list[Effect] = Field(default_factory=list)
    standing: Receipt | None = None
    end: str = ""
    back: Literal["restorable", "permanent", "irreversible", "harmless"] = Field(
        default="restorable", description="What back to normal means for its lever."
    )


class CaseRecord(BaseModel):
    """The whole of one remediation. Times are the workflow's; seconds are derived by the reader, never stored twice."""

    model_config = ConfigDict(extra="forbid")

    case: str
    workflow_id: str
    run_id: str
    target: Target | None = None
    detections: list[Detection] = Field(default_factory=list)
    classification: Classification | None = None
    runbook: str = ""
    policy: str = ""
    mode: str = ""
    opened_at: datetime
    first_act_at: datetime | None = None
    mitigated_at: datetime | None = None
    restored_at: datetime | None = None
    closed_at: datetime | None = None
    outcome: Outcome | None = None
    why: str = ""
    steps: list[StepRecord] = Field(default_factory=list)
    verdicts: list[Judged] = Field(default_factory=list)
    decisions: list[Attested] = Field(default_factory=list)
    timeline: list[Event] = Field(default_factory=list)
    owner: str = Field(
        default="", description="Who owns what still stands at the end: a person, or the page's reference."
    )


LARGEST_RECORD = 1_000_000
"""Characters. Temporal ends a workflow, unheard, that sends more than 2 MB: a long case must still close and tell people."""


def fitting(record: CaseRecord, most: int = LARGEST_RECORD) -> str:
    """The record as JSON, the oldest of its long lists left out until it fits. Receipts are never left out."""
    text = record.model_dump_json()
    if len(text.encode()) <= most:
        return text
    short = record.model_copy()
    for name in ("verdicts", "timeline", "detections", "decisions"):
        while len(text.encode()) > most and (kept := getattr(short, name)):
            short = short.model_copy(update={name: kept[len(kept) // 2 + 1 :]})
            text = short.model_dump_json()
    return text


class CaseResult(Model):
    """What the workflow returns."""

    case: str
    outcome: Outcome
    failure_class: str
    lever: str
    why: str
    restored: bool
