"""The report as sheets of text: one definition of each table, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from runbooks.report_chances import Chance
from runbooks.report_count import Part, Spread
from runbooks.report_levers import Times
from runbooks.report_paper import KAPPA, SOURCE
from runbooks.report_tables import Report
from worker.agreement import Kappa
from worker.report import Agreed, Whole
from worker.report_words import DASH, agreement, minutes, paper, quantiles

Cells = tuple[str, ...]


class Sheet(NamedTuple):
    """A table. A column whose name ends in `>` is of figures. An empty row is a rule. No rows: `empty` says why."""

    key: str
    title: str
    columns: Cells
    rows: Sequence[Cells]
    note: str = ""
    empty: str = ""


QUANTILES = ("n>", "p25>", "p50>", "p75>", "p90>", "longest>", "?>")
PAPER_NOTE = (
    f"The paper's figures ({SOURCE}) are of another fleet. They stand beside these, and are neither target nor result."
)
MOST_LEVERS = 3
"""Named at a gate, the most frequent."""
ENDS = {
    "alone": "Interlock, nobody asked",
    "approved": "Interlock, people approved",
    "interlock": "Interlock, in a replay",
    "people": "people",
    "itself": "by itself",
    "not known": "not known",
}


def sheets(found: Whole) -> Iterator[Sheet]:
    """In the order in which people read them."""
    one = found.report
    yield _headline(found)
    yield _shares(one)
    yield _levers(one)
    yield from _times(one)
    if found.classifier is not None:
        yield _mistakes(found.classifier)
    yield _gates(one)
    yield _effort(one)
    yield _chances(one.chances)
    if one.failed:
        rows = [(name, "; ".join(failed)) for name, failed in one.failed.items()]
        yield Sheet("failed", "Expectations that did not hold in the replay", ("incident", "which"), rows)


def _headline(found: Whole) -> Sheet:
    one = found.report
    rows: list[Cells] = [
        ("found automatically", _with_interval(one.automatic), paper(one.automatic_paper)),
        ("needed a hotfix", _with_interval(one.hotfix), paper(one.hotfix_paper)),
        ("false alarms", _with_interval(one.false_alarms), DASH),
        ("  and a lever was done", str(len(one.acted_on_false)), DASH),
        ("ended by Interlock, nobody asked", _with_interval(one.unattended), DASH),
        ("kappa, Interlock against people", agreement(_kappa(found.classifier)), DASH),
        (
            "kappa, two people",
            agreement(_kappa(found.labellers)),
            f"{KAPPA:.2f} P",
        ),
        *(((f"ended by: {ENDS.get(by, by)}"), str(n), DASH) for by, n in one.ended_by.items()),
    ]
    return Sheet("figures", "In short", ("", "here", "paper"), rows, f"Shares with their 95 % interval. {PAPER_NOTE}")


def _kappa(found: Agreed | None) -> Kappa | None:
    return found.kappa if found is not None else None


def _with_interval(part: Part) -> str:
    if part.interval is None:
        return part.words()
    low, high = part.interval
    return f"{part.words()} [{low * 100:.0f}–{high * 100:.0f} %]"


def _shares(one: Report) -> Sheet:
    rows: list[Cells] = []
    for group in one.groups:
        rows += [()] if rows else []
        rows.append((group.name, str(group.of_all.part), _share(group.of_all), DASH, paper(group.paper)))
        for line in (c for c in one.classes if c.group == group.name):
            of_group = _share(line.of_group) if line.of_group is not None else DASH
            rows.append((f"  {line.name}", str(line.of_all.part), _share(line.of_all), of_group, paper(line.paper)))
    by = f"Counted by people's label in {one.labelled}, by Interlock's class in {one.incidents - one.labelled}."
    of = "The paper's figure of a group is of all incidents, that of a class is of its group."
    columns = ("group, class", "incidents>", "of all>", "of group>", "paper>")
    return Sheet("shares", "What failed", columns, rows if one.incidents else [], f"{by} {of}", "no incident")


def _share(part: Part) -> str:
    return DASH if part.share is None else f"{part.share * 100:.0f} %"


def _levers(one: Report) -> Sheet:
    rows = [
        (line.lever, str(line.incidents.part), _share(line.incidents), str(line.taken_back), str(line.people))
        for line in one.levers
    ]
    note = "By people: incidents that they ended with it, as far as told. The paper has a share for the hotfix only."
    columns = ("lever", "incidents>", "of all>", "taken back>", "by people>")
    return Sheet("levers", "Levers", columns, rows, note, "no lever was done")


def _times(one: Report) -> Iterator[Sheet]:
    named = (
        ("ttd", "Time to detect: fault began → first detection"),
        ("ttm", "Time to mitigate by Interlock: fault began → proven better"),
        ("people_ttm", "Time to mitigate by people: fault began → over, or its alerts taken back"),
    )
    for key, title in named:
        blocks = [[one.all_times], one.class_times, one.lever_times]
        rows = [row for block in blocks for row in _block(block, key)]
        note = "?: not measured, or it did not come to it. No TTD or TTM of the paper was to be had."
        known = rows if _of(one.all_times, key).count else []
        yield Sheet(key, title, ("", *QUANTILES), known, note, f"not known of any of {one.incidents}")


def _block(block: Iterable[Times], key: str) -> Iterator[Cells]:
    rows = [(t.name, *quantiles(_of(t, key))) for t in block if _of(t, key).count or _of(t, key).unknown]
    if rows and rows[0][0] != "all":
        yield ()
    yield from rows


def _of(times: Times, key: str) -> Spread:
    found: Spread = getattr(times, key)
    return found


def _mistakes(found: Agreed) -> Sheet:
    wrong = [c for c in found.cells if c.truth != c.found]
    rows: list[Cells] = [(c.truth, c.found, str(c.incidents)) for c in wrong]
    right = sum(c.incidents for c in found.cells) - sum(c.incidents for c in wrong)
    note = f"{right} of {found.kappa.n} were found as people label them."
    return Sheet(
        "mistakes", "Classified as something else", ("people's label", "Interlock's class", "incidents>"), rows, note,
        f"nothing: all {found.kappa.n} are as people label them",
    )  # fmt: skip


def _gates(one: Report) -> Sheet:
    rows: list[Cells] = []
    for line in one.gates:
        levers = ", ".join(f"{name} {n}" for name, n in list(line.levers.items())[:MOST_LEVERS])
        levers += ", …" if len(line.levers) > MOST_LEVERS else ""
        untold = sum(line.levers.values()) - line.for_good - line.later
        rows.append(
            (
                line.gate,
                str(line.incidents),
                str(line.for_good),
                str(line.later) if not untold else DASH,
                levers,
                line.example,
            )
        )
    note = "Later: refused at first, and allowed at a later look. One example of the reason each."
    columns = ("gate", "incidents>", "for good>", "later>", "levers", "for example")
    return Sheet("gates", "What was refused, by which gate", columns, rows, note, "nothing was refused")


def _effort(one: Report) -> Sheet:
    rows = [
        (e.name, str(e.incidents), minutes(e.seconds), str(e.unknown)) for e in one.effort if e.seconds or e.unknown
    ]
    note = (
        "By the clock: time in which only people could bring it on (deciding, holding the case, after they were told). "
        "Where an incident file says how long people worked, it is that."
    )
    return Sheet(
        "effort", "People's time by class", ("class", "incidents>", "minutes>", "not known>"), rows, note, "none"
    )


def _chances(found: Sequence[Chance]) -> Sheet:
    rows = [
        (
            f"{c.failure_class}\n{c.lever or DASH}",
            minutes(c.seconds, c.unknown),
            str(c.incidents),
            "\n".join(filter(None, (c.words, _answers(c), c.verdict))),
        )
        for c in found
    ]
    note = (
        "Ranked by people's minutes. Approved: done as it was proposed. What it would take is no advice: look at what was "
        "rejected and what did not help first."
    )
    columns = ("class, lever", "minutes>", "incidents>", "what it would take, and answers")
    return Sheet("chances", "Automation opportunities", columns, rows, note, "people spent no time that is on record")


def _answers(c: Chance) -> str:
    """What people said when they were asked; empty: they were not."""
    if not c.asked:
        return ""
    against = [f"{n} {what}" for n, what in ((c.rejected, "rejected"), (c.expired, "not answered in time")) if n]
    no_help = [f"{c.not_helped} did not help"] if c.not_helped else []
    return ", ".join([f"{c.approved} of {c.asked} approved", *no_help, *against])
