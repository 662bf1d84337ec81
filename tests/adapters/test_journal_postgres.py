"""The journal on a real PostgreSQL server that dies, loses connections, refuses and fills up: nothing twice, nothing lost."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from activities.adapters import sql_engine, sql_schema
from activities.adapters.sql import SqlJournal
from activities.errors import Permanent, Retryable
from tests.adapters.pg_cut import Cut
from tests.adapters.pg_lab import Postgres
from tests.adapters.test_journal_contract import ROOT, WRITER, intend, on_postgres, receipt

CALLS = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'interlock'"


@pytest.fixture
def url(postgres: Postgres) -> str:
    """A new journal."""
    return on_postgres(postgres)


@pytest.fixture
def database(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.fixture
def journal(url: str) -> Iterator[SqlJournal]:
    opened = SqlJournal(url)
    yield opened
    opened.dispose()


async def until(holds: Callable[[], bool]) -> None:
    """Waits for a condition, half a minute at most."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  # another process's state
            await asyncio.sleep(0.02)


async def in_the_end(call: Callable[[], Awaitable[bool]]) -> bool:
    """As Temporal does it: while it is Retryable it is asked again."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await call()
            except Retryable:
                await asyncio.sleep(0.05)


async def test_a_server_killed_between_intent_and_receipt_has_lost_nothing(
    journal: SqlJournal, postgres: Postgres
) -> None:
    """While it is away each call is Retryable; when it is back the intent is there, and its permit is used."""
    assert await intend(journal, 1)
    postgres.kill()
    with pytest.raises(Retryable, match="the journal is not available"):
        await journal.receive(receipt(1))
    postgres.start()

    assert await journal.receipt("p1") is None
    assert await journal.unsettled("w") == [receipt(1)]
    assert not await intend(journal, 1)
    await journal.receive(receipt(1))
    assert await journal.receipt("p1") == receipt(1)


async def test_what_was_acknowledged_survives_a_server_killed_in_mid_write(url: str, postgres: Postgres) -> None:
    """SIGKILL to all of the server while a worker writes: what it was told is there, and nothing is half there."""
    command = [sys.executable, "-c", WRITER.format(root=str(ROOT)), url]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout is not None
    for _ in range(25):
        writer.stdout.readline()
    postgres.kill()
    rest, said = writer.communicate(timeout=60)
    last = max([25, *map(int, rest.split())])
    assert b"the journal is not available" in said
    postgres.start()

    journal = SqlJournal(url)
    kept = [r.epoch for r in await journal.unsettled("w")]
    assert kept == list(range(1, len(kept) + 1))
    assert last <= len(kept) <= last + 1
    assert await journal.receipt(f"p{last}") is not None
    journal.dispose()


async def test_of_two_processes_with_one_permit_one_is_first(url: str) -> None:
    """Twenty permits, each asked for by both at the same time."""
    ask = f"""
import asyncio, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.adapters.test_journal_contract import SqlJournal, intend

