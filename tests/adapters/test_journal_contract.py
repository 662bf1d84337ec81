"""What every Journal must hold to, on a SQLite file and on a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from activities.adapters import sql_schema
from activities.adapters.sql import BY_HAND, SqlJournal
from activities.adapters.sql_engine import engine_of, parsed
from activities.errors import Permanent, Retryable
from runbooks.change import Change, Permit, Receipt
from runbooks.redact import redacted
from tests.adapters.pg_lab import Postgres

ROOT = Path(__file__).resolve().parents[2]
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CHANGE = Change(before={"weight/chat/a": 100}, after={"weight/chat/a": 75}, last=False)


def sqlite_file(folder: Path) -> SqlJournal:
    return SqlJournal(f"sqlite:///{folder / 'journal.db'}")


def on_postgres(server: Postgres) -> str:
    """The URL of a new journal there."""
    url = server.url(server.database())
    engine = engine_of(parsed(url))
    sql_schema.upgrade(engine)
    engine.dispose()
    return url


def receipt(number: int, workflow: str = "w") -> Receipt:
    """The receipt of permit `p<number>`."""
    return Receipt(
        id=f"r{number}",
        permit_id=f"p{number}",
        case="case-1",
        case_workflow_id=workflow,
        step_id="s1",
        lever="reroute_traffic",
        target_id="c1/service/a",
        domain="c1",
        epoch=number,
        before=CHANGE.before,
        after=CHANGE.after,
        acted_at=AT,
    )


def permit(number: int) -> Permit:
    return Permit(
        id=f"p{number}",
        domain="c1",
        case="case-1",
        step_id="s1",
        change_digest=CHANGE.digest,
        purpose="act",
        epoch=number,
        act_before=AT,
    )


@pytest.fixture(params=["postgresql", "sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], SqlJournal]]:
    """Opens the same journal again, as a new process would."""
    opened: list[SqlJournal] = []
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    if request.param == "postgresql":
        url = on_postgres(request.getfixturevalue("postgres"))

    def open_one() -> SqlJournal:
        opened.append(SqlJournal(url))
        return opened[-1]

    yield open_one
    for one in opened:
        one.dispose()


@pytest.fixture
def journal(reopen: Callable[[], SqlJournal]) -> SqlJournal:
    return reopen()


async def intend(journal: SqlJournal, number: int, workflow: str = "w") -> bool:
    return await journal.intend(permit(number), CHANGE, receipt(number, workflow))


async def test_an_intent_is_written_once_per_permit(journal: SqlJournal) -> None:
    """The second attempt learns that an earlier one may have acted; the first intent stays."""
    assert await intend(journal, 1)
    later = receipt(1).model_copy(update={"id": "r1-again"})

    assert not await journal.intend(permit(1), CHANGE, later)
    assert [r.id for r in await journal.unsettled("w")] == ["r1"]


async def test_of_many_attempts_at_once_exactly_one_is_first(reopen: Callable[[], SqlJournal]) -> None:
    """Over two connection pools, as two workers have them."""
    one, two = reopen(), reopen()
    answers = await asyncio.gather(*(intend(j, 1) for j in (one, two) * 10))

    assert answers.count(True) == 1


async def test_an_intent_is_unsettled_but_is_no_receipt(journal: SqlJournal) -> None:
    """It may have acted or not: it must be read back, and nobody may take it for done."""
    await intend(journal, 1)

    assert await journal.receipt("p1") is None
    assert await journal.unsettled("w") == [receipt(1)]
    assert await journal.state("r1") == "intended"


async def test_a_receipt_comes_back_exactly_as_it_was_written(journal: SqlJournal) -> None:
    """By permit and by id, microseconds and value types included."""
    await intend(journal, 1)
    acted = receipt(1).model_copy(update={"before": {"a": 1, "b": 0.5, "c": True, "d": "in"}, "recovered": True})
    await journal.receive(acted)

    assert await journal.receipt("p1") == acted
    assert await journal.receipt_by_id("r1") == acted
    assert await journal.unsettled("w") == [acted]


async def test_receiving_again_changes_nothing(journal: SqlJournal) -> None:
    """Neither the receipt nor a settlement that came between."""
    await journal.receive(receipt(1))
    await journal.settle("r1", "undone", "r2")
    await journal.receive(receipt(1).model_copy(update={"lever": "other"}))

    assert await journal.receipt("p1") == receipt(1)
    assert await journal.state("r1") == "undone"
    assert await journal.unsettled("w") == []


async def test_unsettled_is_in_the_order_of_intents_and_of_one_workflow(journal: SqlJournal) -> None:
    """Undo goes backwards through this list, so its order is safety."""
    for number, workflow in ((3, "w"), (1, "w"), (9, "other"), (2, "w")):
        await intend(journal, number, workflow)
    await journal.receive(receipt(1))
    await journal.settle("r2", "adopted", "jane@example.org")

    assert [r.id for r in await journal.unsettled("w")] == ["r3", "r1"]


async def test_what_people_ended_themselves_is_told_from_what_a_case_ended(journal: SqlJournal) -> None:
    """A case must not fight for what was taken back by hand, nor take its own undo for that."""
    for number, workflow in ((1, "w"), (2, "w"), (3, "w"), (4, "w"), (9, "other")):
        await intend(journal, number, workflow)
    await journal.settle("r3", "undone", BY_HAND)
    await journal.settle("r1", "settled", "put back by hand")
    await journal.settle("r2", "undone", "r4")
    await journal.settle("r9", "undone", BY_HAND)

    assert await journal.ended_by_hand("w") == ["r1", "r3"]


async def test_settling_what_is_not_there_is_permanent(journal: SqlJournal) -> None:
    """So is a state that is no end."""
    with pytest.raises(Permanent, match="no receipt"):
        await journal.settle("r404", "undone", "x")
    await journal.receive(receipt(1))
    with pytest.raises(Permanent, match="cannot be settled"):
        await journal.settle("r1", "standing", "x")


async def test_a_receipt_of_another_permit_is_refused(journal: SqlJournal) -> None:
    """An intent under the wrong permit, or the same receipt id under two permits, is a fault of the caller."""
    with pytest.raises(Permanent, match="not of p2"):
        await journal.intend(permit(2), CHANGE, receipt(1))
    await intend(journal, 1)
    with pytest.raises(Permanent, match="under another permit"):
        await journal.receive(receipt(2).model_copy(update={"id": "r1"}))


async def test_closing_a_case_again_replaces_its_record(journal: SqlJournal) -> None:
    """The last word counts; newest case first in the list."""
    await journal.close("case-1", "w", '{"outcome": "open"}')
    await journal.close("case-2", "w", '{"outcome": "refused"}')
    await journal.close("case-1", "w", '{"outcome": "mitigated"}')

    assert json.loads(await journal.record("case-1") or "") == {"outcome": "mitigated"}
    assert await journal.record("case-404") is None
    assert [json.loads(r)["outcome"] for r in await journal.cases(10)] == ["refused", "mitigated"]
    assert len(await journal.cases(1)) == 1
    with pytest.raises(Permanent, match="not JSON"):
        await journal.close("case-3", "w", "{")


async def test_closed_cases_are_read_as_they_stand_however_many(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page, the first written first; by case id or workflow id; the text is not judged."""
    monkeypatch.setattr("activities.adapters.sql.PAGE", 2)
    for number in range(5):
        await journal.close(f"case-{number}", f"w-{number % 2}", "[1]")

    assert [r.case for r in [row async for row in journal.closed()]] == [f"case-{n}" for n in range(5)]
    assert [(r.case, r.record) for r in [row async for row in journal.closed("w-1")]] == [
        ("case-1", "[1]"),
        ("case-3", "[1]"),
    ]
    assert [tuple(r) for r in [row async for row in journal.closed("case-4")]] == [("case-4", "w-0", "[1]")]
    assert [row async for row in journal.closed("case-404")] == []


