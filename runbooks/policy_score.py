"""What a class did in observe mode against what people did: shown before anybody promotes it. Pure.

One closed record, with people's word on it, gives one `Compared`; a class's `Score` is the sum, and never says a share
without the number that it is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Literal

from pydantic import Field

from runbooks.base import Model, Time
from runbooks.detection import Target
from runbooks.did import Did, in_force
from runbooks.markdown import plain
from runbooks.record import CaseRecord, Judged, StepRecord

ENOUGH = 20
"""Fewer cases than this with people's word say nothing about a class."""
LONGEST = 1000
"""Characters of a line."""
Ending = Literal["untold", "agreed", "same_lever", "other_lever", "acted_alone", "refused", "paged_only", "both_waited"]


class Would(Model):
    """What Interlock would have done in one case. `gates` is who refused it, the Guard included."""

    acts: bool
    lever: str = ""
    targets: tuple[str, ...] = ()
    at: Time | None = None
    ask: bool = Field(default=False, description="The gates themselves would have asked people first.")
    gates: tuple[str, ...] = ()
    why: str = Field(default="", description="What those gates said.")
    note: str = Field(default="", description="What its first increment would have changed.")


class Compared(Model):
    """One case."""

    case: str
    target: str
    opened_at: Time
    would: Would
    did: tuple[Did, ...] = ()
    ending: Ending
    earlier_s: float | None = Field(default=None, description="How long before people it would have acted, seconds.")


class Score(Model):
    """One class. Lists hold the cases behind each number."""

    failure_class: str
    since: Time | None
    cases: tuple[Compared, ...]
    runbooks: dict[str, int] = Field(default_factory=dict, description="Runbook, with its hash → cases.")
    unreadable: int = Field(default=0, description="Closed records of another version, left out.")

    def of(self, *endings: Ending) -> list[Compared]:
        """The cases that ended so."""
        return [c for c in self.cases if c.ending in endings]

    @property
    def told(self) -> list[Compared]:
        """Those with people's word."""
        return [c for c in self.cases if c.ending != "untold"]

    @property
    def disagreements(self) -> list[Compared]:
        """Whatever was told and is not the same lever on the same target, or both doing nothing."""
        return [c for c in self.told if c.ending not in ("agreed", "both_waited")]

    @property
    def enough(self) -> bool:
        """Whether there are enough to judge by."""
        return len(self.told) >= ENOUGH


def score(
    failure_class: str, records: Iterable[CaseRecord], told: Mapping[str, Sequence[Did]], since: datetime | None = None
) -> Score:
    """Closed cases of this class that ran in observe, each beside people's word on it (by case id)."""
    cases: list[Compared] = []
    runbooks: dict[str, int] = {}
    for record in records:
        if not counts(record, failure_class, since):
            continue
        cases.append(compare(record, told.get(record.case, ())))
        runbooks[record.runbook] = runbooks.get(record.runbook, 0) + 1
    return Score(failure_class=failure_class, since=since, cases=tuple(cases), runbooks=runbooks)


def counts(record: CaseRecord, failure_class: str, since: datetime | None) -> bool:
    """True for a closed case of this class that only observed. What was handed over is counted in the domain's case."""
    found = record.classification
    return (
        record.mode == "observe"
        and record.closed_at is not None
        and record.target is not None
        and record.outcome not in ("refused_input", "forwarded", "handed_over")
        and found is not None
        and found.failure_class == failure_class
        and (since is None or record.opened_at >= since)
    )


def compare(record: CaseRecord, words: Sequence[Did]) -> Compared:
    """One case: would and did."""
    assert record.target is not None
    would, did = would_have(record), in_force(words)
    acted = [d for d in did if d.lever != "none"]
    ending = _ending(record.target, would, did, acted)
    times = [d.at for d in acted if d.at is not None]
    earlier = (min(times) - would.at).total_seconds() if times and would.acts and would.at is not None else None
    return Compared(
        case=record.case,
        target=record.target.id,
        opened_at=record.opened_at,
        would=would,
        did=tuple(did),
        ending=ending,
        earlier_s=earlier,
    )


