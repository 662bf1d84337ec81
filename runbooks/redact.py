"""Takes secrets out of a JSON value before it is kept: by the name it stands under, or by its own look. Twice is as once."""

from __future__ import annotations

import re
from typing import Any

from runbooks.secrets import names_a_secret

MARK = "[redacted]"
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*")
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.I)


def redacted(value: Any) -> Any:
    """The same JSON value without what looks like a secret."""
    match value:
        case dict():
            return {k: MARK if names_a_secret(k) and isinstance(v, str) else redacted(v) for k, v in value.items()}
        case list():
            return [redacted(item) for item in value]
        case str():
            return _BEARER.sub(MARK, _JWT.sub(MARK, value))
        case _:
            return value