async def test_no_secret_is_kept(journal: SqlJournal) -> None:
    """By name and by look; measurements with `tokens` in their name stay."""
    jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJl"
    record = {
        "labels": {"api_key": "abc", "x-auth-token": "abc", "tokens_per_second": 30},
        "notes": [f"sent {jwt}", "Authorization: Bearer abcdefgh12345678"],
    }
    await journal.close("case-1", "w", json.dumps(record))
    kept = await journal.record("case-1") or ""

    assert jwt not in kept
    assert "abc" not in kept
    assert json.loads(kept)["labels"]["tokens_per_second"] == 30
    assert redacted(json.loads(kept)) == json.loads(kept)


async def test_everything_is_there_after_the_journal_is_opened_again(reopen: Callable[[], SqlJournal]) -> None:
    """A restart of the worker loses nothing."""
    first = reopen()
    await intend(first, 1)
    await intend(first, 2)
    await first.receive(receipt(2))
    first.dispose()

    assert [r.id for r in await reopen().unsettled("w")] == ["r1", "r2"]


WRITER = """
import asyncio, sys
sys.path.insert(0, {root!r})
from tests.adapters.test_journal_contract import CHANGE, SqlJournal, permit, receipt

async def write():
    journal = SqlJournal(sys.argv[1])
    for number in range(1, 100000):
        assert await journal.intend(permit(number), CHANGE, receipt(number))
        await journal.receive(receipt(number))
        print(number, flush=True)

asyncio.run(write())
"""


