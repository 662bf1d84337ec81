"""Takes secrets out of a JSON value before it is kept: by the name it stands under, or by its own look."""

from __future__ import annotations

import re
from typing import Any

MARK = "[redacted]"
# Whole names only: `tokens_per_second` is a measurement.
_NAMES = re.compile(
    r"(.*[_-])?(token|jwt|password|passwd|secret|authorization|api[_-]?key|private[_-]?key|signature|cookie)", re.I
)
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*")
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.I)


def redacted(value: Any) -> Any:
    """The same JSON value without what looks like a secret."""
    match value:
        case dict():
            return {k: MARK if _NAMES.fullmatch(k) and isinstance(v, str) else redacted(v) for k, v in value.items()}
        case list():
            return [redacted(item) for item in value]
        case str():
            return _BEARER.sub(MARK, _JWT.sub(MARK, value))
        case _:
            return value
