"""`interlock cases verify` against a real journal and a real Temporal; `interlock cases show` as people paste it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI

from activities.adapters.sql import SqlJournal
from runbooks.policy import ClassPolicy, Policy
from runbooks.record import CaseRecord, sealed
from tests import lab as labs
from tests.scenarios.hostile import Pager, ended, hang, measured
from worker.commands.cases import _waiting
from worker.doors import closed_case, closed_cases
from worker.identity import Verifier, dev_issuer
from worker.intake_http import answer_problems
from worker.people import people_router
from worker.people_desk import PeopleDeps
from worker.records import Checked, verify
from worker.telemetry import Telemetry
from worker.witness import Witness

Json = dict[str, Any]
Edit = Callable[[Json], object]
NO_RUN = "00000000-0000-0000-0000-000000000000"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJl"


@dataclass
class Books:
    """The lab's journal as somebody with write access to it has it, and the command line that checks it."""

    lab: labs.Lab

    @property
    def path(self) -> str:
        return self.lab.journal_url.removeprefix("sqlite:///")

    def run(self, statement: str, *values: object) -> list[Any]:
        with sqlite3.connect(self.path) as database:
            found = database.execute(statement, values).fetchall()
        database.close()
        return found

    def text(self, case: str) -> str:
        ((text,),) = self.run("SELECT record FROM cases WHERE case_id = ?", case)
        return str(text)

    def write(self, case: str, text: str) -> None:
        self.run("UPDATE cases SET record = ? WHERE case_id = ?", text, case)

    @contextmanager
    def edited(self, case: str, edit: Edit) -> Iterator[None]:
        """The record as somebody made it. It is put back."""
        before = self.text(case)
        record = json.loads(before)
        edit(record)
        self.write(case, json.dumps(record))
        try:
            yield
        finally:
            self.write(case, before)

    async def found(self, case: str, edit: Edit) -> Checked:
        """What is found in the record of this case, edited so, while Temporal answers."""
        with self.edited(case, edit):
            (one,) = await self.found_all(case)
        return one

    async def found_all(self, name: str | None = None) -> list[Checked]:
        """What is found in all records, or in those of a name."""
        journal = SqlJournal(self.lab.journal_url)
        try:
            return [one async for one in verify(journal, name, Witness(self.lab.client))]
        finally:
            journal.dispose()

    async def verify(self, *words: str, address: str = "") -> tuple[int, str, str]:
        """Exit status, stdout and stderr of `interlock cases verify`."""
        temporal = address or self.lab.client.service_client.config.target_host
        return await interlock(
            "cases", "verify", *words, INTERLOCK_JOURNAL_URL=self.lab.journal_url, INTERLOCK_TEMPORAL__ADDRESS=temporal
        )


