"""What is told to a Guard is taken in turn, and a replay takes it in the same one.

Signals and updates that a Reset applies again reach one activation: for the first time in the order of their events, but
whenever that history is replayed signals first and updates after them (temporalio 1.35, server 1.32: measured). The lock
would go to another case with each restart of a worker, or every replay would fail. So the first order is written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.turns import Came, TurnActivities
from runbooks.base import Model, digest
from runbooks.guard import AcquireRequest, Announce, Answer, Release
from workflows.retries import KEEP


class Settled(Model):
    """A receipt stands no more, by a person's hand."""

    receipt_id: str


Question = AcquireRequest | Announce
Word = Question | Release | Settled


@dataclass
class Told:
    """One word to the Guard, and what became of it."""

    word: Word
    taken: bool = False
    answer: Answer | None = None

    @property
    def asks(self) -> bool:
        """It came as an update; everything else is a signal."""
        return isinstance(self.word, Question)

    @property
    def mark(self) -> str:
        """The same words have the same mark: one may stand for another."""
        return f"{type(self.word).__name__} {digest(self.word.model_dump(mode='json'))}"


class Turns:
    """`ready`: whether words may be taken yet. `take`: takes one, at once."""

    def __init__(self, ready: Callable[[], bool], take: Callable[[Word], Answer | None]) -> None:
        self._ready = ready
        self._take = take
        self._told: list[Told] = []
        self._failed: Exception | None = None
        self.written: bool | None = None
        """Whether the order is written down: not in a run that began before there was this. Set as the run begins."""

    async def tell(self, word: Word) -> Answer | None:
        """The answer, when its turn has come."""
        if self.written is False and self._ready():
            return self._take(word)
        told = Told(word)
        self._told.append(told)
        await workflow.wait_condition(lambda: told.taken or self._failed is not None)
        if self._failed is not None:
            raise self._failed
        return told.answer

    def begin(self) -> None:
        """Called once, as soon as they may be taken."""
        if not self.written:
            told, self._told = self._told, []
            self._take_these(told)

    async def run(self) -> None:
        """For ever, beside the Guard. Not in the handlers: the one that came first would be another one in a replay."""
        while self.written:
            # Looked at when every handler of this activation has begun: what came together is all here by then.
            await workflow.wait_condition(lambda: bool(self._told) and self._ready())
            told, self._told = self._told, []
            if len({t.asks for t in told}) > 1:
                told = await _as_at_first(told)
            try:
                self._take_these(told)
            except Exception as error:
                # Whoever waits fails with it, and so does the workflow task: nothing of it is kept, and it is tried again.
                self._failed = error
                raise

    def _take_these(self, told: Sequence[Told]) -> None:
        for one in told:
            one.answer = self._take(one.word)
            one.taken = True


async def _as_at_first(told: Sequence[Told]) -> list[Told]:
    """Not by a local activity: where a worker is slow, its answer may come in another task of the workflow than in a replay."""
    marks = tuple(t.mark for t in told)
    try:
        first = await workflow.execute_activity_method(
            TurnActivities.in_order, Came(marks=marks), **KEEP, summary="In which order did they come?"
        )
    except ActivityError as error:
        workflow.logger.error("the order of what came could not be written down: %s", error.cause or error)
        return sorted(told, key=lambda t: t.asks)  # as every replay brings them
    left = {mark: [t for t in told if t.mark == mark] for mark in marks}
    return [left[mark].pop(0) for mark in first.marks]
