"""Alembic runs this file for each command. The connection, and with it the transaction and the lock, is the caller's."""

from __future__ import annotations

from alembic import context

from activities.adapters.sql_tables import VERSION_TABLE, metadata

# One transaction around all steps, on SQLite as well: a kill in the middle leaves the schema that was there before.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
context.run_migrations()