async def interlock(*words: str, **more: str) -> tuple[int, str, str]:
    """Runs the command line in a process of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", *words, env=env | more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


@pytest.fixture
async def books(lab: labs.Lab) -> Books:
    """The journal, emptied of what other tests left."""
    SqlJournal(lab.journal_url).dispose()
    books = Books(lab)
    books.run("DELETE FROM cases")
    return books


async def closed(lab: labs.Lab, name: str, payload: object = "no detection") -> str:
    """A small closed case: an input that could not be read. Its id."""
    handle = await lab.client.start_workflow(
        "Remediation", payload, id=f"remediate:lab/{name}-{datetime.now(UTC):%H%M%S%f}", task_queue=lab.task_queue
    )
    return str((await handle.result())["case"])


def forged(record: Json, **changes: Any) -> Json:
    """By an editor who knows how records are sealed."""
    changed = CaseRecord.model_validate({**record, **changes})
    made: Json = json.loads(sealed(changed).text)
    return made


def without_chain(record: Json) -> None:
    """As the version before wrote it."""
    for name in ("chain_base", "chain_end", "seals", "head"):
        record.pop(name)
    for row in record["timeline"]:
        row.pop("n")
        row.pop("hash")


def replace_by(maker: Callable[[Json], Json]) -> Edit:
    def edit(record: Json) -> None:
        made = maker(dict(record))
        record.clear()
        record.update(made)

    return edit


async def test_verify_finds_what_was_done_to_a_closed_record(lab: labs.Lab, books: Books) -> None:
    """By the record's own chain; by Temporal where the chain was computed anew, taken out, or the run's name changed."""
    async with labs.running_worker(lab.parts()):
        case, other = await closed(lab, "one"), await closed(lab, "two")
    good = await books.verify(case)
    assert good[0] == 0, good
    assert good[1].startswith(f"ok         {case}: 2 row(s), head ")
    assert "as in the workflow's result in Temporal" in good[1]
    assert good[2] == ""

    rows: list[tuple[Edit, str]] = [
        (lambda r: r["timeline"][1].update(text="restored: all is well"), "row 1 "),
        (lambda r: r["timeline"].pop(0), "row 0 was removed before row 1"),
        (lambda r: r["timeline"].pop(), "the last rows were removed"),
        (lambda r: r["timeline"].reverse(), "was re-ordered: it stands before row 0"),
        (lambda r: r["timeline"].insert(1, r["timeline"][0]), "was added"),
        (lambda r: r.update(outcome="fixed"), "the field outcome was changed"),
        (lambda r: r.update(case=other), "its row holds the record of another case"),
        (lambda r: r.update(workflow_id="remediate:x"), "its row holds the record of another workflow_id"),
        (replace_by(lambda r: forged(r, why="nothing happened")), "it was written anew: its head is"),
        (replace_by(lambda r: forged(r, why="nothing happened", run_id=NO_RUN)), "the result of run"),
        (without_chain, "its chain was taken out: the workflow's result in Temporal has the head"),
    ]
    for edit, said in rows:
        found = await books.found(case, edit)
        assert (found.case, found.state, said in found.why) == (case, "wrong", True), found
    with books.edited(case, lambda r: r["timeline"][1].update(text="gone", what="\x1b[2J")):
        rc, out, _ = await books.verify(case)
    assert (rc, out.startswith(f"WRONG      {case}: row 1 "), "\x1b" in out) == (1, True, False), out
    books.write(case, "{")
    assert (await books.found_all())[0].why == "its record is not JSON"


async def test_without_temporal_it_says_what_it_cannot_find(lab: labs.Lab, books: Books, free_port: int) -> None:
    """A record that was written anew holds together: nobody is told that it is right. An old one is never ok."""
    nowhere = f"127.0.0.1:{free_port}"
    async with labs.running_worker(lab.parts()):
        case, old = await closed(lab, "five"), await closed(lab, "six")
    with (
        books.edited(case, replace_by(lambda r: forged(r, why="nothing happened"))),
        books.edited(old, without_chain),
    ):
        rc, out, err = await books.verify("--all", address=nowhere)
        strict, _, _ = await books.verify("--all", "--strict", address=nowhere)

    lines = out.splitlines()
    assert (rc, strict) == (0, 1)
    assert lines[0].startswith(f"by itself  {case}: 2 row(s), head ")
    assert lines[1] == f"no chain   {old}: closed before this version"
    assert lines[2] == "1 by itself, 1 no chain"
    assert f"Temporal does not answer at {nowhere}" in err
    assert "computes its chain anew is not found" in err


async def test_a_record_that_is_gone_is_found_by_what_temporal_has(lab: labs.Lab, books: Books) -> None:
    """All of them at once, and a line that counts them; one name that is not there is an error."""
    async with labs.running_worker(lab.parts()):
        one, two = await closed(lab, "three"), await closed(lab, "four")

    books.run("DELETE FROM cases WHERE case_id = ?", one)
    gone = Checked(one, "wrong", "its record is gone: by Temporal this case was closed")

    async def missed() -> bool:  # the list of closed workflows lags
        return gone in await books.found_all()

    await labs.until(missed, "the missing record is found")
    rc, out, _ = await books.verify("--all")
    assert rc == 1
    assert f"ok         {two}: " in out
    assert f"WRONG      {one}: its record is gone" in out
    assert out.splitlines()[-1].startswith("1 ok, ")
    assert await books.verify(one) == (1, "", f"the journal has no closed case {one}\n")
    assert await books.verify() == (1, "", "name one case, or give --all\n")


async def test_an_earlier_round_is_vouched_for_by_the_history(lab: labs.Lab, books: Books) -> None:
    """One run, two cases: the result is of the second; the first record is in the history as `close_case` was given it."""
    pager, engine = Pager(holds="Closed"), lab.engines["a0"]
    parts = lab.parts(labs.policy(engine__hang=ClassPolicy(mode="observe")))
    parts.notify = pager
    async with labs.running_worker(parts), ended(lab) as cases:
        await measured(lab)
        await hang(lab, engine)
        handle = await lab.start(lab.hang(engine))
        cases.append(handle)

        async def reached() -> bool:
            return pager.reached.is_set()

        try:
            await labs.until(reached, "people are being told", 40)
            await lab.start(lab.hang(engine, alert="Another", evidence={}, observed_at=datetime.now(UTC)))
        finally:
            pager.go.set()
        last = str((await lab.client.get_workflow_handle(handle.id).result())["case"])
    first = last.rpartition(".")[0] + ".1"
    assert last.endswith(".2")

    both = await books.found_all(handle.id)
    assert [(one.case, one.state) for one in both] == [(first, "ok"), (last, "ok")], both
    assert both[0].why.endswith("as in the workflow's history in Temporal")
    anew = await books.found(first, replace_by(lambda r: forged(r, why="seen by nobody")))
    assert (anew.state, "the workflow's history in Temporal has the head" in anew.why) == ("wrong", True), anew
    books.run("DELETE FROM cases WHERE case_id = ?", first)
    gone = Checked(first, "wrong", "its record is gone: a later round of the same run has one")
    assert gone in await books.found_all()


async def test_the_seal_holds_for_what_is_written_though_secrets_are_taken_out(lab: labs.Lab, books: Books) -> None:
    """A token in an alert's labels and in its evidence: it is in no record, and the record is as it was sealed."""
    async with labs.running_worker(lab.parts()):
        told = lab.hang(
            lab.engines["a0"], alert="Odd", labels={"api_key": "hunter2222", "note": f"Bearer {JWT}"},
            evidence={"said": JWT},
        )  # fmt: skip
        handle = await lab.start(told)
        case = str((await handle.result())["case"])

    kept = books.text(case)
    assert JWT not in kept
    assert "hunter2222" not in kept
    assert [one.state for one in await books.found_all(case)] == ["ok"]


