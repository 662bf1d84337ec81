"""`interlock cases verify` against a real journal and a real Temporal; `interlock cases show` as people paste it."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable
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
from worker.doors import closed_case, closed_cases
from worker.identity import Verifier, dev_issuer
from worker.intake_http import answer_problems
from worker.people import people_router
from worker.people_desk import PeopleDeps
from worker.telemetry import Telemetry

Json = dict[str, Any]
Edit = Callable[[Json], object]
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

    async def edited(self, case: str, edit: Edit, *words: str, address: str = "") -> tuple[int, str, str]:
        """What `verify` says while the record is edited. It is put back."""
        before = self.text(case)
        record = json.loads(before)
        edit(record)
        self.write(case, json.dumps(record))
        try:
            return await self.verify(case, *words, address=address)
        finally:
            self.write(case, before)

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


def replace_by(maker: Callable[[Json], Json]) -> Edit:
    def edit(record: Json) -> None:
        made = maker(dict(record))
        record.clear()
        record.update(made)

    return edit


async def test_verify_finds_what_was_done_to_a_closed_record(lab: labs.Lab, books: Books, free_port: int) -> None:
    """By the record's own chain; by Temporal where the chain was computed anew, taken out, or the run's name changed."""
    nowhere = f"127.0.0.1:{free_port}"
    async with labs.running_worker(lab.parts()):
        case, other = await closed(lab, "one"), await closed(lab, "two")
    good = await books.verify(case)
    assert good[0] == 0, good
    assert good[1].startswith(f"ok         {case}: 2 row(s), head ")
    assert "as in the workflow's result in Temporal" in good[1]
    assert good[2] == ""

    rows: list[tuple[Edit, str]] = [
        (lambda r: r["timeline"][1].update(text="restored: all is well"), "row 1 "),
        (lambda r: r["timeline"].pop(), "the last rows were removed"),
        (lambda r: r.update(outcome="fixed"), "the field outcome was changed"),
        (lambda r: r["timeline"][1].update(text="\x1b[2Jgone", what="\x1b[2J"), "row 1 "),
        (lambda r: r.update(case=other), "its row holds the record of another case"),
    ]
    for edit, said in rows:
        rc, out, _ = await books.edited(case, edit)
        assert (rc, out.startswith("WRONG"), said in out, "\x1b" in out) == (1, True, True, False), out

    anew = replace_by(lambda r: forged(r, why="nothing happened"))
    rc, out, _ = await books.edited(case, anew)
    assert (rc, "it was written anew: its head is" in out) == (1, True), out
    hidden = replace_by(lambda r: forged(r, why="nothing happened", run_id="00000000-0000-0000-0000-000000000000"))
    rc, out, _ = await books.edited(case, hidden)
    assert (rc, "it was written anew" in out, "the result of run" in out) == (1, True, True), out

    rc, out, err = await books.edited(case, anew, address=nowhere)
    assert (rc, out.startswith("by itself  ")) == (0, True), out
    assert f"Temporal does not answer at {nowhere}" in err
    assert "computes its chain anew is not found" in err
    assert (await books.edited(case, anew, "--strict", address=nowhere))[0] == 1

    def old(record: Json) -> None:
        for name in ("chain_base", "chain_end", "seals", "head"):
            record.pop(name)
        for row in record["timeline"]:
            row.pop("n")
            row.pop("hash")

    rc, out, _ = await books.edited(case, old)
    assert (rc, "its chain was taken out" in out) == (1, True), out
    rc, out, _ = await books.edited(case, old, address=nowhere)
    assert (rc, out) == (0, f"no chain   {case}: closed before this version\n")
    books.write(case, "{")
    assert "its record is not JSON" in (await books.verify(case))[1]


async def test_a_record_that_is_gone_is_found_by_what_temporal_has(lab: labs.Lab, books: Books) -> None:
    """All of them at once, and a line that counts them; one name that is not there is an error."""
    async with labs.running_worker(lab.parts()):
        one, two = await closed(lab, "three"), await closed(lab, "four")

    async def seen() -> bool:
        return f"{one}: " in (await books.verify("--all"))[1]

    await labs.until(seen, "verify knows the case")
    books.run("DELETE FROM cases WHERE case_id = ?", one)

    async def missed() -> Any:  # the list of closed workflows lags
        found = await books.verify("--all")
        return found if f"WRONG      {one}: its record is gone: by Temporal this case was closed" in found[1] else None

    rc, out, _ = await labs.until(missed, "the missing record is found")
    assert rc == 1
    assert f"ok         {two}: " in out
    assert "1 ok, " in out.splitlines()[-1]
    gone = await books.verify(one)
    assert (gone[0], gone[1], gone[2]) == (1, "", f"the journal has no closed case {one}\n")
    assert (await books.verify())[0] == 1


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

    rc, out, _ = await books.verify(handle.id)
    assert rc == 0, out
    assert [line.split(": ")[0] for line in out.splitlines()] == [f"ok         {c}" for c in (first, last)]
    assert "as in the workflow's history in Temporal" in out.splitlines()[0]
    rc, out, _ = await books.edited(first, replace_by(lambda r: forged(r, why="seen by nobody")))
    assert (rc, "the workflow's history in Temporal has the head" in out) == (1, True), out
    books.run("DELETE FROM cases WHERE case_id = ?", first)
    assert f"WRONG      {first}: its record is gone: a later round" in (await books.verify("--all"))[1]


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
    rc, out, _ = await books.verify(case)
    assert (rc, out.startswith("ok ")) == (0, True), out


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
        await measured(lab)
        await hang(lab, engine)
        told = lab.hang(engine)
        handle = await lab.start(told)
        cases.append(handle)
        await lab.in_state(handle, "mitigated")
        engine.go_on()
        await lab.resolve(told)
        result = await handle.result()

        async def show(case: str, style: str) -> str:
            rc, out, err = await interlock(
                "cases", "show", case, "--format", style,
                INTERLOCK_API_URL=url, INTERLOCK_TOKEN=issuer.mint("ana", ("sre-oncall",)),
            )  # fmt: skip
            assert rc == 0, err
            return out

        page, same, text, raw = await asyncio.gather(
            show(handle.id, "markdown"), show(result["case"], "markdown"), show(handle.id, "text"),
            show(result["case"], "json"),
        )  # fmt: skip
    journal.dispose()

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
