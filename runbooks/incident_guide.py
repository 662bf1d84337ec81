"""The parts of docs/incident-files.md that are made from code and catalogue, so that the guide cannot go stale."""

from __future__ import annotations

from collections.abc import Callable

from runbooks.incident_fields import LEVERS, tables
from runbooks.library import Library
from runbooks.taxonomy import Rule

MADE = "made by `python -m tests.write_incident_files`"


def with_parts(text: str, library: Library) -> str:
    """The guide, each of its made parts replaced. ValueError: it has no place for one."""
    for name, part in PARTS.items():
        begin, end = f"<!-- {name}: {MADE} -->", f"<!-- {name}: end -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the text has no lines {begin} and {end}")
        text = f"{head}{begin}\n\n{part(library)}\n\n{end}{tail}"
    return text


def _alerts(library: Library) -> str:
    rows = ["| failure class | alerts that say so | what they must have measured |", "|---|---|---|"]
    named = [rule for rule in library.taxonomy.rules if rule.alerts]  # docs/classification.md has those for any name
    for rule in sorted(named, key=lambda r: _order(library, r)):
        names = ", ".join(f"`{a}`" for a in rule.alerts)
        rows.append(f"| `{rule.failure_class}` | {names} | {_wants(rule)} |")
    return "\n".join(rows)


def _order(library: Library, rule: Rule) -> int:
    return [c.id for c in library.taxonomy.classes].index(rule.failure_class)


def _wants(rule: Rule) -> str:
    wants = [f"label `{k}: {v}`" for k, v in rule.labels.items()]
    wants += [_short(str(b)) for b in rule.evidence] + [f"not {b}" for b in rule.unless]
    return ", ".join(wants) or "nothing"


def _short(words: str) -> str:
    """A bound that lists many numbers would be a page of its own."""
    return words if len(words) <= 60 else words[:50].rsplit(",", 1)[0] + ", …"


def _levers(library: Library) -> str:
    rows = ["| failure class | about a | asks for, in this order |", "|---|---|---|"]
    for cls in library.taxonomy.classes:
        for book in library.runbooks.values():
            steps = [s.lever for s in book.steps if s.lever in LEVERS]
            if book.failure_class == cls.id and steps:
                rows.append(f"| `{cls.id}` | {', '.join(book.applies_to)} | {', '.join(steps)} |")
    only = sorted({c.id for c in library.taxonomy.classes} - {r.split("`")[1] for r in rows[2:]})
    return (
        "\n".join(rows)
        + f"\n\nEvery other class and target only pages people: {', '.join(f'`{c}`' for c in only)}, and all that is not in the table."
    )


def _fields(library: Library) -> str:
    del library
    return tables()


PARTS: dict[str, Callable[[Library], str]] = {"alerts": _alerts, "levers": _levers, "fields": _fields}
