"""`interlock backtest` over incident files: each replayed under both policies, and what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runbooks.incident import Incident
from runbooks.policy import Policy
from worker.backtest_models import OfFiles, PlayedDiffers, Side
from worker.backtest_settings import differing
from worker.replay_one import Options
from worker.replay_pool import replay_all
from worker.replay_result import NOISE_REQUESTS, NOISE_SHARE, Row

SAME_TIME_S = 30.0
"""Two looks of a detector: closer times to mitigate are no difference between two policies."""


def of_files(
    incidents: Sequence[Incident],
    a: Policy,
    b: Policy,
    catalogue: Path | None,
    jobs: int,
    told: Callable[[Row], None] = lambda _: None,
) -> OfFiles:
    """Plays all under A, then all under B; `told` hears of each. Policies that decide alike are not played twice."""
    settings = differing(a, b)
    if not settings:
        return OfFiles(a=a.ref, b=b.ref, settings=(), incidents=len(incidents), same=len(incidents), differ=(), lost=())
    mine = replay_all(incidents, Options(a, catalogue), jobs, told)
    theirs = replay_all(incidents, Options(b, catalogue), jobs, told)
    return compared(mine, theirs, a, b)


def compared(mine: Sequence[Row], theirs: Sequence[Row], a: Policy, b: Policy) -> OfFiles:
    """The rows of the same incidents, in the same order."""
    lost = tuple(
        f"{row.incident} under {name}: {row.expectations_failed[0]}"
        for name, rows in (("A", mine), ("B", theirs))
        for row in rows
        if _lost(row)
    )
    both = [(x, y) for x, y in zip(mine, theirs, strict=True) if not _lost(x) and not _lost(y)]
    differ = tuple(d for x, y in both if (d := _differs(x, y)).what)
    return OfFiles(
        a=a.ref,
        b=b.ref,
        settings=differing(a, b),
        incidents=len(mine),
        same=len(both) - len(differ),
        differ=differ,
        lost=lost,
    )


def _lost(row: Row) -> bool:
    """It could not be played: its row has a sentence, and nothing that was measured."""
    return row.harm.failed_requests is None


def _differs(x: Row, y: Row) -> PlayedDiffers:
    a, b = _side(x), _side(y)
    nothing = x.detail.get("nothing_failed")
    return PlayedDiffers(
        incident=x.incident,
        truth=x.truth_class,
        a=a,
        b=b,
        what=tuple(_what(a, b, max(NOISE_REQUESTS, NOISE_SHARE * float(nothing or 0.0)))),
        ttm_saved_s=_less(a.ttm_s, b.ttm_s),
        requests_saved=_less(a.failed_requests, b.failed_requests),
        approvals=None if a.asked is None or b.asked is None else b.asked - a.asked,
        waiting_saved_s=_less(a.waited_s, b.waited_s),
    )


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _side(row: Row) -> Side:
    people: dict[str, Any] = row.detail.get("people") or {}
    return Side(
        failure_class=row.found_class,
        mode=row.mode,
        levers=row.levers,
        refused={f"{r['lever']} by {r['gate']}": r["why"] for r in row.refused},
        outcome=row.outcome,
        ttm_s=row.ttm_s,
        failed_requests=row.harm.failed_requests,
        asked=int(people["asked"]) if "asked" in people else None,
        waited_s=people.get("waited_s"),
        failed=row.expectations_failed,
    )


def _what(a: Side, b: Side, noise: float) -> Iterator[str]:
    """A decision first, then what came of it."""
    if a.failure_class != b.failure_class:
        yield f"class: {a.failure_class or 'none'} → {b.failure_class or 'none'}"
    if a.mode != b.mode:
        yield f"mode: {a.mode or 'none'} → {b.mode or 'none'}"
    if a.levers != b.levers:
        yield f"levers: {', '.join(a.levers) or 'none'} → {', '.join(b.levers) or 'none'}"
    for name, mine, theirs in (("only A refused", a, b), ("only B refused", b, a)):
        for refusal, why in mine.refused.items():
            if refusal not in theirs.refused:
                yield f"{name}: {refusal}: {why}"
    if a.asked != b.asked:
        yield f"people asked: {_count(a.asked)} → {_count(b.asked)}"
    if a.outcome != b.outcome:
        yield f"outcome: {a.outcome or 'no case'} → {b.outcome or 'no case'}"
    if (a.ttm_s is None) != (b.ttm_s is None) or abs(_less(a.ttm_s, b.ttm_s) or 0.0) > SAME_TIME_S:
        yield f"mitigated after: {_time(a.ttm_s)} → {_time(b.ttm_s)}"
    if abs(_less(a.failed_requests, b.failed_requests) or 0.0) > noise:
        yield f"failed requests beyond doing nothing: {a.failed_requests:.0f} → {b.failed_requests:.0f}"
    for name, mine, theirs in (("only A fails", a, b), ("only B fails", b, a)):
        yield from (f"{name}: {one}" for one in mine.failed if one not in theirs.failed)


def _count(n: int | None) -> str:
    return "not told" if n is None else str(n)


def _time(seconds: float | None) -> str:
    return "not by Interlock" if seconds is None else f"{seconds:.0f} s"
