"""A journal that holds one named call of one case until it is told to go on: the moment between two steps of an act."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from activities.adapters.sql import SqlJournal
from activities.errors import Retryable
from runbooks.change import Change, Permit, Receipt


class HeldJournal(SqlJournal):
    """The shipped journal. `arm` says which call of which case waits next; without it nothing does.

    left: facts are read and judged, the Guard has not been asked. intend: the permit is there, nothing is written.
    receive: it is written, and nobody knows yet. close: its record is made, and not
    yet written. remembered: a Guard (by its domain) reads what it must not have forgotten.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._call = self._who = ""
        self._each = False
        self.away = 0
        """So often what a case left cannot be read."""
        self.blind = False
        """Whether what people ended by hand cannot be read."""
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    def arm(self, call: str, who: str, each: bool = False) -> None:
        """The next such call for this workflow id waits for `go`, or `each`."""
        self._call, self._who, self._each = call, who, each
        self.reached, self.go = asyncio.Event(), asyncio.Event()

    async def unsettled(self, workflow_id: str) -> list[Receipt]:
        """See Journal."""
        if self.away:
            self.away -= 1
            raise Retryable("the journal is away")
        found = await super().unsettled(workflow_id)
        await self._hold("left", workflow_id)
        return found

    async def ended_by_hand(self, workflow_id: str) -> list[str]:
        """See Journal."""
        if self.blind:
            raise Retryable("the journal is away")
        return await super().ended_by_hand(workflow_id)

    async def remembered(self, domain: str) -> tuple[int, str] | None:
        """See Journal."""
        await self._hold("remembered", domain)
        return await super().remembered(domain)

    async def intend(self, permit: Permit, change: Change, receipt: Receipt) -> bool:
        """See Journal."""
        first = await super().intend(permit, change, receipt)
        await self._hold("intend", receipt.case_workflow_id)
        return first

    async def receive(self, receipt: Receipt) -> None:
        """See Journal."""
        await self._hold("receive", receipt.case_workflow_id)
        await super().receive(receipt)

    async def close(self, case: str, workflow_id: str, record: str) -> None:
        """See Journal."""
        await self._hold("close", workflow_id)
        await super().close(case, workflow_id, record)

    async def _hold(self, call: str, who: str) -> None:
        if (call, who) != (self._call, self._who):
            return
        self._call = call if self._each else ""
        self.reached.set()
        await self.go.wait()


@contextmanager
def held_journal(url: str) -> Iterator[HeldJournal]:
    """One that is let go with the block."""
    journal = HeldJournal(url)
    try:
        yield journal
    finally:
        journal.dispose()
