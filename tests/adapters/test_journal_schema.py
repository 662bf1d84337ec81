"""Migrations of the journal: one schema on both databases, nothing lost, and one sentence where it is another's."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from sqlalchemy import VARCHAR, Connection, Engine, MetaData, String, inspect

from activities.adapters import sql_schema
from activities.adapters.sql import SqlJournal
from activities.adapters.sql_engine import engine_of, parsed
from activities.adapters.sql_tables import HEAD, VERSION_TABLE, metadata
from activities.errors import Permanent
from tests.adapters.pg_lab import Postgres
from tests.adapters.test_journal_contract import CHANGE, intend, permit, receipt


@pytest.fixture(params=["postgresql", "sqlite"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        engine = engine_of(parsed(server.url(server.database())))
    else:
        engine = engine_of(parsed(f"sqlite:///{tmp_path / 'journal.db'}"))
    yield engine
    engine.dispose()


def url(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def by_migrations(engine: Engine) -> None:
    """Each step, as a database has it that was there before: not the short way of a fresh SQLite file."""
    with engine.begin() as connection:
        sql_schema.version_table.create(connection, checkfirst=True)
    sql_schema.upgrade(engine)


def _but_lengths(_: object, __: object, ___: object, is_there: object, wanted: object) -> bool | None:
    return False if isinstance(is_there, VARCHAR) and isinstance(wanted, String) else None


def differs(connection: Connection) -> str:
    """The code of the migration that is missing."""
    # SQLite does not look at a text's length, and could only change it by copying the table.
    compare_type: Any = True if connection.dialect.name != "sqlite" else _but_lengths
    options = {"version_table": VERSION_TABLE, "compare_type": compare_type, "compare_server_default": True}
    context = MigrationContext.configure(connection, opts=options)
    if not compare_metadata(context, metadata):
        return ""
    upgrades = produce_migrations(context, metadata).upgrade_ops
    assert upgrades is not None
    return render_python_code(upgrades)


@pytest.mark.parametrize("make", [by_migrations, sql_schema.upgrade])
def test_the_migrations_make_exactly_the_tables_of_the_code(empty: Engine, make: Callable[[Engine], object]) -> None:
    """On both databases, step by step and the short way: what differs is printed as a migration's code."""
    make(empty)
    with empty.connect() as connection:
        assert differs(connection) == ""
        assert sql_schema.version_of(connection) == HEAD


async def test_a_target_with_the_longest_names_has_a_case(empty: Engine) -> None:
    """As long as a workflow id may be: with 255 characters PostgreSQL refused its intents and its record for ever."""
    sql_schema.upgrade(empty)
    journal = SqlJournal(url(empty))
    case = f"remediate:{'n' * 990}#12345678.1"
    named = permit(1).model_copy(update={"case": case})
    assert await journal.intend(named, CHANGE, receipt(1).model_copy(update={"case": case}))
    journal.dispose()


def test_a_table_that_no_migration_makes_is_seen(empty: Engine) -> None:
    """The comparison above can fail."""
    sql_schema.upgrade(empty)
    with empty.begin() as connection:
        connection.exec_driver_sql("DROP INDEX ix_told_case_id")
    with empty.connect() as connection:
        assert "ix_told_case_id" in differs(connection)


def test_the_code_names_the_newest_migration() -> None:
    """HEAD is said in sql_tables.py, and the steps are one line without a fork."""
    assert sql_schema.known()[0] == HEAD


@pytest.mark.parametrize("left_out", [(), ("told", "guards")])
async def test_a_journal_from_before_migrations_is_adopted_without_loss(
    empty: Engine, left_out: tuple[str, ...]
) -> None:
    """As create_all made it, the youngest tables missing or not: each row stays, and the permit stays used."""
    old = MetaData()
    for table in metadata.sorted_tables:
        if table.name not in left_out:
            table.to_metadata(old)
    old.create_all(empty)
    acted = receipt(1)
    row = {"permit_id": "p1", "receipt_id": "r1", "case_id": "case-1", "workflow_id": "w", "domain": "c1"}
    row |= {"state": "intended", "written_at": "then", "receipt": acted.model_dump_json()}
    with empty.begin() as connection:
        connection.execute(old.tables["receipts"].insert().values(row))

    assert sql_schema.upgrade(empty) == (None, HEAD)
    journal = SqlJournal(url(empty))
    assert await journal.unsettled("w") == [acted]
    assert not await intend(journal, 1)
    assert await journal.remember("c1", 1, "{}") == 1
    journal.dispose()
    with empty.connect() as connection:
        assert differs(connection) == ""


async def test_a_sqlite_file_of_an_older_release_needs_no_manual_step(tmp_path: Path) -> None:
    """Opening it is enough."""
    file = tmp_path / "journal.db"
    engine = engine_of(parsed(f"sqlite:///{file}"))
    metadata.create_all(engine)
    engine.dispose()

    journal = SqlJournal(f"sqlite:///{file}")
    assert await intend(journal, 1)
    journal.dispose()
    with sqlite3.connect(file) as connection:
        assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [(HEAD,)]
    connection.close()


