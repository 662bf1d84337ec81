"""Implements Journal with SQLAlchemy on SQLite (a file) or PostgreSQL. Every method may be repeated.

What returned is on disk: SQLite runs in WAL mode with synchronous=FULL, and a PostgreSQL server without fsync is refused
(sql_engine.py). No token and no secret is kept: in a case's
record the values under secret-looking names, bearer tokens and JWTs are replaced before they are written.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Insert, Select, Update, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from activities.adapters import sql_schema
from activities.adapters.sql_engine import engine_of, is_sqlite, parsed
from activities.adapters.sql_tables import cases, guards, receipts, told
from activities.errors import Permanent, Retryable
from runbooks.change import Change, Permit, Receipt
from runbooks.redact import redacted

T = TypeVar("T")
PAGE = 50
"""Records read at once: one may be a megabyte."""
INTENDED, STANDING, NOT_STANDING, ADOPTED = "intended", "standing", "not_standing", "adopted"
UNDONE, SETTLED = "undone", "settled"
BY_HAND = "interlock undo"
"""Who took a receipt back when no case did."""


class ClosedRow(NamedTuple):
    """A row of the table of closed cases. `record` is its text, whatever somebody has made of it."""

    case: str
    workflow_id: str
    record: str


class SqlJournal:
    """`url` as SQLAlchemy has it: `sqlite:////var/lib/interlock/journal.db`, `postgresql://…` (psycopg).

    A SQLite file is made and upgraded. Raises Permanent for a URL that cannot serve, and for a PostgreSQL database whose
    schema is not this code's: `interlock journal upgrade` brings it there. Retryable when the database is not there yet.
    """

    def __init__(self, url: str) -> None:
        where = parsed(url)
        self._engine = engine_of(where)
        try:
            if is_sqlite(where):
                called(lambda: sql_schema.open_sqlite(self._engine))
            elif wrong := self._in_transaction(sql_schema.check):
                raise Permanent(wrong)
        except BaseException:
            self._engine.dispose()
            raise

    async def intend(self, permit: Permit, change: Change, receipt: Receipt) -> bool:
        """Before the act: writes it down. False, and nothing written, when the permit is known."""
        if permit.id != receipt.permit_id:
            raise Permanent(f"receipt {receipt.id} is of permit {receipt.permit_id}, not of {permit.id}")
        row = _row(receipt, INTENDED) | {"permit": permit.model_dump_json(), "change": change.model_dump_json()}
        return await self._add(row)

    async def receive(self, receipt: Receipt) -> None:
        """At the act: the intent becomes standing. A receipt that is written already stays as it is."""
        row = _row(receipt, STANDING)
        intent = (receipts.c.permit_id == receipt.permit_id) & receipts.c.state.in_((INTENDED, NOT_STANDING))
        if not await self._update(update(receipts).where(intent).values(row)):
            await self._add(row)

    async def _add(self, row: dict[str, Any]) -> bool:
        """False when the permit is known. One INSERT decides, so of two writers exactly one gets True."""
        if await self._insert(insert(receipts).values(row)):
            return True
        known = select(receipts.c.permit_id).where(receipts.c.permit_id == row["permit_id"])
        if not await self._texts(known):
            raise Permanent(f"receipt id {row['receipt_id']} is in the journal already, under another permit")
        return False

    async def receipt(self, permit_id: str) -> Receipt | None:
        """The receipt of a permit that acted; None for an intent, too, and for one that was refused.

        A worker that dies between writing down a refusal and saying it must not be told next time that it had acted.
        """
        acted = (receipts.c.permit_id == permit_id) & receipts.c.state.not_in((INTENDED, NOT_STANDING))
        return await self._run(lambda connection: _find(connection, acted))

    async def receipt_by_id(self, receipt_id: str) -> Receipt | None:
        """The receipt by its own id, intents included: `interlock undo RECEIPT` reads the world before it acts."""
        return await self._run(lambda connection: _find(connection, receipts.c.receipt_id == receipt_id))

    async def state(self, receipt_id: str) -> str | None:
        """`intended`, `standing`, or what it was settled to; None when there is no such receipt."""
        query = select(receipts.c.state).where(receipts.c.receipt_id == receipt_id)
        return await self._run(lambda connection: connection.execute(query).scalar_one_or_none())

    async def settle(self, receipt_id: str, state: str, by: str) -> None:
        """Ends a receipt or an intent. Permanent: there is none, or the state is not an end."""
        if state in (INTENDED, STANDING, ""):
            raise Permanent(f"a receipt cannot be settled to {state!r}")
        settled = update(receipts).where(receipts.c.receipt_id == receipt_id).values(state=state, settled_by=by)
        if not await self._update(settled):
            raise Permanent(f"there is no receipt {receipt_id!r} in the journal")

    async def unsettled(self, workflow_id: str) -> list[Receipt]:
        """Receipts and intents of a workflow that nobody has ended, oldest intent first."""
        open_ones = (receipts.c.workflow_id == workflow_id) & receipts.c.state.in_((INTENDED, STANDING))
        query = select(receipts.c.receipt).where(open_ones).order_by(receipts.c.seq)
        return [Receipt.model_validate_json(text) for text in await self._texts(query)]

    async def ended_by_hand(self, workflow_id: str) -> list[str]:
        """Ids of receipts that `interlock undo` took back or `interlock settle` ended, oldest intent first."""
        by_hand = (receipts.c.state == SETTLED) | ((receipts.c.state == UNDONE) & (receipts.c.settled_by == BY_HAND))
        mine = (receipts.c.workflow_id == workflow_id) & by_hand
        return await self._texts(select(receipts.c.receipt_id).where(mine).order_by(receipts.c.seq))

    async def standing(self, domain: str) -> list[Receipt]:
        """The same for a whole domain, and what people own: it is in force as well. A Guard without a state starts here."""
        open_ones = (receipts.c.domain == domain) & receipts.c.state.in_((INTENDED, STANDING, ADOPTED))
        query = select(receipts.c.receipt).where(open_ones).order_by(receipts.c.seq)
        return [Receipt.model_validate_json(text) for text in await self._texts(query)]

    async def close(self, case: str, workflow_id: str, record: str) -> None:
        """Writes a case's record, a JSON text, secrets taken out. Same case again: replaced."""
        try:
            text = json.dumps(redacted(json.loads(record)), ensure_ascii=False)
        except ValueError as error:
            raise Permanent(f"the record of case {case} is not JSON: {error}") from error
        row = {"workflow_id": workflow_id, "record": text, "closed_at": datetime.now(UTC).isoformat()}
        replace = update(cases).where(cases.c.case_id == case).values(row)

        if not await self._update(replace) and not await self._insert(insert(cases).values(row | {"case_id": case})):
            await self._update(replace)  # another writer came between the two

    async def cases(self, limit: int = 50) -> list[str]:
        """Records of the cases written first last, `limit` of them at most, as JSON."""
        return await self._texts(select(cases.c.record).order_by(cases.c.seq.desc()).limit(limit))

    async def record(self, case: str) -> str | None:
        """One case's record as JSON, or None."""
        found = await self._texts(select(cases.c.record).where(cases.c.case_id == case))
        return found[0] if found else None

    async def closed(self, name: str | None = None) -> AsyncIterator[ClosedRow]:
        """Rows of the closed cases, the first written first: all, or those of one case id or workflow id."""
        query = (
            select(cases.c.seq, cases.c.case_id, cases.c.workflow_id, cases.c.record).order_by(cases.c.seq).limit(PAGE)
        )
        if name is not None:
            query = query.where((cases.c.case_id == name) | (cases.c.workflow_id == name))
        seq = -1
        while rows := await self._rows(query.where(cases.c.seq > seq)):
            for row in rows:
                yield ClosedRow(row.case_id, row.workflow_id, row.record)
            seq = rows[-1].seq

    async def did(self, case: str, did: str) -> None:
        """Keeps what somebody says that people did in a case, a JSON text, secrets taken out. Told again: kept beside it,
        since nobody's word is written over. Permanent: it is not JSON."""
        try:
            text = json.dumps(redacted(json.loads(did)), ensure_ascii=False)
        except ValueError as error:
            raise Permanent(f"what people did in case {case} is not JSON: {error}") from error
        row = {"case_id": case, "told_at": datetime.now(UTC).isoformat(), "did": text}
        last = select(told.c.did).where(told.c.case_id == case).order_by(told.c.seq.desc()).limit(1)
        if text not in await self._texts(last):  # asked again after an unknown commit: once
            await self._insert(insert(told).values(row))

    async def told(self, case: str) -> list[str]:
        """What was said that people did in a case, as JSON, the first word first."""
        return await self._texts(select(told.c.did).where(told.c.case_id == case).order_by(told.c.seq))

    async def remember(self, domain: str, number: int, memory: str) -> int:
        """Keeps a Guard's memory, a JSON text, if what is kept is the one before it. The number that is kept."""
        row = {"number": number, "written_at": datetime.now(UTC).isoformat(), "memory": memory}
        # Not "any lower one": a terminated Guard's last write may carry a higher number than what the next has written by now.
        after = update(guards).where((guards.c.domain == domain) & (guards.c.number == number - 1)).values(row)
        if await self._update(after) or await self._insert(insert(guards).values(row | {"domain": domain})):
            return number
        kept = await self.remembered(domain)
        if kept is None:
            raise Retryable(f"what the Guard of {domain} knew is gone from the journal: it is written down again")
        if kept[0] != number:
            return kept[0]
        # The same again after a commit of unknown outcome is this one; of two with one number the first stays, and the other
        # must not take it for his own.
        return number if kept[1] == memory else number + 1

    async def remembered(self, domain: str) -> tuple[int, str] | None:
        """The number and text of the memory that was kept last, or None."""
        rows = await self._rows(select(guards.c.number, guards.c.memory).where(guards.c.domain == domain))
        return (rows[0].number, rows[0].memory) if rows else None

    async def _rows(self, query: Select[Any]) -> list[Any]:
        return await self._run(lambda connection: list(connection.execute(query)))

    def dispose(self) -> None:
        """Closes the connections. (`close` is the port's word for closing a case.)"""
        self._engine.dispose()

    async def _texts(self, query: Select[str]) -> list[str]:
        return await self._run(lambda connection: [row[0] for row in connection.execute(query)])

    async def _update(self, statement: Update) -> bool:
        """True when it changed a row."""
        return await self._run(lambda connection: connection.execute(statement).rowcount > 0)

    async def _insert(self, statement: Insert) -> bool:
        """False when a row of that key is there."""
        try:
            await self._run(lambda connection: connection.execute(statement))
        except _Taken:
            return False
        return True

    async def _run(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.to_thread(self._in_transaction, work)

    def _in_transaction(self, work: Callable[[Connection], T]) -> T:
        def transaction() -> T:
            with self._engine.begin() as connection:
                return work(connection)

        return called(transaction)


class _Taken(Permanent):
    """A row of that key is there already."""


TO_MEND = {
    "42501": "the database user lacks a right, see docs/production.md",
    "25006": "the server takes no writes: a standby, or read-only",
    "42P01": f"a table is missing: run {sql_schema.UPGRADE} as its owner",
    "42703": f"a column is missing: run {sql_schema.UPGRADE} as its owner",
}
"""SQLSTATE → what an operator mends while the case waits."""


def called(transaction: Callable[[], T]) -> T:
    """Runs it, with the database's errors as the port's. _Taken: a row of that key is there."""
    try:
        return transaction()
    except NoConnectionFree as error:
        raise Retryable("the journal is not available: all connections of this process are in use") from error
    except IntegrityError as error:
        raise _Taken(_line(error.orig)) from error
    except DBAPIError as error:
        mend = TO_MEND.get(getattr(error.orig, "sqlstate", None) or "", "")
        if mend or isinstance(error, OperationalError) or error.connection_invalidated:
            # Locked, full, gone. A commit of unknown outcome ends here too, and asking again is safe for every method.
            raise Retryable(f"the journal is not available: {_line(error.orig)}{mend and f' ({mend})'}") from error
        raise Permanent(f"the journal refused: {_line(error.orig)}") from error


def _line(error: object) -> str:
    return " ".join(str(error).split())


def _row(receipt: Receipt, state: str) -> dict[str, Any]:
    return {
        "permit_id": receipt.permit_id,
        "receipt_id": receipt.id,
        "case_id": receipt.case,
        "workflow_id": receipt.case_workflow_id,
        "domain": receipt.domain,
        "state": state,
        "written_at": datetime.now(UTC).isoformat(),
        "receipt": receipt.model_dump_json(),
    }


def _find(connection: Connection, condition: Any) -> Receipt | None:
    text = connection.execute(select(receipts.c.receipt).where(condition)).scalar_one_or_none()
    return None if text is None else Receipt.model_validate_json(text)
