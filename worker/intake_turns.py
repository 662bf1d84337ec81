"""Whose delivery is next, when more targets wait than calls to Temporal may be under way.

The gravest first; among equally grave ones each tenant in turn, so that two thousand targets of one do not stand before
the only one of another. Every fourth turn goes to whoever has waited longest: nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

OLDEST_EVERY = 4


@dataclass(eq=False)
class Ticket:
    """One target that waits. `rank` as Severity's: 2 is critical."""

    tenant: str
    rank: int
    number: int
    called: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    held: bool = False


class Turns:
    """At most `at_once` turns at a time. Of one event loop; nothing here is kept when it ends."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._numbers = itertools.count()
        self._given = 0
        # By age, oldest first; and by tenant, the one served longest ago first.
        self._waiting: OrderedDict[int, Ticket] = OrderedDict()
        self._tenants: OrderedDict[str, list[OrderedDict[int, Ticket]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def ticket(self, tenant: str, rank: int) -> Ticket:
        """A place in the queue. It must be taken by `turn`."""
        one = Ticket(tenant, rank, next(self._numbers))
        self._waiting[one.number] = one
        self._file(one)
        self._call()
        return one

    def graver(self, ticket: Ticket, rank: int) -> None:
        """Something graver has come for a target that waits already."""
        if ticket.number in self._waiting and rank > ticket.rank:
            self._unfile(ticket)
            ticket.rank = rank
            self._file(ticket)

    @asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncIterator[None]:
        """Waits for the ticket's turn and holds it. Given back, or given up, whatever happens."""
        try:
            await ticket.called
            yield
        finally:
            if ticket.held:
                self._free += 1
            elif ticket.number in self._waiting:  # cancelled while it waited
                self._forget(ticket)
            self._call()

    def _call(self) -> None:
        while self._free and self._waiting:
            ticket = self._next()
            self._forget(ticket)
            if ticket.called.cancelled():
                continue
            ticket.held = True
            self._free -= 1
            self._given += 1
            ticket.called.set_result(None)

    def _next(self) -> Ticket:
        if self._given % OLDEST_EVERY == OLDEST_EVERY - 1:
            return next(iter(self._waiting.values()))
        top = max(rank for ranks in self._tenants.values() for rank, queue in enumerate(ranks) if queue)
        tenant = next(name for name, ranks in self._tenants.items() if ranks[top])
        self._tenants.move_to_end(tenant)
        return next(iter(self._tenants[tenant][top].values()))

    def _file(self, ticket: Ticket) -> None:
        ranks = self._tenants.setdefault(ticket.tenant, [OrderedDict() for _ in range(3)])
        ranks[ticket.rank][ticket.number] = ticket

    def _unfile(self, ticket: Ticket) -> None:
        del self._tenants[ticket.tenant][ticket.rank][ticket.number]

    def _forget(self, ticket: Ticket) -> None:
        del self._waiting[ticket.number]
        self._unfile(ticket)
        if not any(self._tenants[ticket.tenant]):
            # Its place in the order goes with it: whoever comes back later stands at the end, and has just been served.
            del self._tenants[ticket.tenant]
