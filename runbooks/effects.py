"""Did it help? Judged from samples alone: a missing reading never counts as a good one."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import pairwise

from runbooks.plan import Effect, Sample
from runbooks.schema import Criterion, Verify


def judge_effect(
    verify: Verify,
    samples: Sequence[Sample],
    since: datetime,
    now: datetime,
    baseline: Mapping[str, float] | None = None,
    exact: Collection[str] = (),
) -> Effect:
    """Worse, Better, CannotTell or still pending.

    Only samples observed after `since` (when the change was read back) count, once per indicator and time.
    Worse: two readings in a row of one indicator over its worse bound. Better: every criterion held without a break for
    the soak, in enough readings. A reading that could not be had starts the soak of its criterion again.

    `baseline` (first readings by indicator) is for an increment that does not complete its step: there a reading is
    also good when it is no worse than the baseline; `exact` names indicators that are counted, without noise. Leave it
    out for the last increment, for undo and for restore.
    """
    criteria = [_eased(c, baseline or {}, 1.0 if c.indicator in exact else 1.25) for c in verify.criteria]
    worse = [why for c in criteria if (why := _worse(c, _readings(c, samples, since)))]
    if worse:
        return Effect(outcome="worse", why="; ".join(worse), samples=tuple(samples))
    lacking = [why for c in criteria if (why := _lacking(verify, c, _readings(c, samples, since)))]
    if not lacking:
        held = ", ".join(f"{c.indicator} {_last(_readings(c, samples, since))} ({_words(c)})" for c in criteria)
        # An increment on the way proves less than a step, and says so.
        proven = "no worse than before it" if baseline else "held"
        return Effect(outcome="better", why=f"{proven} for {verify.soak_s:g} s: {held}", samples=tuple(samples))
    late = (now - since).total_seconds() >= verify.deadline_s
    why = "; ".join(lacking)
    if late:
        return Effect(outcome="cannot_tell", why=f"after {verify.deadline_s:g} s: {why}", samples=tuple(samples))
    return Effect(outcome="pending", why=why, samples=tuple(samples))


def patient(verify: Verify) -> Verify:
    """The same without bounds for Worse. On a way back, what is being taken back goes on doing its harm until the last of
    it is gone: that says nothing about what comes in its place."""
    mild = (c.model_copy(update={"worse_above": None, "worse_below": None}) for c in verify.criteria)
    return verify.model_copy(update={"criteria": tuple(mild)})


def fair(verify: Verify, first: Mapping[str, float], drowns: bool = False) -> Verify:
    """The same, for a service that was bad already: where an indicator was not good before the step (`first`), what it was
    then is no proof that the step made it worse; a quarter more than that is.

    `drowns`: a step that loads others may drown them long before the written bound. Twice what it was before is Worse, and
    so is a fifth of the bound more (oai-2024-04-10: from 20 % of failed requests to 79 %).
    """
    fairer = (_fair(c, first.get(c.indicator)) for c in verify.criteria)
    if drowns:
        fairer = (_strict(c, first.get(c.indicator)) for c in fairer)
    return verify.model_copy(update={"criteria": tuple(fairer)})


def _more(start: float) -> float:
    """A quarter more; for a share, which ends at 1, no more than half of the way there: a total outage must be Worse."""
    return 1.25 * start if start > 1 else min(1.25 * start, (1 + start) / 2)


def _strict(criterion: Criterion, start: float | None) -> Criterion:
    bound = criterion.worse_above
    if start is None or math.isnan(start) or bound is None:
        return criterion
    least = criterion.below if criterion.below is not None else 0.0  # what is good is never Worse
    return criterion.model_copy(update={"worse_above": min(bound, max(2 * start, start + bound / 5, least))})


def _fair(criterion: Criterion, start: float | None) -> Criterion:
    if start is None or math.isnan(start) or _meets(criterion, start):
        return criterion
    above, below = criterion.worse_above, criterion.worse_below
    return criterion.model_copy(
        update={
            "worse_above": None if above is None else max(above, _more(start)),
            "worse_below": None if below is None else min(below, 0.75 * start),
        }
    )


def worse_in_the_end(verify: Verify, samples: Sequence[Sample], parts: int = 1) -> str:
    """Which indicator was over its worse bound twice in its last two readings of each of `parts` pools, or nothing."""
    for criterion in verify.criteria:
        found = [v for s in samples if s.indicator == criterion.indicator and (v := _value(s)) is not None]
        over = [v for v in found[-2 * parts :] if _over(criterion, v)]
        if len(over) >= 2:
            return f"{criterion.indicator} is still {over[-1]:g}, which is worse than its bound"
    return ""


def _last(readings: Sequence[Sample]) -> str:
    value = _value(readings[-1]) if readings else None
    return "unknown" if value is None else f"{value:.3g}"


def _eased(criterion: Criterion, baseline: Mapping[str, float], noise: float) -> Criterion:
    """For an increment on the way: no worse than before it, with a quarter's room for the noise of a short window."""
    start = baseline.get(criterion.indicator)
    if start is None or math.isnan(start):
        return criterion
    if criterion.below is not None:
        return criterion.model_copy(update={"below": max(criterion.below, noise * start)})
    return criterion.model_copy(update={"above": min(criterion.above or 0.0, start * (2 - noise))})