async def ask():
    journal = SqlJournal(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print(*[number for number in range(20) if await intend(journal, number)])

asyncio.run(ask())
"""
    command = [sys.executable, "-c", ask, url]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True) for _ in "ab"]
    for one in both:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in both:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    first = [one.communicate(timeout=60)[0].split() for one in both]

    assert sorted(map(int, first[0] + first[1])) == list(range(20))


async def test_a_connection_lost_in_mid_call_is_retryable_and_the_call_repeats(
    journal: SqlJournal, postgres: Postgres, database: str
) -> None:
    """The server ends the connection while the INSERT waits for a lock: not written, and the next try is the first."""
    with psycopg.connect(postgres.url(database)) as holder:
        holder.execute("LOCK TABLE receipts IN EXCLUSIVE MODE")
        call = asyncio.create_task(intend(journal, 1))
        waiting = f"FROM pg_stat_activity WHERE datname = '{database}' AND wait_event_type = 'Lock'"
        await until(lambda: postgres.sql(f"SELECT count(*) {waiting}") == [(1,)])
        postgres.sql(f"SELECT pg_terminate_backend(pid) {waiting}")
        with pytest.raises(Retryable, match="terminating connection"):
            await call

    assert await intend(journal, 1)
    assert not await intend(journal, 1)


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_commit_of_unknown_outcome_never_gives_a_permit_twice(
    url: str, postgres: Postgres, arrives: bool
) -> None:
    """The connection is cut at COMMIT, before or after the server has it. The try after it says what is true: first only if
    the commit had not arrived."""
    with Cut(postgres.port) as cut:
        journal = SqlJournal(url.replace(f":{postgres.port}/", f":{cut.port}/") + "?sslmode=disable&gssencmode=disable")
        cut.at_commit(arrives)
        with pytest.raises(Retryable):
            await intend(journal, 1)
        assert await in_the_end(lambda: intend(journal, 1)) is not arrives
        journal.dispose()

    assert postgres.sql("SELECT permit_id, state FROM receipts", url.rpartition("/")[2]) == [("p1", "intended")]


async def test_a_pool_outlives_a_restart_without_one_failed_call(journal: SqlJournal, postgres: Postgres) -> None:
    """Each connection is tried before it is used: those of the old server are replaced unseen."""
    await asyncio.gather(*(intend(journal, number) for number in range(10)))
    postgres.kill()
    postgres.start()

    assert await asyncio.gather(*(intend(journal, number) for number in range(20))) == [False] * 10 + [True] * 10


async def test_a_process_has_ten_connections_at_most(
    journal: SqlJournal, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty calls at once: who waits too long for a connection is told Retryable. All are done in the end."""
    monkeypatch.setattr(journal._engine.pool, "_timeout", 0.5)
    loop, most = asyncio.get_running_loop(), sql_engine.POOL + sql_engine.OVERFLOW
    with ThreadPoolExecutor(40) as threads:
        with psycopg.connect(postgres.url(database)) as holder:
            holder.execute("LOCK TABLE receipts IN EXCLUSIVE MODE")
            calls = [loop.run_in_executor(threads, asyncio.run, intend(journal, number)) for number in range(40)]
            await until(lambda: postgres.sql(CALLS.format(database)) == [(most,)])
            await until(lambda: sum(call.done() for call in calls) >= 40 - most)
            assert postgres.sql(CALLS.format(database)) == [(most,)]
        said = await asyncio.gather(*calls, return_exceptions=True)

    assert all(one is True or isinstance(one, Retryable) for one in said)
    assert any("all connections of this process are in use" in str(one) for one in said)
    left = [number for number, one in enumerate(said) if one is not True]
    assert all([await in_the_end(lambda n=number: intend(journal, n)) for number in left])


TROUBLE = {
    "53100": "could not extend file: No space left on device",
    "58030": "could not write: Input/output error",
    "53200": "out of memory",
    "42501": "could not open file: Permission denied",
}


@pytest.mark.parametrize("state", sorted(TROUBLE))
async def test_trouble_of_the_servers_disk_is_retryable_and_says_so(
    journal: SqlJournal, postgres: Postgres, database: str, state: str
) -> None:
    """With the server's own error codes (raised by a trigger, not by a full disk): nothing is written, and later it is."""
    postgres.sql(
        "CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{TROUBLE[state]}' USING ERRCODE = '{state}'; END $$; "
        "CREATE TRIGGER trouble BEFORE INSERT ON receipts FOR EACH ROW EXECUTE FUNCTION trouble()",
        database,
    )
    with pytest.raises(Retryable, match=TROUBLE[state]):
        await intend(journal, 1)
    postgres.sql("DROP TRIGGER trouble ON receipts", database)

    assert await intend(journal, 1)


async def test_a_server_that_takes_no_writes_is_retryable(
    journal: SqlJournal, postgres: Postgres, database: str
) -> None:
    """A standby after a failover, or a database made read-only."""
    postgres.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    journal.dispose()  # the setting counts for new connections
    with pytest.raises(Retryable, match="takes no writes: a standby, or read-only"):
        await intend(journal, 1)
    postgres.sql(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    journal.dispose()

    assert await intend(journal, 1)


async def test_the_documented_rights_are_enough_and_no_more(postgres: Postgres) -> None:
    """docs/production.md's own SQL: the owner upgrades, the processes' user reads and writes, and deletes nothing."""
    page = (ROOT / "docs" / "production.md").read_text()
    roles, database, rights = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)[:3]
    name = postgres.database()
    postgres.sql(roles)
    postgres.sql(f"ALTER DATABASE {name} OWNER TO interlock_owner")
    assert "CREATE DATABASE interlock OWNER interlock_owner" in database
    engine = sql_engine.engine_of(sql_engine.parsed(postgres.url(name, "interlock_owner")))
    sql_schema.upgrade(engine)
    engine.dispose()
    journal_url = postgres.url(name, "interlock")
    with pytest.raises(Retryable, match=r"permission denied for table .*lacks a right, see docs/production.md"):
        SqlJournal(journal_url)
    postgres.sql(rights, name, "interlock_owner")

    journal = SqlJournal(journal_url)
    assert await intend(journal, 1)
    await journal.receive(receipt(1))
    await journal.settle("r1", "undone", "x")
    await journal.close("case-1", "w", "{}")
    await journal.did("case-1", "{}")
    assert await journal.remember("c1", 1, "{}") == 1
    journal.dispose()
    for statement in ("DELETE FROM receipts", "TRUNCATE cases", "DROP TABLE told", "CREATE TABLE x (y int)"):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidSchemaName)):
            postgres.sql(statement, name, "interlock")
    engine = sql_engine.engine_of(sql_engine.parsed(journal_url))
    assert sql_schema.upgrade(engine)[0] == sql_schema.HEAD, "at the newest schema there is nothing that needs a right"
    engine.dispose()


