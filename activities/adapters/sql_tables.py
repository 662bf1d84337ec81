"""The journal's tables. No SQLite-only and no PostgreSQL-only type: the same file serves both.

What is changed here needs a migration (migrations/): tests/adapters/test_journal_schema.py fails until there is one.
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table, Text

metadata = MetaData()
HEAD = "0002"
"""The newest migration, which makes exactly these tables. Said here, so that a start needs no Alembic to compare it."""
VERSION_TABLE = "journal_version"
"""Where a database says which migration it is at. Not Alembic's own name: other programs may use that beside us."""

cases = Table(
    "cases",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("case_id", String(1100), nullable=False, unique=True),
    Column("workflow_id", String(1000), nullable=False, index=True),
    Column("closed_at", String(40), nullable=False),
    Column("record", Text, nullable=False),
)

receipts = Table(
    "receipts",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),  # the order of intents: oldest first
    Column("permit_id", String(255), nullable=False, unique=True),
    Column("receipt_id", String(255), nullable=False, unique=True),
    Column("case_id", String(1100), nullable=False, index=True),
    Column("workflow_id", String(1000), nullable=False, index=True),
    Column("domain", String(255), nullable=False),
    # intended → standing → undone | restored | adopted | whatever `settle` was told
    Column("state", String(40), nullable=False),
    Column("settled_by", String(1000), nullable=False, default=""),
    Column("written_at", String(40), nullable=False),
    Column("permit", Text, nullable=True),  # null: received without an intent
    Column("change", Text, nullable=True),
    Column("receipt", Text, nullable=False),
)

told = Table(
    "told",  # what people say that they did in a case: `interlock cases did`
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("case_id", String(1100), nullable=False, index=True),
    Column("told_at", String(40), nullable=False),
    Column("did", Text, nullable=False),
)

guards = Table(
    "guards",  # what the Guard of a domain must know after it was terminated: runbooks/guard_memory.py
    metadata,
    Column("domain", String(255), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("written_at", String(40), nullable=False),
    Column("memory", Text, nullable=False),
)