def _readings(criterion: Criterion, samples: Sequence[Sample], since: datetime) -> list[Sample]:
    """The readings that count, oldest first, one per time. Two at the same time: the more doubtful one counts."""
    by_time: dict[datetime, Sample] = {}
    for sample in samples:
        if sample.indicator != criterion.indicator or sample.observed_at <= since:
            continue
        first = by_time.get(sample.observed_at)
        if first is None or _doubt(criterion, sample) > _doubt(criterion, first):
            by_time[sample.observed_at] = sample
    return [by_time[at] for at in sorted(by_time)]


def _value(sample: Sample) -> float | None:
    return None if sample.value is None or math.isnan(sample.value) else sample.value


def _good(criterion: Criterion, sample: Sample) -> bool:
    value = _value(sample)
    return value is not None and _meets(criterion, value)


def _meets(criterion: Criterion, value: float) -> bool:
    if criterion.below is not None and value > criterion.below:
        return False
    return criterion.above is None or value >= criterion.above


def _doubt(criterion: Criterion, sample: Sample) -> int:
    """0 good, 1 not good, 2 not measured, 3 over the worse bound."""
    value = _value(sample)
    if value is None:
        return 2
    return 3 if _over(criterion, value) else 0 if _good(criterion, sample) else 1


def _over(criterion: Criterion, value: float) -> bool:
    over = criterion.worse_above is not None and value > criterion.worse_above
    return over or (criterion.worse_below is not None and value < criterion.worse_below)


def _worse(criterion: Criterion, readings: Sequence[Sample]) -> str:
    # A reading that could not be had between two bad ones is no comfort: it is skipped, not taken for a good one.
    values = [value for sample in readings if (value := _value(sample)) is not None]
    for first, second in pairwise(values):
        if _over(criterion, first) and _over(criterion, second):
            return f"{criterion.indicator} was {first:g} and then {second:g}, which is worse than its bound"
    return ""


def _lacking(verify: Verify, criterion: Criterion, readings: Sequence[Sample]) -> str:
    """What the criterion still needs, or nothing when it has held for the whole soak."""
    run: list[Sample] = []
    for sample in reversed(readings):
        if not _good(criterion, sample):
            break
        run.append(sample)
    if run and len(run) >= verify.min_samples:
        held = (run[0].observed_at - run[-1].observed_at).total_seconds()
        if held >= verify.soak_s:
            return ""
        return f"{criterion.indicator} has held for {held:.1f} s of {verify.soak_s:g} s"
    if run:
        return f"{criterion.indicator} has {len(run)} good readings in a row of {verify.min_samples}"
    if not readings:
        return f"{criterion.indicator} has no reading since the change"
    last = readings[-1]
    value = _value(last)
    if value is None:
        return f"{criterion.indicator} could not be measured: {last.why or 'no value'}"
    return f"{criterion.indicator} is {value:g}, and needs {_words(criterion)}"


def _words(criterion: Criterion) -> str:
    return f"<= {criterion.below:g}" if criterion.below is not None else f">= {criterion.above:g}"