def _ending(target: Target, would: Would, did: Sequence[Did], acted: Sequence[Did]) -> Ending:
    if not did:
        return "untold"
    if not acted:
        return "acted_alone" if would.acts else "both_waited"
    if not would.acts:
        return "refused" if would.gates else "paged_only"
    same = [d for d in acted if d.lever == would.lever]
    if not same:
        return "other_lever"
    return "agreed" if any(_same_target(target, would, d) for d in same) else "same_lever"


def _same_target(case: Target, would: Would, did: Did) -> bool:
    """By id; where people name none they mean what the case is about, and the step is about that or what it is part of."""
    if not would.targets:
        return did.target in ("", case.id)
    if did.target:
        return did.target in would.targets
    return any(Target.of(t).related(case) for t in would.targets)


def would_have(record: CaseRecord) -> Would:
    """The first step that it would have taken, else what refused the last one that it thought of."""
    refused: Would | None = None
    for step in record.steps:
        judged = _judged(record, step)
        if judged is None:
            continue
        # A held verdict in observe ends the step at once: what it waited for may have come in a second.
        outcome, guard = judged.verdict.outcome, judged.guard
        stopped = guard.partition(":")[0] if guard.partition(":")[0] not in ("", "shadow", "permit") else ""
        if step.end == "observed" and outcome in ("allow", "ask") and not stopped:
            return Would(
                acts=True,
                lever=step.lever,
                targets=step.targets,
                at=judged.at,
                ask=outcome == "ask",
                note=step.would,
            )
        gates = tuple(g.gate for g in judged.verdict.gates if g.outcome == outcome) if outcome != "allow" else ()
        why = judged.verdict.because()
        if stopped and outcome == "allow":
            gates, why = ("Guard",), f"Guard: {guard}"
        if gates:
            refused = Would(acts=False, lever=step.lever, targets=step.targets, at=judged.at, gates=gates, why=why)
    return refused or Would(acts=False)


def _judged(record: CaseRecord, step: StepRecord) -> Judged | None:
    """The verdict at which it would have acted, else the last one on the step's act. None: it was never judged."""
    found = [j for j in record.verdicts if j.step == step.step_id and j.purpose == "act"]
    free = [j for j in found if step.end == "observed" and j.verdict.outcome in ("allow", "ask")]
    return free[0] if free else found[-1] if found else None


def as_text(found: Score) -> str:
    """The score for a terminal, a block of a dozen lines."""
    n, told = len(found.cases), found.told
    since = f" since {found.since:%Y-%m-%d %H:%M}" if found.since is not None else ""
    lines = [f"Observed: {n} closed case(s) of {found.failure_class}{since}; people told what they did in {len(told)}"]
    if found.unreadable:
        lines.append(f"  {found.unreadable} closed record(s) are of another version of Interlock and were not read")
    if len(found.runbooks) > 1:
        each = ", ".join(f"{name} {count}" for name, count in found.runbooks.items())
        lines.append(f"  under more than one runbook, so look at --since: {each}")
    if not n:
        return "\n".join(lines)
    if told:
        rows: list[tuple[str, Sequence[Compared], list[str]]] = [
            ("agreed: same lever, same target", found.of("agreed"), _helped(found)),
            ("agreed on the lever, not on the target", found.of("same_lever"), []),
            ("would have moved another lever", found.of("other_lever"), []),
            ("would have acted, people did nothing", found.of("acted_alone"), []),
            ("would have been refused, people acted", found.of("refused"), _by_gate(found)),
            ("would only have told people, people acted", found.of("paged_only"), []),
            ("both did nothing", found.of("both_waited"), []),
        ]
        for what, cases, more in rows:
            lines += [f"  {what:<42} {_of(len(cases), len(told))}", *more] if cases else []
        lines += _earlier(found)
    untold = found.of("untold")
    if untold:
        names = ", ".join(c.case for c in untold[:3])
        lines.append(f"  not told in {len(untold)}: `interlock cases did CASE --lever …` for {names}")
    lines.append(_verdict(found))
    for one in found.disagreements:
        lines += [f"  {one.case}", f"    {compared(one)}"]
    return "\n".join(plain(line, LONGEST) for line in lines)  # names and notes are strangers' text


