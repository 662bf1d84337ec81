"""Where two policies differ, by what counts in the end: a class or lever that one of them does not name has the defaults there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from runbooks.base import Model
from runbooks.policy import Policy

NAMES = ("name", "version")
"""Fields that decide nothing."""


class Setting(Model):
    """One field that differs, both values as text."""

    field: str
    a: str
    b: str


def differing(a: Policy, b: Policy) -> tuple[Setting, ...]:
    """Every field that differs, in the order of the model."""
    mine, theirs = dict(_flat("", _whole(a, b))), dict(_flat("", _whole(b, a)))
    fields = dict.fromkeys([*mine, *theirs])
    return tuple(
        Setting(field=f, a=mine.get(f, "–"), b=theirs.get(f, "–")) for f in fields if mine.get(f) != theirs.get(f)
    )


def _whole(policy: Policy, other: Policy) -> dict[str, Any]:
    """The policy with every class and lever that either of the two names."""
    data = policy.model_dump(mode="json")
    for name in NAMES:
        del data[name]
    data["classes"] = {n: policy.for_class(n).model_dump(mode="json") for n in _both(policy.classes, other.classes)}
    data["levers"] = {n: policy.for_lever(n).model_dump(mode="json") for n in _both(policy.levers, other.levers)}
    return data


def _both(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    return sorted({*mine, *theirs})


def _flat(at: str, value: Any) -> Iterator[tuple[str, str]]:
    """`classes.engine.hang.mode` → `auto`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{at}.{key}" if at else key, inner)
    elif isinstance(value, list):
        yield at, ", ".join(map(str, value)) or "none"
    else:
        yield at, str(value)
