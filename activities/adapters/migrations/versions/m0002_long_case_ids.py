"""A case's id is its workflow id (1,000 characters) and a few more: 255 were too few for a long node or endpoint name.

On SQLite there is nothing to do: it does not look at lengths.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy import String

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Wider columns. The release before goes on reading and writing them."""
    if op.get_bind().dialect.name == "sqlite":
        return
    for table in ("cases", "receipts", "told"):
        op.alter_column(table, "case_id", existing_type=String(255), type_=String(1100), existing_nullable=False)