def _of(part: int, whole: int) -> str:
    """Never a share without its number, and none of a handful."""
    share = f" ({part / whole:.0%})" if whole >= ENOUGH else ""
    return f"{part} of {whole}{share}"


def _by_gate(found: Score) -> list[str]:
    counts: dict[str, int] = {}
    for case in found.of("refused"):
        for gate in case.would.gates:
            counts[gate] = counts.get(gate, 0) + 1
    return [f"    refused by {', '.join(f'{g} in {c}' for g, c in sorted(counts.items()))}"] if counts else []


def _helped(found: Score) -> list[str]:
    agreed = found.of("agreed")
    said = [next((d.helped for d in c.did if d.lever == c.would.lever and d.helped), None) for c in agreed]
    yes, no = said.count("yes"), said.count("no")
    return [f"    it helped in {yes}, it did not in {no}, nobody said in {said.count(None)}"]


def _earlier(found: Score) -> list[str]:
    seconds = sorted(c.earlier_s for c in found.told if c.earlier_s is not None)
    if not seconds:
        return ["  how much earlier than people: not known, nobody told when (--at)"]
    span = f", from {_span(seconds[0])} to {_span(seconds[-1])}" if len(seconds) > 1 else ""
    return [f"  earlier than people by {_span(median(seconds))} (median of {len(seconds)}{span})"]


def _span(seconds: float) -> str:
    return f"{seconds:+.0f} s" if seconds < 0 else f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _verdict(found: Score) -> str:
    n = len(found.told)
    if not found.enough:
        return f"TOO FEW TO PROMOTE: {n} case(s) with people's word, and fewer than {ENOUGH} say nothing about a class"
    wrong = len(found.disagreements)
    if wrong:
        return f"{n} cases with people's word are enough to look at; read the {wrong} disagreement(s) before promoting:"
    vain = sum(any(d.helped == "no" for d in c.did) for c in found.of("agreed"))
    helped = f"; but in {vain} of the agreed it did not help" if vain else ""
    return f"{n} cases with people's word, and no disagreement among them{helped}"


WORDS: Mapping[Ending, str] = {
    "untold": "nobody has told",
    "agreed": "agreed",
    "both_waited": "both did nothing",
    "same_lever": "another target",
    "other_lever": "another lever",
    "acted_alone": "would have acted alone",
    "refused": "would have been refused",
    "paged_only": "would only have told people",
}


def compared(case: Compared) -> str:
    """One case in a line: how it compares, what Interlock would have done, what people did."""
    would = case.would
    if would.acts:
        mine = would.lever + _on(would.targets, case)
    else:
        mine = f"{would.lever} refused ({would.why[:200]})" if would.gates else "nothing"
    theirs = "; ".join(_did(d, case) for d in case.did)
    return f"{WORDS[case.ending]}: Interlock {mine}; people {theirs or 'did not tell'}"


def _did(did: Did, case: Compared) -> str:
    helped = {"yes": " and it helped", "no": " and it did not help", None: ""}[did.helped]
    what = "nothing" if did.lever == "none" else did.lever + _on((did.target,) if did.target else (), case)
    return f"{what}{helped} ({did.who}{f': {did.note}' if did.note else ''})"


def _on(targets: Sequence[str], case: Compared) -> str:
    """Where it is not the case's own target."""
    return f" on {', '.join(targets)}" if targets and tuple(targets) != (case.target,) else ""
