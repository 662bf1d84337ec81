"""The reference of docs/incident-files.md, made from the models: every field, what it holds, its default, what it means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbooks.incident_schema import Node, choices, fields, find, kinds, of
from runbooks.incident_time import span_text

PARTS = (
    ("The file", ()),
    ("`sources`", ("sources", 0)),
    ("`fleet`", ("fleet",)),
    ("`fleet.clusters`", ("fleet", "clusters", 0)),
    ("`fleet.clusters.api`", ("fleet", "clusters", 0, "api")),
    ("`fleet.pools`", ("fleet", "pools", 0)),
    ("`fleet.routes`", ("fleet", "routes", 0)),
    ("`fleet.dependencies`", ("fleet", "dependencies", 0)),
    ("`site`", ("site",)),
    ("`site.freezes`", ("site", "freezes", 0)),
    ("`timeline`", ("timeline",)),
    ("`timeline.alerts`", ("timeline", "alerts", 0)),
    ("`timeline.people`", ("timeline", "people", 0)),
    ("`timeline.answers`", ("timeline", "answers")),
    ("`truth`", ("truth",)),
    ("`expect`", ("expect",)),
    ("`expect.refused`", ("expect", "refused", 0)),
)
"""Headings, and where in the file each part is."""
FAULT = ("timeline", "faults", 0)
LEVERS = choices(find(("expect", "refused", 0, "lever")) or {})


def tables() -> str:
    """Markdown: one table per part of the file, and one for all faults."""
    return "\n\n".join([*(_part(title, loc) for title, loc in PARTS), _faults()])


def _part(title: str, loc: tuple[int | str, ...]) -> str:
    node = find(loc)
    assert node is not None, title
    rows = ["| field | holds | default | meaning |", "|---|---|---|---|"]
    for name, field in fields(node).items():
        default = _default(name, node, field)
        rows.append(f"| `{name}` | {_holds(field)} | {default} | {_meaning(field)} |")
    about = _meaning({"description": of(node).get("description", "").partition("\n\n`docs")[0]})
    return f"### {title}\n\n{about}\n\n" + "\n".join(rows)


def _faults() -> str:
    members = kinds(find(FAULT) or {})
    shared = set.intersection(*(set(fields(m)) for m in members.values()))
    rows = ["| fault | what it does | its fields |", "|---|---|---|"]
    for tag, member in members.items():
        own = "<br>".join(_short(n, member, f) for n, f in fields(member).items() if n not in shared)
        rows.append(f"| `{tag}` | {_meaning(member)} | {own} |")
    common = "\n".join(_short(n, next(iter(members.values())), f) for n, f in _common(members, shared))
    return (
        "### `timeline.faults`\n\nEach has `fault` (which one), and\n"
        + "\n".join(f"- {line}" for line in common.split("\n"))
        + "\n\n"
        + "\n".join(rows)
    )


def _common(members: dict[str, Node], shared: set[str]) -> Iterator[tuple[str, Node]]:
    first = next(iter(members.values()))
    yield from ((n, f) for n, f in fields(first).items() if n in shared and n != "fault")


def _short(name: str, model: Node, field: Node) -> str:
    default = _default(name, model, field)
    words = _meaning(field)
    return f"`{name}` ({_holds(field)}; {default})" + (f": {words}" if words else "")


def _default(name: str, model: Node, field: Node) -> str:
    if name in of(model).get("required", ()):
        return "**must be given**"
    value = field.get("default", "")
    if isinstance(value, int | float) and _holds(field) == "a duration":
        value = span_text(value)
    return f"`{_written(value)}`" if value not in ("", None, [], {}) or value is False else "none"


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _holds(field: Node) -> str:
    """What it holds, in a few words."""
    here = of(field)
    if choices(here) == LEVERS:
        return "a lever"
    if (words := choices(here)) and "pattern" not in here:
        also = any(o.get("format") == "moment" for o in here.get("anyOf", []))
        return " or ".join(filter(None, [", ".join(f"`{w}`" for w in words), "a time" * also]))
    for other in here.get("anyOf", []):
        if other.get("type") != "null" and len(here["anyOf"]) == 2:
            return _holds(other)
    if "anyOf" in here:
        return ", ".join(dict.fromkeys(_holds(o) for o in here["anyOf"]))
    match here.get("type"):
        case "array":
            return (
                "a list"
                if "$ref" in here.get("items", {}) or kinds(here.get("items", {}))
                else f"a list of {_many(here)}"
            )
        case "object":
            more = here.get("additionalProperties")
            return f"name: {_holds(more)}" if isinstance(more, dict) and more else "a mapping"
        case "string" if here.get("format") == "moment":
            return "a time"
        case "string" if here.get("format") == "date-time":
            return "a full time"
        case "string" if "(d+d)" in here.get("pattern", "").replace("\\", ""):
            return "a duration"
        case "number" if here.get("maximum") == 1:
            return "a share"
        case "string":
            return "a name" if "pattern" in here else "text"
        case kind:
            return {"integer": "a whole number", "number": "a number", "boolean": "true or false"}.get(
                str(kind), "anything"
            )


def _many(here: Node) -> str:
    return {"a name": "names", "text": "texts", "a lever": "levers"}.get(one := _holds(here.get("items", {})), one)


def _meaning(node: Node) -> str:
    return " ".join(str(node.get("description", "")).split()).replace("|", "\\|")
