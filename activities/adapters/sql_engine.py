"""The journal's connections: which URL can serve, and settings by which what is acknowledged is on disk."""

from __future__ import annotations

import importlib.util
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from activities.errors import Permanent

POOL = 5
OVERFLOW = 5
POOL_WAIT_S = 10.0
"""A process has POOL + OVERFLOW connections to PostgreSQL at most; a call waits so long for one, then it is Retryable."""
PG = {
    "connect_timeout": "5",
    # A server that is gone without a word is noticed after about 15 s, not after the kernel's two hours.
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "15000",
    "application_name": "interlock",
    # No call waits for another one's lock for longer than an activity does.
    "options": "-c statement_timeout=10s -c lock_timeout=5s -c idle_in_transaction_session_timeout=30s",
}
"""libpq's parameters, unless the URL names them itself."""
DURABLE = ("fsync", "full_page_writes", "server_encoding", "synchronous_commit")


def parsed(url: str) -> URL:
    """The URL as SQLAlchemy has it. Permanent when no journal can be there; the URL is never shown, since it may hold a
    password."""
    try:
        out = make_url(url)
    except ArgumentError:
        raise Permanent("the journal's URL is not an SQLAlchemy URL") from None
    if out.drivername in ("postgres", "postgresql"):
        out = out.set(drivername="postgresql+psycopg")
    if out.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise Permanent(
            f"the journal cannot be on {out.drivername!r}: name sqlite:////path/journal.db or postgresql://…/interlock"
        )
    if is_sqlite(out) and out.database in (None, "", ":memory:"):
        raise Permanent("a journal in memory outlives nothing: name a file, as in sqlite:////path/journal.db")
    if not is_sqlite(out) and importlib.util.find_spec("psycopg") is None:
        raise Permanent("a journal on PostgreSQL needs psycopg: install interlock-remediation[postgres]")
    return out


def is_sqlite(url: URL) -> bool:
    """Or else PostgreSQL."""
    return url.get_backend_name() == "sqlite"


def engine_of(url: URL) -> Engine:
    """Connects at the first use. A connection that died in the pool is found and replaced before it is used."""
    if is_sqlite(url):
        engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
        event.listen(engine, "connect", _sqlite_durable)
        return engine
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=POOL,
        max_overflow=OVERFLOW,
        pool_timeout=POOL_WAIT_S,
        pool_recycle=1800,
        hide_parameters=True,
        connect_args={name: value for name, value in PG.items() if name not in url.query},
    )
    event.listen(engine, "connect", _postgres_durable)
    return engine


def _sqlite_durable(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _postgres_durable(connection: Any, record: object) -> None:
    """Permanent for a server that acknowledges what is not on disk: after its crash an act could be done twice."""
    try:
        _look(connection)
    except BaseException:
        connection.close()  # nobody else knows it yet
        raise


def _look(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in DURABLE))
    found = dict(zip(DURABLE, cursor.fetchone(), strict=True))
    if found["synchronous_commit"] == "off":
        cursor.execute("SET synchronous_commit = on")
    cursor.close()
    connection.commit()
    for name in ("fsync", "full_page_writes"):
        if found[name] != "on":
            raise Permanent(
                f"the journal's server has {name} off, and would lose what it acknowledged: set {name} = on"
            )
    if found["server_encoding"] != "UTF8":
        raise Permanent(
            f"the journal's database is in {found['server_encoding']}: make one with `createdb --encoding=UTF8`"
        )