async def test_what_was_acknowledged_survives_a_kill_in_mid_write(tmp_path: Path) -> None:
    """SIGKILL while it writes: each acknowledged receipt is there, nothing is half there, and writing goes on."""
    path = tmp_path / "journal.db"
    for round_ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER.format(root=str(ROOT)), f"sqlite:///{path}"], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert child.stdout is not None
        for _ in range(20 + 7 * round_):
            child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        acknowledged = [int(line) for line in child.stdout.read().split()]
        child.stdout.close()
        child.wait()
        last = max(acknowledged, default=20 + 7 * round_)

        journal = SqlJournal(f"sqlite:///{path}")
        kept = [r.epoch for r in await journal.unsettled("w")]
        assert kept == list(range(1, len(kept) + 1))
        assert last <= len(kept) <= last + 1
        assert await intend(journal, 10**6)
        journal.dispose()
        path.unlink()


async def test_what_people_did_is_kept_word_by_word(reopen: Callable[[], SqlJournal]) -> None:
    """In the order of telling, of one case, and nobody's earlier word is written over."""
    journal = reopen()
    for case, lever in (("c#1", "none"), ("c#2", "isolate_endpoint"), ("c#1", "restart_engine")):
        await journal.did(case, json.dumps({"lever": lever}))

    assert [json.loads(t)["lever"] for t in await reopen().told("c#1")] == ["none", "restart_engine"]
    assert await journal.told("c#3") == []


async def test_the_same_word_asked_again_is_kept_once(journal: SqlJournal) -> None:
    """A commit of unknown outcome is asked again."""
    for lever in ("none", "none", "other", "none"):
        await journal.did("c#1", json.dumps({"lever": lever}))

    assert [json.loads(t)["lever"] for t in await journal.told("c#1")] == ["none", "other", "none"]


async def test_a_secret_in_what_people_did_is_not_kept(journal: SqlJournal) -> None:
    """Notes are free text; and what is no JSON is refused."""
    await journal.did("c#1", json.dumps({"note": "with Bearer abcdefgh12345678"}))

    assert "abcdefgh12345678" not in (await journal.told("c#1"))[0]
    with pytest.raises(Permanent, match="JSON"):
        await journal.did("c#1", "no json")


async def test_a_locked_journal_is_retryable_and_not_lost(tmp_path: Path) -> None:
    """Another process holds the write lock for too long: say so, write nothing."""
    journal = sqlite_file(tmp_path)
    holder = sqlite3.connect(tmp_path / "journal.db")
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(Retryable, match="locked"):
        await intend(journal, 1)
    holder.rollback()
    holder.close()

    assert await intend(journal, 1)
    journal.dispose()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "no url at all", "mysql://x/y", "postgresql+nothing://x"]
)
def test_a_journal_that_would_outlive_nothing_is_refused(url: str) -> None:
    """In memory, no database at all, or one that the journal is not tested on."""
    with pytest.raises(Permanent):
        SqlJournal(url)


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    """WAL with synchronous=FULL, on each connection."""
    journal = sqlite_file(tmp_path)
    pragmas = journal._in_transaction(
        lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    )
    journal.dispose()

    assert pragmas == ["wal", 2]


async def test_what_a_guard_must_not_forget_is_kept_and_a_late_word_of_an_old_guard_does_not_replace_it(
    journal: SqlJournal,
) -> None:
    """Each takes the place of the one before it. The same again is the same; another text under a number that is taken is
    not kept."""
    assert await journal.remembered("c1") is None
    assert await journal.remember("c1", 3, '{"halted": "by ana"}') == 3
    assert await journal.remember("c1", 3, '{"halted": "by ana"}') == 3
    assert await journal.remember("c1", 2, '{"halted": null}') == 3
    assert await journal.remember("c1", 3, '{"halted": null}') == 4, "the caller must see that it is not his"
    assert await journal.remembered("c1") == (3, '{"halted": "by ana"}')
    assert await journal.remember("c1", 5, '{"halted": null}') == 3, "and neither is what skips a number"
    assert await journal.remember("c1", 4, '{"halted": null}') == 4
    assert await journal.remembered("c1") == (4, '{"halted": null}')
    assert await journal.remembered("c2") is None


async def test_a_terminated_guards_late_word_never_undoes_what_the_next_one_has_written(journal: SqlJournal) -> None:
    """Whatever its number: after conflicts it may be ahead. And whoever meets another's word writes again until it is kept."""
    assert await journal.remember("c3", 7, "old") == 7  # the next Guard recovers this
    assert await journal.remember("c3", 8, "new: halted") == 8
    for late in (7, 8, 9 + 1, 9 + 2):
        assert await journal.remember("c3", late, "old, later") != late
    assert await journal.remembered("c3") == (8, "new: halted")

    number, tries = 7, 0  # as a Guard does: the number that is kept, and again under the next
    while (kept := await journal.remember("c3", number + 1, "old, again")) != number + 1:
        number, tries = kept, tries + 1
    assert tries == 2
    assert await journal.remembered("c3") == (9, "old, again")