async def receipts_are_compared(books: Books, case: str) -> None:
    """What `interlock undo` would write must be what the record says was done."""
    assert [one.state for one in await books.found_all(case)] == ["ok"]
    name, text = books.run("SELECT receipt_id, receipt FROM receipts WHERE case_id = ? ORDER BY seq", case)[0]
    changed = json.loads(text)
    changed["before"] = dict.fromkeys(changed["before"], "out")
    for stored, said in (
        (json.dumps(changed), f"the receipt {name} has another before in the journal than in the record"),
        ("{}", f"the receipt {name} cannot be read any more"),
    ):
        books.run("UPDATE receipts SET receipt = ? WHERE receipt_id = ?", stored, name)
        assert await books.found_all(case) == [Checked(case, "wrong", said)]
    books.run("UPDATE receipts SET receipt = ?, receipt_id = 'r-other' WHERE receipt_id = ?", text, name)
    assert await books.found_all(case) == [Checked(case, "wrong", f"the receipt {name} is gone from the journal")]
    books.run("UPDATE receipts SET receipt_id = ? WHERE receipt_id = 'r-other'", name)


async def test_a_closed_case_is_shown_as_markdown_and_as_text(
    lab: labs.Lab, books: Books, telemetry: Telemetry, serve: Any, tmp_path: Any
) -> None:
    """A hung engine that was isolated, proven better and put back: what somebody pastes into a post-mortem."""
    issuer = dev_issuer(tmp_path)
    journal = SqlJournal(lab.journal_url)
    app = FastAPI(openapi_url=None)
    answer_problems(app)
    deps = PeopleDeps(
        client=lab.client, verifier=Verifier(issuer.settings), claim_key=labs.CLAIM_KEY, telemetry=telemetry,
        policy=Policy(name="test"), domains=(labs.CLUSTER,),
        closed_cases=closed_cases(journal), closed_case=closed_case(journal),
    )  # fmt: skip
    app.include_router(people_router(deps))
    engine = lab.engines["a1"]
    async with serve(app) as url, labs.running_worker(lab.parts()), ended(lab) as cases:

        async def show(case: str, style: str) -> str:
            rc, out, err = await interlock(
                "cases", "show", case, "--format", style,
                INTERLOCK_API_URL=url, INTERLOCK_TOKEN=issuer.mint("ana", ("sre-oncall",)),
            )  # fmt: skip
            assert rc == 0, err
            return out

        await measured(lab)
        await hang(lab, engine)
        told = lab.hang(engine)
        handle = await lab.start(told)
        cases.append(handle)
        await lab.in_state(handle, "mitigated")
        is_open = await show(handle.id, "text")
        engine.go_on()
        await lab.resolve(told)
        result = await handle.result()

        page, same, text, raw = await asyncio.gather(
            show(handle.id, "markdown"), show(result["case"], "markdown"), show(handle.id, "text"),
            show(result["case"], "json"),
        )  # fmt: skip
    journal.dispose()
    await receipts_are_compared(books, result["case"])

    assert result["head"] == json.loads(raw)["record"]["head"]
    for shown in (page, same):
        assert shown.startswith(f"# `engine.hang` on `{told.target.id}`: back to normal\n\nOn ")
        assert f"- Head of its chain: `{result['head']}`" in shown
        assert f"`endpoint/chat-a/{engine.address}` in → **out**" in shown
        assert f"`endpoint/chat-a/{engine.address}` out → **in**" in shown
        assert "**G16** " in shown
        assert "Nothing of this case stands." in shown
        assert "\n\n\n" not in shown
    assert result["head"] in text
    assert "`" not in text
    assert is_open.endswith(")\nstate: mitigated\n"), is_open
    assert "still open" in is_open


def test_a_waiting_case_says_the_command_that_answers_it() -> None:
    """To be copied, with the digest; a name of a stranger is one word of it."""
    asked = {"step": "1-x y", "digest": "abc", "quorum": 2, "group": "leads", "expires_at": "12:00", "already": ["ana"]}
    lines = _waiting({"state": "waiting_approval", "waiting": asked}, "remediate:eu1")

    assert lines == [
        "state: waiting_approval: 2 of leads until 12:00, given by ana",
        "interlock approve remediate:eu1 --step '1-x y' --digest abc --reason '…'",
    ]
    assert _waiting({"state": "closed"}, "remediate:eu1") == []
