"""A case's outside: a workflow that holds an id, takes the Guard's news, and ends when it is told to."""

from __future__ import annotations

from typing import Any

from temporalio import workflow


@workflow.defn(name="Actor", sandboxed=False)
class Actor:
    """Asks nothing by itself: the test asks the Guard in its name."""

    def __init__(self) -> None:
        self._news: list[str] = []
        self._over = self._rests = False

    @workflow.run
    async def run(self) -> None:
        """Until it is told to end."""
        await workflow.wait_condition(lambda: self._over)

    @workflow.signal
    def guard_news(self, news: dict[str, Any]) -> None:
        """What the Guard tells a case."""
        self._news.append(str(news["kind"]))

    @workflow.signal
    def rests(self, rests: bool) -> None:
        """Whether it has nothing under way."""
        self._rests = rests

    @workflow.query
    def status(self) -> dict[str, Any]:
        """As a case tells it to a Guard that doubts whether its lock is still in use."""
        return {"state": "mitigated" if self._rests else "acting", "at_work": False}

    @workflow.signal
    def end(self) -> None:
        """Closes without a word to the Guard."""
        self._over = True

    @workflow.query
    def news(self) -> list[str]:
        """All of it, in order."""
        return self._news
