"""Requests, releases and standing receipts to ask a Guard with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runbooks.change import Blast
from runbooks.detection import Target
from runbooks.facts import StandingReceipt
from runbooks.guard import AcquireRequest, Release
from runbooks.policy import DomainPolicy
from tests.unbounded import UNBOUNDED

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def ask(who: str = "w1", attempt: int = 1, **more: Any) -> AcquireRequest:
    """A request of a case for its own endpoint, with facts of now."""
    base: dict[str, Any] = {
        "domain": "lab", "case": f"{who}#1", "workflow_id": who, "run_id": "r", "step_id": "1-isolate_endpoint",
        "target": Target(cluster="lab", service="chat", endpoint=f"{who}:1"), "increment": 0, "attempt": attempt,
        "purpose": "act", "lever": "isolate_endpoint", "change_digest": "d", "blast": Blast(), "facts_oldest_at": NOW,
        "seen_epoch": 0, "priority": 5, "settle_s": 1.0, "permit_ttl_s": 5.0, "max_acts_per_hour": 1000,
        "attempts": 1000, "cooldown_s": 3600.0, "ineffective_s": 3600.0, "failure_class": "engine.hang", "limits": UNBOUNDED,
    }  # fmt: skip
    return AcquireRequest.model_validate({**base, **more})


def back(who: str = "w1", applied: bool = False, at: datetime = NOW, **more: Any) -> Release:
    """A release of a case."""
    return Release(case=f"{who}#1", workflow_id=who, applied=applied, at=at, **more)


def stands(who: str = "w1") -> StandingReceipt:
    """What a case left standing."""
    return StandingReceipt(
        receipt_id=f"{who}#1/1", case=f"{who}#1", lever="isolate_endpoint", target_id=f"lab/{who}", since=NOW
    )


def later(seconds: float) -> datetime:
    """So long after the beginning."""
    return NOW + timedelta(seconds=seconds)


def limits(**more: Any) -> DomainPolicy:
    """Bounds in nothing but this."""
    return UNBOUNDED.model_copy(update=more)
