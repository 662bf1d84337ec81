"""What one round saw, as gauges. What nobody said is left out, never 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from runbooks.record import State
from worker.watchman_ask import STARTING, Approval, CaseSeen, GuardSeen, moment
from worker.watchman_text import Reading


@dataclass(frozen=True)
class Seen:
    """What one round saw. `cases` is None when they could not be read."""

    at: float
    """Monotonic, seconds."""
    guards: tuple[GuardSeen, ...]
    intakes: dict[str, bool]
    cases: tuple[CaseSeen, ...] | None = None
    approvals: tuple[Approval, ...] = ()
    silent: int = 0
    unread: int = 0


def of_cases(
    seen: Seen, cases: Sequence[CaseSeen], states: Iterable[tuple[str, datetime]], now: datetime
) -> Iterator[Reading]:
    """Counts, and how long: `states` has each open case's state, and since when it is in it."""
    counts = Counter(c.state for c in cases)
    for state in dict.fromkeys((STARTING, *get_args(State), *counts)):
        if state != "closed":
            yield Reading("interlock_cases_open", counts[state], {"state": state})
    longest: dict[str, float] = {}
    for state, since in states:
        longest[state] = max(longest.get(state, 0.0), (now - since).total_seconds())
    for state, seconds in longest.items():
        yield Reading("interlock_cases_state_seconds", seconds, {"state": state})
    yield Reading("interlock_cases_not_answering", seen.silent)
    yield Reading("interlock_cases_unread", seen.unread)
    for one in seen.approvals:
        left = (one.expires_at - now).total_seconds()
        yield Reading("interlock_approval_seconds_left", left, {"case": one.case, "group": one.group})


def of_guard(guard: GuardSeen, now: datetime) -> Iterator[Reading]:
    """Its gauges. Of one that did not answer, only that and what the server knows."""
    labels = {"domain": guard.domain}

    def reading(name: str, value: float) -> Reading:
        return Reading(f"interlock_guard_{name}", value, labels)

    yield reading("answering", float(not guard.why))
    if guard.task is not None:
        attempt, since = guard.task
        yield reading("task_attempt", attempt)
        yield reading("task_age_seconds", 0.0 if since is None else max((now - since).total_seconds(), 0.0))
    if guard.answer_s is not None:
        yield reading("answer_seconds", guard.answer_s)
    view = guard.view
    for name in ("halted", "breaker", "dirty"):
        if name in view:  # a Guard of another release may not know it: then it is not known, and not 0
            yield reading(name, float(view[name] is not None))
    yield from (reading(n, v) for n, v in (("queue", _number(view.get("queue"))),) if v is not None)
    halted = moment(view.get("halted_since"))
    if view.get("halted") is not None and halted is not None:
        yield reading("halted_seconds", (now - halted).total_seconds())
    held = moment(view.get("held_since"))
    if held is not None:
        yield reading("held_seconds", (now - held).total_seconds())
    elif "holder" in view and view["holder"] is None:
        yield reading("held_seconds", 0.0)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
