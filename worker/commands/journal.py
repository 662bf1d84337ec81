"""`interlock journal upgrade | check`: the schema of the journal on PostgreSQL (a SQLite file needs neither)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The schema of the journal.", no_args_is_help=True)
Url = Annotated[
    str | None,
    typer.Option(help="The journal as an SQLAlchemy URL, e.g. of its owner. None: INTERLOCK_JOURNAL_URL."),
]


@app.callback()
def _journal() -> None:
    """The schema of the journal on PostgreSQL: a worker needs the one of its own release. A SQLite file needs neither."""


@app.command()
def upgrade(url: Url = None) -> None:
    """Bring the journal to this release's schema, as the owner of its tables. Safe to repeat, also twice at once."""
    from activities.adapters import sql_schema
    from activities.adapters.sql import called
    from activities.adapters.sql_engine import engine_of, parsed

    engine = engine_of(parsed(url or _url()))
    try:
        before, after = called(lambda: sql_schema.upgrade(engine))
    finally:
        engine.dispose()
    typer.echo(f"the journal is at {after} already" if before == after else f"the journal: {before or 'new'} → {after}")


@app.command()
def check(url: Url = None) -> None:
    """Say whether this release can use the journal. Changes nothing; exit 1 when it cannot, with what to do."""
    from activities.adapters import sql_schema
    from activities.adapters.sql import called
    from activities.adapters.sql_engine import engine_of, is_sqlite, parsed
    from activities.adapters.sql_tables import HEAD
    from activities.errors import Permanent
    from worker.scores import NoJournal

    where = parsed(url or _url())
    if is_sqlite(where) and not Path(where.database or "").is_file():  # connecting would make it
        raise NoJournal(f"there is no journal at {where.database}: set INTERLOCK_JOURNAL_URL as the worker has it")
    engine = engine_of(where)

    def asked() -> str:
        with engine.connect() as connection:
            return sql_schema.check(connection)

    try:
        wrong = called(asked)
    finally:
        engine.dispose()
    if wrong:
        raise Permanent(wrong)
    typer.echo(f"the journal is at {HEAD}: this Interlock can use it")


def _url() -> str:
    from worker.settings import load

    return load().journal_url
