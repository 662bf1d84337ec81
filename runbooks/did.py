"""What people really did in a case, by their own word: beside it stands what Interlock would have done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from runbooks.base import Model, Time
from runbooks.detection import Target
from runbooks.levers import LEVERS
from runbooks.planning import near

WORDS = (*(lever for lever in LEVERS if lever != "page"), "none", "other")
"""What people may have done: a lever's name, nothing, or something that is no lever of Interlock."""


class Did(Model):
    """One person's word. Nobody checks who says it: it grants nothing, and only the score reads it."""

    case: str = Field(min_length=1)
    lever: str = Field(description="A lever, `none` (people did nothing), or `other` (what is no lever of Interlock).")
    target: str = Field(default="", description="Id of what they did it to. Empty: what the case is about.")
    at: Time | None = Field(default=None, description="When they did it. Empty: they do not know any more.")
    helped: Literal["yes", "no"] | None = None
    who: str = Field(min_length=1, max_length=200, description="Who says so.")
    note: str = Field(default="", max_length=500)

    @field_validator("lever")
    @classmethod
    def _lever(cls, value: str) -> str:
        if value not in WORDS:
            raise ValueError(f"there is no lever {value!r}{near(value, WORDS)}")
        return value

    @field_validator("target")
    @classmethod
    def _target(cls, value: str) -> str:
        if not value:
            return value
        try:
            Target.of(value)
        except ValueError:
            raise ValueError(
                f"{value!r} is no target id; write it as the case does, e.g. CLUSTER/service/POOL/endpoint/ADDRESS"
            ) from None
        return value


def in_force(words: Sequence[Did]) -> list[Did]:
    """What counts of all words on one case, first said first: a later `none` takes back what was said before it, and a
    later lever takes back a `none`. Empty: nobody has said anything."""
    after = next((n for n in range(len(words) - 1, -1, -1) if words[n].lever == "none"), None)
    if after is None:
        return list(words)
    return list(words[after + 1 :]) or [words[after]]