async def test_a_server_that_would_lose_what_it_acknowledged_is_refused(
    postgres: Postgres, url: str, database: str
) -> None:
    """full_page_writes off: one sentence. synchronous_commit off: set right by the journal, on each connection."""
    postgres.sql(f"ALTER DATABASE {database} SET synchronous_commit = off")
    journal = SqlJournal(url)
    shown = journal._in_transaction(lambda c: c.exec_driver_sql("SHOW synchronous_commit").scalar())
    journal.dispose()
    assert shown == "on"

    postgres.sql("ALTER SYSTEM SET full_page_writes = off")
    postgres.sql("SELECT pg_reload_conf()")
    try:
        await until(lambda: postgres.sql("SHOW full_page_writes") == [("off",)])
        with pytest.raises(Permanent, match=r"full_page_writes off.*: set full_page_writes = on"):
            SqlJournal(url)
    finally:
        postgres.sql("ALTER SYSTEM RESET full_page_writes")
        postgres.sql("SELECT pg_reload_conf()")
    await until(lambda: postgres.sql("SHOW full_page_writes") == [("on",)])


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Postgres) -> None:
    """LATIN1 would fail at the first record with a name outside it."""
    name = postgres.database()
    postgres.sql(f"DROP DATABASE {name}")
    postgres.sql(f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(Permanent, match="is in LATIN1: make one with `createdb --encoding=UTF8`"):
        SqlJournal(postgres.url(name))


def test_a_password_is_in_no_error(postgres: Postgres, tmp_path: Path) -> None:
    """A server that is not there, and a database that is not."""
    for where in (
        f"postgresql://owner:hunter2@127.0.0.1:{postgres.port}/nothing",
        "postgresql://u:hunter2@127.0.0.1:1/x",
    ):
        with pytest.raises(Retryable) as caught:
            SqlJournal(where)
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)
