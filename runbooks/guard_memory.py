"""What a Guard must not forget, even when somebody terminates its workflow: written to the journal beside the receipts.

Temporal keeps a Guard's state through crashes, continue-as-new and the death of every worker. A person who terminates the
workflow ends that, and the next Guard starts from nothing but the journal. A halt that ends with a click that was meant for
something else is no halt. The queue and the answers are not kept: cases that wait ask again.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from runbooks.base import Model
from runbooks.detection import Target
from runbooks.facts import StandingReceipt
from runbooks.guard_asking import Asking
from runbooks.guard_book import Book
from runbooks.guard_words import Lock
from runbooks.policy import DomainPolicy


class Memory(BaseModel):
    """Of one domain. `lock`: a holder that verifies what it did still has the domain; whether it lives is looked at."""

    model_config = ConfigDict(extra="forbid")

    domain: str
    epoch: int = 0
    lock: Lock | None = None
    current: Target | None = None
    last_change_at: datetime | None = None
    book: Book = Field(default_factory=Book)
    asking: Asking = Field(default_factory=Asking)
    limits: DomainPolicy = Field(default_factory=DomainPolicy)
    ineffective_s: dict[str, float] = Field(default_factory=dict)
    halted: str | None = None
    halted_since: datetime | None = None
    stopped_at: datetime | None = None
    halts: int = 0
    resumed_at: datetime | None = None
    dirty: str | None = None
    nonces: list[str] = Field(default_factory=list)

    @property
    def mark(self) -> str:
        """The same for the same memory: what has been written is not written again."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Recovered(Model):
    """What a Guard without a state starts from: what stands in its domain by the journal, and what the one before it knew."""

    standing: tuple[StandingReceipt, ...]
    owners: dict[str, str]
    targets: dict[str, Target]
    memory: Memory | None = None
    number: int = Field(default=0, description="Of that memory in the journal.")


class Remember(Model):
    """One memory to write down. Numbers rise: the last word of a Guard that was terminated may come late."""

    number: int
    memory: Memory


def latest(*times: datetime | None) -> datetime | None:
    """The last of those that there are."""
    return max((t for t in times if t is not None), default=None)
