"""Which schema a journal has, and how it comes to the one of this code.

SQLite is upgraded where it is opened: the embedded profile has no manual step. PostgreSQL is upgraded by
`interlock journal upgrade` and by nothing else: a worker needs no right to change tables (docs/adr/0018).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column as Field
from sqlalchemy import Connection, Engine, MetaData, NullPool, String, Table, create_engine, event, inspect, text

from activities.adapters.sql_tables import HEAD, VERSION_TABLE, metadata
from activities.errors import Permanent

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x1A7E210C
"""The advisory lock of PostgreSQL under which one upgrade runs at a time, per database."""
UPGRADE = "`interlock journal upgrade`"
version_table = Table(VERSION_TABLE, MetaData(), Field("version_num", String(32), primary_key=True))


def version_of(connection: Connection) -> str | None:
    """The migration that the database is at; None: none yet, a fresh database or a journal from before migrations."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(version_table.select()).scalar_one_or_none()


def difference(version: str | None, *, fresh: bool = False) -> str:
    """One sentence when that is not this code's schema, naming the fix; empty when it is."""
    if version == HEAD:
        return ""
    if version is None:
        what = "has no tables yet" if fresh else "is from before migrations"
        return f"the journal {what}: run {UPGRADE} as its owner, once (docs/production.md)"
    if version in known():
        return f"the journal's schema is {version} and this Interlock needs {HEAD}: run {UPGRADE} as its owner"
    return (
        f"the journal's schema is {version}, of a newer Interlock; this one knows {HEAD} at most and would read it wrong: "
        "install the newer Interlock again"
    )


def known() -> list[str]:
    """All migrations that this code has, the newest first."""
    from alembic.script import ScriptDirectory  # here: Alembic costs 0.4 s, which a start at HEAD must not pay

    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def check(connection: Connection) -> str:
    """Like `difference`, of this database."""
    version = version_of(connection)
    return difference(version, fresh=version is None and not inspect(connection).has_table("receipts"))


def open_sqlite(engine: Engine) -> None:
    """Brings a file to HEAD. Permanent: it is of a newer Interlock."""
    with engine.connect() as connection:
        if version_of(connection) == HEAD:
            return
    upgrade(engine)


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """To HEAD, in one transaction: all or nothing. Two at once: the second waits, and then finds nothing to do.

    Returns the versions before and after. Permanent: of a newer Interlock, or the tables are somebody else's.
    """
    alone = _alone(engine)
    try:
        with alone.begin() as connection:
            if alone.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL lock_timeout = '60s'"))
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
                # A change of a table that waits for a long reader makes all writers wait behind it: give up soon.
                connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            before = version_of(connection)
            if before != HEAD:
                _to_head(connection, before)
            return before, HEAD
    finally:
        if alone is not engine:
            alone.dispose()


def _to_head(connection: Connection, before: str | None) -> None:
    if before is None and connection.dialect.name == "sqlite" and not inspect(connection).get_table_names():
        # A fresh file, as each replayed incident has one. That this is what the migrations make is tested.
        metadata.create_all(connection)
        version_table.create(connection)
        connection.execute(version_table.insert().values(version_num=HEAD))
        return
    if before is not None and before not in known():
        raise Permanent(difference(before))
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _alone(engine: Engine) -> Engine:
    """An engine of one connection. On SQLite its transaction is a real one, and the file's only writer from its begin:
    Python's sqlite3 would else begin it after the first CREATE TABLE."""
    if engine.dialect.name != "sqlite":
        return engine
    alone = create_engine(engine.url, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(alone, "connect")
    def _plain(connection: object, record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]
        for pragma in ("busy_timeout=5000", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]

    @event.listens_for(alone, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return alone
