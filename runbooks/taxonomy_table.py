"""The tables of docs/classification.md, made from the catalogue, so that the page cannot go stale."""

from __future__ import annotations

from runbooks.taxonomy_rules import Taxonomy

MADE = "made by `python -m tests.write_classification`"


def with_tables(text: str, taxonomy: Taxonomy) -> str:
    """The page, its tables replaced. ValueError: it has no place for one."""
    for name, table in (("evidence", _evidence(taxonomy)), ("symptoms", _symptoms(taxonomy))):
        begin, end = f"<!-- {name}: {MADE} -->", f"<!-- {name}: end -->"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the text has no lines {begin} and {end}")
        text = f"{head}{begin}\n\n{table}\n\n{end}{tail}"
    return text


def _evidence(taxonomy: Taxonomy) -> str:
    readers: dict[str, dict[str, None]] = {}
    for rule in taxonomy.rules:
        for bound in rule.evidence:
            readers.setdefault(bound.name, {})[rule.failure_class] = None
    rows = ["| name | unit | what it measures | also known as | speaks for |", "|---|---|---|---|---|"]
    for one in taxonomy.evidence:
        classes = ", ".join(f"`{c}`" for c in readers.get(one.name, {})) or "—"
        aliases = ", ".join(f"`{a}`" for a in one.aliases)
        rows.append(f"| `{one.name}` | {one.unit} | {one.says} | {aliases} | {classes} |")
    return "\n".join(rows)


def _symptoms(taxonomy: Taxonomy) -> str:
    rows = ["| label `symptom` | speaks for |", "|---|---|"]
    rows += [
        f"| {rule.labels['symptom']} | `{rule.failure_class}` |" for rule in taxonomy.rules if "symptom" in rule.labels
    ]
    return "\n".join(rows)
