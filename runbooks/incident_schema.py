"""The JSON Schema of an incident file, and what it says about one field: for editors, the guide's table, and better errors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from runbooks.incident import Incident

Node = dict[str, Any]
ID = "https://json-schema.org/draft/2020-12/schema"


@cache
def schema() -> Node:
    """All of it. Shared: do not change it."""
    return {"$schema": ID, **Incident.model_json_schema()}


def as_text() -> str:
    """As it is written: sorted, so that a change of a model is a small change of the file."""
    return json.dumps(schema(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def of(node: Node) -> Node:
    """A node itself, where it only points to another. What stands beside the pointer stays."""
    if "$ref" not in node:
        return node
    rest = {k: v for k, v in node.items() if k != "$ref"}
    return {**schema()["$defs"][node["$ref"].rpartition("/")[2]], **rest}


def kinds(node: Node) -> dict[str, Node]:
    """The members of a union that a field tells apart, by the word in that field. Empty: it is none."""
    mapping = of(node).get("discriminator", {}).get("mapping", {})
    return {tag: of({"$ref": ref}) for tag, ref in mapping.items()}


def fields(node: Node) -> dict[str, Node]:
    """The fields that a mapping may have, by name."""
    return dict(of(node).get("properties", {}))


def choices(node: Node) -> list[str]:
    """The words that a field may hold, where they are counted."""
    here = of(node)
    found = here.get("enum", [here["const"]] if "const" in here else [])
    for other in here.get("anyOf", []):
        found = [*found, *choices(other)]
    return [str(one) for one in found]


def find(loc: Sequence[int | str]) -> Node | None:
    """What the schema says of a field; pydantic's names of union members are understood. None: there is no such field."""
    here: Node | None = schema()
    for part in loc:
        here = _step(of(here), part) if here is not None else None
    return here


def _step(here: Node, part: int | str) -> Node | None:
    if isinstance(part, int):
        inner = here.get("items")
        return dict(inner) if inner else next((n for o in here.get("anyOf", []) if (n := _step(of(o), part))), None)
    if (member := kinds(here).get(part)) is not None:
        return member
    if part in (named := fields(here)):
        return of(named[part])
    more = here.get("additionalProperties")
    return dict(more) if isinstance(more, dict) else None
