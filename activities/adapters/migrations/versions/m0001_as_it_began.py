"""The tables as they were when migrations began. A journal from before is adopted: what is there stays, row by row.

Frozen: what this file says must never follow sql_tables.py.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Integer, String, Text, inspect

from activities.errors import Permanent

revision = "0001"
down_revision = None

COLUMNS = {
    "cases": ("seq", "case_id", "workflow_id", "closed_at", "record"),
    "receipts": (
        "seq", "permit_id", "receipt_id", "case_id", "workflow_id", "domain", "state", "settled_by", "written_at", "permit",
        "change", "receipt",
    ),
    "told": ("seq", "case_id", "told_at", "did"),
    "guards": ("domain", "number", "written_at", "memory"),
}  # fmt: skip


def upgrade() -> None:
    """Makes what is missing; Permanent when a table of one of these names is somebody else's."""
    _refuse_foreign_tables()
    op.create_table(
        "cases",
        Column("seq", Integer, primary_key=True, autoincrement=True),
        Column("case_id", String(255), nullable=False, unique=True),
        Column("workflow_id", String(1000), nullable=False),
        Column("closed_at", String(40), nullable=False),
        Column("record", Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "receipts",
        Column("seq", Integer, primary_key=True, autoincrement=True),
        Column("permit_id", String(255), nullable=False, unique=True),
        Column("receipt_id", String(255), nullable=False, unique=True),
        Column("case_id", String(255), nullable=False),
        Column("workflow_id", String(1000), nullable=False),
        Column("domain", String(255), nullable=False),
        Column("state", String(40), nullable=False),
        Column("settled_by", String(1000), nullable=False),
        Column("written_at", String(40), nullable=False),
        Column("permit", Text, nullable=True),
        Column("change", Text, nullable=True),
        Column("receipt", Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "told",
        Column("seq", Integer, primary_key=True, autoincrement=True),
        Column("case_id", String(255), nullable=False),
        Column("told_at", String(40), nullable=False),
        Column("did", Text, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "guards",
        Column("domain", String(255), primary_key=True),
        Column("number", Integer, nullable=False),
        Column("written_at", String(40), nullable=False),
        Column("memory", Text, nullable=False),
        if_not_exists=True,
    )
    for table, column in (
        ("cases", "workflow_id"),
        ("receipts", "case_id"),
        ("receipts", "workflow_id"),
        ("told", "case_id"),
    ):
        op.create_index(f"ix_{table}_{column}", table, [column], if_not_exists=True)


def _refuse_foreign_tables() -> None:
    inspector = inspect(op.get_bind())
    for table, wanted in COLUMNS.items():
        if not inspector.has_table(table):
            continue
        missing = sorted(set(wanted) - {column["name"] for column in inspector.get_columns(table)})
        if missing:
            raise Permanent(
                f"the database has a table {table!r} that is not the journal's (it has no column {', '.join(missing)}), and "
                "nothing was changed: give the journal a database of its own in INTERLOCK_JOURNAL_URL"
            )