def test_two_upgrades_at_once_make_one_schema(empty: Engine) -> None:
    """Processes that start side by side on a database that is empty: one does it, the others find it done."""
    engines = [engine_of(empty.url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        came = list(pool.map(sql_schema.upgrade, engines))
    for engine in engines:
        engine.dispose()

    assert sorted(came, key=str) == [(HEAD, HEAD)] * 3 + [(None, HEAD)]
    with empty.connect() as connection:
        assert connection.exec_driver_sql(f"SELECT count(*) FROM {VERSION_TABLE}").scalar() == 1


def test_a_step_that_fails_leaves_the_schema_that_was_there(empty: Engine) -> None:
    """Somebody else's table of one of our names: said in one sentence, and nothing is made beside it."""
    with empty.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE guards (name TEXT)")
    with pytest.raises(Permanent, match=r"'guards' that is not the journal's \(it has no column domain, memory"):
        sql_schema.upgrade(empty)
    with empty.connect() as connection:
        assert inspect(connection).get_table_names() == ["guards"]


def test_a_schema_of_a_newer_release_is_not_touched(empty: Engine) -> None:
    """Neither by a start nor by an upgrade: the sentence names the fix."""
    sql_schema.upgrade(empty)
    with empty.begin() as connection:
        connection.execute(sql_schema.version_table.update().values(version_num="9999"))
    for attempt in (lambda: SqlJournal(url(empty)), lambda: sql_schema.upgrade(empty)):
        with pytest.raises(
            Permanent, match=r"schema is 9999, of a newer Interlock.* install the newer Interlock again"
        ):
            attempt()


def test_an_older_schema_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an older one is known, and where there is none yet."""
    monkeypatch.setattr(sql_schema, "HEAD", "9999")

    assert f"schema is {HEAD} and this Interlock needs 9999: run `interlock journal upgrade`" in sql_schema.difference(
        HEAD
    )
    assert "has no tables yet: run `interlock journal upgrade`" in sql_schema.difference(None, fresh=True)
    assert "from before migrations: run `interlock journal upgrade`" in sql_schema.difference(None)


NEXT = """
from alembic import op
from sqlalchemy import Column, Text

revision, down_revision = "9999", "{head}"

def upgrade() -> None:
    op.add_column("receipts", Column("note", Text, nullable=True))
    op.execute("UPDATE receipts SET note = 'kept'")
    {then}
"""


def with_a_next_step(monkeypatch: pytest.MonkeyPatch, folder: Path, then: str) -> None:
    """As the next release would have it."""
    copied = shutil.copytree(sql_schema.MIGRATIONS, folder / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "versions" / "m9999_next.py").write_text(NEXT.format(head=HEAD, then=then))
    monkeypatch.setattr(sql_schema, "MIGRATIONS", copied)
    monkeypatch.setattr(sql_schema, "HEAD", "9999")


async def test_the_next_step_keeps_every_row(empty: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal in use goes from this release's schema to a newer one."""
    sql_schema.upgrade(empty)
    journal = SqlJournal(url(empty))
    await intend(journal, 1)
    journal.dispose()
    with_a_next_step(monkeypatch, tmp_path, "")

    assert sql_schema.upgrade(empty) == (HEAD, "9999")
    with empty.connect() as connection:
        kept = connection.exec_driver_sql("SELECT receipt_id, note FROM receipts").fetchall()
    assert [tuple(row) for row in kept] == [("r1", "kept")]


def test_a_step_that_fails_half_way_is_as_if_never_begun(
    empty: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables are changed in one transaction, on SQLite as well."""
    sql_schema.upgrade(empty)
    with_a_next_step(monkeypatch, tmp_path, "1 / 0")
    with pytest.raises(ZeroDivisionError):
        sql_schema.upgrade(empty)

    with empty.connect() as connection:
        assert sql_schema.version_of(connection) == HEAD
        assert differs(connection) == ""


def interlock(*words: str, journal: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    env = {**os.environ, "INTERLOCK_JOURNAL_URL": journal}
    return subprocess.run([sys.executable, "-m", "worker", *words], capture_output=True, text=True, timeout=60, env=env)


def test_the_command_line_upgrades_and_checks(postgres: Postgres) -> None:
    """A worker on a database without tables stops with the command to run; that command, and again; then it can be used."""
    where = postgres.url(postgres.database())
    refused = interlock("undo", "r-1", journal=where)
    unready = interlock("journal", "check", journal=where)
    first, again = interlock("journal", "upgrade", journal=where), interlock("journal", "upgrade", journal=where)
    ready = interlock("journal", "check", journal=where)

    assert (refused.returncode, unready.returncode) == (1, 1)
    assert refused.stderr == unready.stderr
    assert "has no tables yet: run `interlock journal upgrade`" in refused.stderr
    assert (first.stdout, again.stdout) == (f"the journal: new → {HEAD}\n", f"the journal is at {HEAD} already\n")
    assert (ready.returncode, ready.stdout) == (0, f"the journal is at {HEAD}: this Interlock can use it\n")


def test_checking_makes_no_file(tmp_path: Path) -> None:
    """A misspelt path is said so."""
    said = interlock("journal", "check", journal=f"sqlite:///{tmp_path / 'journal.db'}")

    assert (said.returncode, "there is no journal at" in said.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == []
