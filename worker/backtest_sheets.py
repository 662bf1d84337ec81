"""A backtest as sheets of text: what differs in the policies, in the decisions, and in what they would have cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runbooks.report_count import grouped, known_sum
from worker.backtest_models import Differs, OfFiles, OfJournal, PlayedDiffers
from worker.backtest_settings import Setting
from worker.report_sheets import Cells, Sheet
from worker.report_words import DASH, minutes


def of_journal(found: OfJournal) -> Iterator[Sheet]:
    """Settings, decisions by class, the cases, and what nobody can tell."""
    yield _settings(found.settings)
    yield _kinds(found.differ)
    if found.differ:
        yield _cases(found.differ)
    if found.cannot_tell:
        yield _untold(found.cannot_tell)


def of_files(found: OfFiles) -> Iterator[Sheet]:
    """Settings, and each incident that is played otherwise."""
    yield _settings(found.settings)
    yield _incidents(found)
    if found.lost:
        yield Sheet("lost", "Could not be played", ("incident, and why",), [(line,) for line in found.lost])


def _settings(settings: Sequence[Setting]) -> Sheet:
    rows = [(s.field, s.a, s.b) for s in settings]
    note = "By what counts in the end: a class or lever that one policy does not name has the defaults there."
    return Sheet(
        "settings", "Where the policies differ", ("field", "A", "B"), rows, note, "they decide alike in everything"
    )


def _kinds(differ: Sequence[Differs]) -> Sheet:
    rows: list[Cells] = []
    for _, mine in grouped(differ, lambda d: f"{d.failure_class} {d.a.words()} {d.b.words()}").items():
        first = mine[0]
        seconds, unknown = known_sum([d.saves_s for d in mine])
        risks = [
            f"{sum(risk in d.risks for d in mine)}: {risk}" for risk in dict.fromkeys(r for d in mine for r in d.risks)
        ]
        about = "about " if seconds is not None and any(d.estimated for d in mine) else ""
        rows.append(
            (
                first.failure_class,
                str(len(mine)),
                about + minutes(seconds, unknown),
                f"{sum(d.approvals for d in mine):+d}",
                "\n".join([f"A {first.a.words()}", f"B {first.b.words()}", *risks]),
            )
        )
    note = (
        "Saved: minutes that people would not have been waited for, B against A; negative: more. About: where a case did not ask, "
        "the median wait of its class. (+n ?): cases of which the record does not tell."
    )
    columns = ("class", "cases>", "saved>", "approvals>", "decisions, and what B risks")
    return Sheet("kinds", "Decisions that differ", columns, rows, note, "none")


def _cases(differ: Sequence[Differs]) -> Sheet:
    rows = [
        (
            f"{d.at:%m-%d %H:%M}",
            f"{d.case}\n{d.failure_class}: A {d.a.words()}, B {d.b.words()}"
            + "".join(f"\n{name}: {x.why}" for name, x in (("A", d.a), ("B", d.b)) if x.why),
            ("~" if d.estimated else "") + minutes(d.saves_s),
        )
        for d in differ
    ]
    return Sheet("cases", "Case by case", ("opened", "case, decisions and why", "saved>"), rows, "Saved: minutes.")


def _untold(found: Sequence[Differs]) -> Sheet:
    rows: list[Cells] = []
    for _, mine in grouped(found, lambda d: f"{d.failure_class} {_lost(d)}").items():
        rows.append((mine[0].failure_class, str(len(mine)), _lost(mine[0])))
    note = "Records keep verdicts, not the facts behind them. Incident files keep them: `interlock cases export`, then backtest those."
    return Sheet("untold", "Cannot be told from the records", ("class", "cases>", "why"), rows, note)


def _lost(d: Differs) -> str:
    return next(x.why for x in (d.a, d.b) if x.does == "cannot_tell")


def _incidents(found: OfFiles) -> Sheet:
    rows = [
        (
            one.incident,
            _minutes(one.ttm_saved_s),
            DASH if one.requests_saved is None else f"{one.requests_saved:+,.0f}",
            DASH if one.approvals is None else f"{one.approvals:+d}",
            "\n".join(one.what),
        )
        for one in found.differ
    ]
    note = (
        "Sooner: minutes by which B mitigates sooner than A; spared: failed requests fewer under B; approvals: asked more under B. "
        f"{_total(found.differ)}"
    )
    columns = ("incident", "sooner>", "spared>", "approvals>", "what differs")
    return Sheet("incidents", "Incidents that are played otherwise", columns, rows, note, "none")


def _minutes(seconds: float | None) -> str:
    return DASH if seconds is None else f"{seconds / 60:+.1f}"


def _total(differ: Sequence[PlayedDiffers]) -> str:
    sooner, not_told = known_sum([d.ttm_saved_s for d in differ])
    spared, _ = known_sum([d.requests_saved for d in differ])
    asked, _ = known_sum([None if d.approvals is None else float(d.approvals) for d in differ])
    each = (
        f"{_minutes(sooner)} min sooner"
        + (f" ({not_told} mitigated under one of them only, or under none)" if not_told else ""),
        f"{'–' if spared is None else f'{spared:+,.0f}'} requests spared",
        f"{'–' if asked is None else f'{asked:+.0f}'} approvals",
    )
    return f"In all: {', '.join(each)}."
