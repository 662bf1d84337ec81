"""The one base model and the one digest that every other model uses."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A fraction of a whole, 0 to 1."""
Seconds = Annotated[float, Field(ge=0.0)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s/|`<>]+$")]
"""A label that ends up in a workflow id and on a page: no space, no slash, no Markdown or HTML."""
Time = AwareDatetime
"""A moment with a time zone; a naive one is refused, since skew between machines is a safety fact."""


class Model(BaseModel):
    """Frozen, closed, strict enough that a misspelt field is an error and not a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Heard(Model):
    """What a Guard and a case say to each other. They may be of two builds, and a word that one does not know must not cost
    it the rest: a release that cannot be read leaves its domain locked for ever."""

    model_config = ConfigDict(extra="ignore")


def digest(value: BaseModel | dict[str, Any]) -> str:
    """A short stable name (16 hex digits of SHA-256) for exactly this content."""
    data = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=_iso)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot digest a {type(value).__name__}")
