"""Where what is asked now differs from what was asked then, as paths into it. One path, one line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

ABSENT = "(nothing)"
FOLLOW = "hashes, which follow"
"""Ends the line that counts the hashes of what has changed beside them."""
CLOCK = timedelta(seconds=60)
SHOWN = 90
"""Characters of a value in a line for people; `--json` has all of it."""


class Difference(NamedTuple):
    """`event` is the number in the history. `then` and `now` are JSON values, or ABSENT."""

    history: str
    event: int
    what: str
    path: str
    then: Any
    now: Any

    @property
    def of_clock(self) -> bool:
        """Two times that are close, or hashes of them: workflow.now() after a local activity may be another on replay."""
        if is_hash(self.then) and is_hash(self.now):
            return True
        then, now = _time(self.then), _time(self.now)
        near = then is not None and now is not None and abs(then - now) < CLOCK
        return near or self.what.endswith(FOLLOW)

    def line(self) -> str:
        """For people, and for a log of CI."""
        where = f" {self.path}" if self.path else ""
        sides = f": {_short(self.then)} → {_short(self.now)}" if self.then != ABSENT or self.now != ABSENT else ""
        return f"{self.history}: event {self.event}: {self.what}{where}{sides}"


def paths(then: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each place where two JSON values differ. JSON inside of a string is looked into.

    A field that only one of them has, and that is empty there, says nothing: a model that has got a new field with an
    empty default asks for the same.
    """
    opened = _opened(then), _opened(now)
    if opened[0] is not None and opened[1] is not None:
        then, now = opened
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            yield from _member(then.get(key, ABSENT), now.get(key, ABSENT), _inside(path, key))
        return
    if isinstance(then, list) and isinstance(now, list):
        for n in range(max(len(then), len(now))):
            one, other = (side[n] if n < len(side) else ABSENT for side in (then, now))
            yield from paths(one, other, f"{path}[{n}]")
        return
    if then != now or (type(then) is not type(now) and not _numbers(then, now)):
        yield path, then, now


def is_hash(value: Any) -> bool:
    """SHA-256 in hex, of which a record's chain is made."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _member(then: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    alone = now if then is ABSENT else then if now is ABSENT else None
    if (then is ABSENT or now is ABSENT) and not alone:
        return
    yield from paths(then, now, path)


def _numbers(then: Any, now: Any) -> bool:
    """5 and 5.0 are the same; true and 1 are not."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in (then, now))


def _opened(value: Any) -> Any:
    """A record travels as a text, whose hash is in it: the document inside, or None when it is no JSON object."""
    if not isinstance(value, str) or not value.startswith("{"):
        return None
    try:
        return json.loads(value)
    except ValueError:
        return None


def _inside(path: str, key: str) -> str:
    plain = key.isidentifier()
    return (f"{path}.{key}" if path else key) if plain else f"{path}[{json.dumps(key, ensure_ascii=False)}]"


def _short(value: Any) -> str:
    text = value if value is ABSENT else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
