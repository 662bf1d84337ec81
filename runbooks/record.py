"""What a case knows about itself: the record that closes it, and that people and tests read."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from runbooks import chain
from runbooks.base import Model, Time
from runbooks.change import Receipt
from runbooks.detection import Detection, Target
from runbooks.people import Attested
from runbooks.plan import Classification, Effect, Verdict
from runbooks.redact import redacted

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
    "handed_over",
]


class Event(Model):
    """One row of the timeline."""

    n: int = Field(default=0, description="0, 1, 2, …: its number in the case.")
    at: Time
    what: str
    text: str
    hash: str = Field(default="", description="See runbooks/chain.py. Empty: written before there was a chain.")


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
    targets: tuple[str, ...] = Field(default=(), description="Ids of what the step would change or load.")
    would: str = Field(default="", description="Observe mode: what its first increment would have changed.")
    would_at: datetime | None = Field(default=None, description="Observe mode: when it would have acted.")


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
    chain_base: str = Field(default="", description="What the first row that is kept follows. See runbooks/chain.py.")
    chain_end: str = Field(default="", description="The last row's hash.")
    seals: dict[str, str] = Field(default_factory=dict, description="One hash for each other field.")
    head: str = Field(
        default="", description="The hash of all seals, in the workflow's result as well. Empty: not closed."
    )

    def add(self, at: datetime, what: str, text: str) -> None:
        """One more row of the timeline.

        Secrets go before it is hashed: the journal takes them out of what it writes, and the hash must be of that.
        """
        previous = self.timeline[-1].hash if self.timeline else chain.origin(self.case)
        row = Event(n=len(self.timeline), at=at, what=redacted(what), text=redacted(text)[:LONGEST_TEXT])
        linked = chain.link(previous, row.model_dump(mode="json"))
        self.timeline.append(row.model_copy(update={"hash": linked}))


LONGEST_TEXT = 400
LARGEST_RECORD = 1_000_000
"""Characters. Temporal ends a workflow, unheard, that sends more than 2 MB: a long case must still close and tell people."""


class Sealed(NamedTuple):
    """A record as it is written down, as JSON, and its head."""

    text: str
    head: str


def sealed(record: CaseRecord, most: int = LARGEST_RECORD) -> Sealed:
    """The record without secrets, the oldest of its long lists left out until it fits, under its seals.

    Receipts are never left out. Sealed is what is stored: what the journal would still take out is out by now.
    """
    data = _fitting(redacted(json.loads(record.model_dump_json())), most)
    left_out = record.timeline[: len(record.timeline) - len(data["timeline"])]
    data["chain_base"] = left_out[-1].hash if left_out else chain.origin(record.case)
    data["chain_end"] = record.timeline[-1].hash if record.timeline else data["chain_base"]
    data["seals"] = chain.seals(data)
    data["head"] = chain.hashed(data["seals"])
    return Sealed(_json(data), data["head"])


def _fitting(data: dict[str, Any], most: int) -> dict[str, Any]:
    for name in ("verdicts", "timeline", "detections", "decisions"):
        while len(_json(data).encode()) > most and (kept := data[name]):
            data[name] = kept[len(kept) // 2 + 1 :]
    return data


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False)


class CaseResult(Model):
    """What the workflow returns."""

    case: str
    outcome: Outcome
    failure_class: str
    lever: str
    why: str
    restored: bool
    head: str = Field(
        default="", description="The head of the closed record's chain: `interlock cases verify` compares."
    )
