"""What a policy would have made of a closed case, as far as its record tells. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from runbooks import retelling
from runbooks.change import Blast
from runbooks.decisions import same_person
from runbooks.detection import Target
from runbooks.facts import GuardView
from runbooks.fleet import Fleet
from runbooks.policy import ClassPolicy, Policy
from runbooks.record import CaseRecord, Judged, StepRecord
from runbooks.report_rows import Asked, Row
from worker.backtest_judge import Again, judge_again
from worker.backtest_ledger import Ledger
from worker.backtest_models import Answer, Decision
from worker.backtest_seen import Seen

STOPPED = ("refused", "halted", "correlated")
"""First words of the Guard when it gave no permit."""


class Pair(NamedTuple):
    """Under which policy is decided, and which it is compared with."""

    rule: Policy
    other: Policy


def decide(record: CaseRecord, row: Row, pair: Pair, ledger: Ledger, fleet: Fleet | None) -> Decision:
    """The first step that would be done, asked for or observed; else what refused the last one, or telling people."""
    rule = pair.rule.for_class(row.found_class or "unknown")
    refused: Decision | None = None
    for step in record.steps:
        checks = list(_checks(record, step))
        if not checks:
            continue
        first, *later = [judge_again(c, *pair, _views(c, ledger), fleet) for c in checks]
        if first.outcome in ("hold", "deny"):
            refused = _stopped(step, first)
            if step.receipts:
                return refused  # what its next step would have done is not on record
            continue
        if unsure := first.unsure or _guard_unsure(record, step, pair):
            why = f"what {', '.join(unsure)} saw is not on record, and the policies differ in what it reads"
            return Decision(does="cannot_tell", lever=step.lever, gates=unsure, why=why)
        if (guard := _guard(record, step)) is not None:
            refused = Decision(does="refused", lever=step.lever, gates=("guard",), why=guard.guard)
            continue
        return _goes(record, step, row, rule, first, later)
    return refused or Decision(does="tells", why="no step of its plan was checked")


def _goes(
    record: CaseRecord, step: StepRecord, row: Row, rule: ClassPolicy, first: Again, later: list[Again]
) -> Decision:
    if rule.mode == "observe":
        return Decision(does="observes", lever=step.lever)
    wants = [w for w in (first, *later) if w.outcome == "ask"]
    if wants:
        asks = wants[0].against()
        return Decision(
            does="asks",
            lever=step.lever,
            wants=f"{rule.quorum} of {rule.approvers}",
            gates=tuple(g.gate for g in asks),
            why="; ".join(g.reason for g in asks),
            answer=_answer(record, row, step, rule),
        )
    half = next((n for n, w in enumerate(later) if w.outcome == "deny"), None)
    why = "" if half is None else f"stopped after {half + 1} increment(s): {_said(later[half])}"
    return Decision(does="acts", lever=step.lever, why=why, ends_early=None if half is None else half + 1)


def _stopped(step: StepRecord, word: Again) -> Decision:
    gates = tuple(g.gate for g in word.against())
    return Decision(does="refused", lever=step.lever, gates=gates, why=_said(word))


def _said(word: Again) -> str:
    return "; ".join(f"{g.gate}: {g.reason}" for g in word.against())


def _checks(record: CaseRecord, step: StepRecord) -> Iterator[Seen]:
    """One for each act that it did; else the last that asked people, else the last."""
    acts = [a for a in retelling.acts(record, step) if a.purpose == "act"]
    judged = [j for j in record.verdicts if j.step == step.step_id and j.purpose == "act"]
    if not judged or record.target is None:
        return
    for n, act in enumerate(acts):
        yield _seen(record, step, act.judged or judged[-1], n, act.receipt.blast, record.target)
    if not acts:
        asking = [j for j in judged if j.verdict.outcome == "ask"]
        yield _seen(record, step, (asking or judged)[-1], 0, None, record.target)


def _seen(record: CaseRecord, step: StepRecord, judged: Judged, n: int, blast: Blast | None, target: Target) -> Seen:
    domains = tuple(dict.fromkeys(Target.of(t).domain for t in step.targets)) or (target.domain,)
    name = record.classification.failure_class if record.classification is not None else "unknown"
    return Seen(step.lever, target, name, record.workflow_id, judged.at, domains, n, judged.verdict, blast)


def _views(seen: Seen, ledger: Ledger) -> Callable[[Policy], GuardView]:
    return lambda rule: ledger.view(seen.target.domain, seen.at, rule)


def _guard(record: CaseRecord, step: StepRecord) -> Judged | None:
    """The Guard's last word, where no gate was against it and it gave no permit."""
    if step.receipts or step.end == "observed":
        return None
    last = [j for j in record.verdicts if j.step == step.step_id and j.purpose == "act"][-1]
    return last if last.verdict.outcome == "allow" and last.guard.partition(":")[0] in STOPPED else None


def _guard_unsure(record: CaseRecord, step: StepRecord, pair: Pair) -> tuple[str, ...]:
    """Budgets, breaker and correlation are the Guard's: under another policy of the domain its word may be another."""
    stopped = _guard(record, step) is not None
    return ("guard",) if stopped and pair.rule.domain != pair.other.domain else ()


def _answer(record: CaseRecord, row: Row, step: StepRecord, rule: ClassPolicy) -> Answer:
    """What people's words on record would have come to under this rule."""
    asked = [a for a in row.asked if a.step == step.step_id]
    if not asked:
        return "not_asked"
    last = asked[-1]
    if last.answer == "rejected":
        return "rejected"
    if last.answer == "expired" or _late(last, rule):
        return "expired"
    if last.answer != "approved":
        return "not_asked"
    counted: list[str] = []
    for one in record.decisions:
        if one.action == "decide" and one.approve and one.accepted and _counts(one.who, one.verified, rule):
            counted += [] if any(same_person(one.who, c) for c in counted) else [one.who]
    return "approved" if len(counted) >= rule.quorum else "not_enough"


def _late(asked: Asked, rule: ClassPolicy) -> bool:
    return asked.waited_s is not None and asked.waited_s > rule.approval_ttl_s


def _counts(who: str, verified: bool, rule: ClassPolicy) -> bool:
    if any(same_person(who, n) for n in rule.never):
        return False
    return verified or (rule.accept_unverified and rule.quorum == 1)
