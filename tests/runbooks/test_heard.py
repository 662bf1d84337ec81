"""A Guard moves to a new build while cases end on the one before (docs/adr/0019): what one says the other must be able to read."""

from __future__ import annotations

from typing import Any

import pytest

from runbooks.base import Heard
from runbooks.guard import Announce, Answer, GuardState, News, Release
from runbooks.guard_words import AcquireRequest
from tests.runbooks.guard_lab import NOW, ask, back, later, limits, stands


def said() -> list[Heard]:
    """One of each, with something of everything in it."""
    guard = GuardState(domain="lab")
    answer = guard.acquire(ask("w1"), NOW)
    release = back("w1", applied=True, at=later(1), stands=stands("w1"))
    guard.release(release)
    about = ask("w1")
    announce = Announce(
        domain="lab", workflow_id="w1", case="w1#1", target=about.target, failure_class="x", limits=limits()
    )
    return [about, answer, announce, release, News(kind="granted", domain="lab"), guard.view(later(2))]


def more(value: Any) -> Any:
    """The same with a field of a later build in every part that the two kinds of workflow say to each other."""
    if isinstance(value, Heard):
        return {name: more(getattr(value, name)) for name in type(value).model_fields} | {"of_a_later_build": 1}
    if isinstance(value, tuple):
        return [more(v) for v in value]
    return value.model_dump() if hasattr(value, "model_dump") else value


@pytest.mark.parametrize("word", said(), ids=lambda w: type(w).__name__)
def test_a_word_of_a_later_build_is_read_without_what_is_new_in_it(word: Heard) -> None:
    """A release that was dropped left its domain locked for ever; a view that was refused kept a case from its undo."""
    assert type(word).model_validate(more(word)) == word


def test_every_word_between_the_two_is_of_this_kind() -> None:
    """One that is forgotten would be found by the next upgrade."""
    assert {type(w) for w in said()} >= {AcquireRequest, Answer, Announce, Release, News}
    answer, release = said()[1], said()[3]
    assert isinstance(answer, Answer)
    assert isinstance(answer.permit, Heard)
    assert isinstance(release, Release)
    assert isinstance(release.stands, Heard)
