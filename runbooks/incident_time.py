"""Times in an incident file: how long (`12m`, `2h43m`, `90s`) and when (after the start, on the clock, or an ISO time).

A bare number is refused on purpose: nobody can tell whether `90` meant seconds or minutes.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SPAN = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_CLOCK = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")
SPAN_PATTERN = r"^(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+(\.\d+)?s)?$"


def seconds_of(text: Any) -> Any:
    """`2h43m` → 9780.0. ValueError: it is no duration."""
    if isinstance(text, float):
        return text  # a model that is built in code
    found = _SPAN.fullmatch(text) if isinstance(text, str) and text else None
    if found is None:
        raise ValueError(f"write a duration such as 90s, 12m, 2h43m or 1d2h, not {text!r}")
    days, hours, minutes, seconds = (float(g or 0) for g in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def span_text(seconds: float) -> str:
    """The shortest way to write it: 9780.0 → `2h43m`."""
    whole, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(whole), 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{rest:g}s" if rest else ""]
    return "".join(parts) or "0s"


Span = Annotated[
    float,
    BeforeValidator(seconds_of),
    PlainSerializer(span_text, return_type=str),
    WithJsonSchema({"type": "string", "pattern": SPAN_PATTERN, "examples": ["90s", "12m", "2h43m"]}),
]
"""How long; seconds once it is read."""


def _written(text: Any) -> Any:
    if isinstance(text, str) and text and (_CLOCK.fullmatch(text) or _SPAN.fullmatch(text)):
        return text
    try:
        if isinstance(text, str) and datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    raise ValueError(
        f"write when as 25m (after `starts`), as 18:25 or 18:25:30 (the same clock as `starts`, the next time it shows "
        f"that), or as 2024-04-10T18:25:00Z, not {text!r}"
    )


At = Annotated[
    str,
    BeforeValidator(_written),
    WithJsonSchema({"type": "string", "format": "moment", "examples": ["25m", "18:25", "2024-04-10T18:25:00Z"]}),
]
"""When, as written; `offset` makes seconds after the start of it."""


def offset(at: str, starts: datetime) -> float:
    """Seconds after `starts`. A clock time is the next moment, at `starts` or later, at which that clock shows it."""
    if clock := _CLOCK.fullmatch(at):
        hour, minute, second = (int(g or 0) for g in clock.groups())
        moment = starts.replace(hour=hour, minute=minute, second=second, microsecond=0)
        return ((moment if moment >= starts else moment + timedelta(days=1)) - starts).total_seconds()
    if _SPAN.fullmatch(at):
        return float(seconds_of(at))
    return (datetime.fromisoformat(at) - starts).total_seconds()
