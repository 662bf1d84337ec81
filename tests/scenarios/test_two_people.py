"""Two people, two tokens; words that are taken back; who asked for it does not approve it; a person has the case."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from runbooks.guard import Answer, Release
from runbooks.policy import ClassPolicy, Policy
from tests import lab as labs
from tests.scenarios.desk import DOORS, LOGIN, Case, Said, desk, vouching
from tests.scenarios.hostile import Pager, ended, hang, measured, send, shown, signed
from tests.scenarios.test_guard_workflow import guard, question, start_guard

WITHDRAW = Said("ana", decision="withdraw")


def rules(**more: Any) -> Policy:
    """A hung engine asks two of sre-oncall. One unverified decision would count, where one were enough."""
    rule = {"mode": "ask", "quorum": 2, "accept_unverified": True, "approval_ttl_s": 300, **more}
    policy = labs.policy(engine__hang=ClassPolicy.model_validate(rule))
    timing = policy.timing.model_copy(update={"hold_limit_s": 300.0})
    return policy.model_copy(update={"timing": timing})


@asynccontextmanager
async def asks(
    lab: labs.Lab, folder: Path, policy: Policy, sender: Client | None = None, **more: Any
) -> AsyncIterator[Case]:
    """An engine hangs, and its case asks. `sender`: whose client starts it."""
    engine = lab.engines["a0"]
    parts = replace(lab.parts(policy), client=vouching(lab.client), **more)
    async with labs.running_worker(parts), ended(lab) as cases, desk(lab, policy, folder) as people:
        await start_guard(lab, look_every_s=60)
        await measured(lab)
        await hang(lab, engine)
        handle = await replace(lab, client=sender or lab.client).start(lab.hang(engine))
        handle = lab.client.get_workflow_handle(handle.id)
        cases.append(handle)
        asked = (await lab.in_state(handle, "waiting_approval", 60))["waiting"]
        yield Case(lab, people, handle, asked["step"], asked["digest"])


async def untouched(case: Case) -> None:
    """It waits, and Envoy has the engine in rotation."""
    await case.lab.in_state(case.handle, "waiting_approval")
    assert case.lab.engines["a0"].address in await case.lab.rotation("chat-a")


async def test_two_people_approve_with_two_tokens_and_then_it_acts(lab: labs.Lab, tmp_path: Path) -> None:
    """One is not enough, and the page says whose voice is there; the second moves it. Both are in the record."""
    async with asks(lab, tmp_path, rules()) as case:
        assert await DOORS["api"](case, Said("ana")) == ""
        await untouched(case)
        assert "Approved so far: ana" in await shown(case.handle)
        assert "one voice" in await DOORS["api"](case, Said("ana"))
        await untouched(case)
        assert await DOORS["api"](case, Said("bo")) == ""
        status = await lab.in_state(case.handle, "mitigated", 60)
        assert lab.engines["a0"].address not in await lab.rotation("chat-a")
        counted = [d for d in status["record"]["decisions"] if d["accepted"]]
        assert [(d["who"], d["verified"], d["approve"]) for d in counted] == [("ana", True, True), ("bo", True, True)]
        allowed = next(v for v in status["record"]["verdicts"] if v["verdict"]["outcome"] == "allow")
        assert any(g["reason"] == "approved by ana, bo" for g in allowed["verdict"]["gates"] if g["gate"] == "G7")


async def test_an_unverified_decision_is_never_one_of_two(lab: labs.Lab, tmp_path: Path) -> None:
    """At the signal, alone and beside a verified one, though policy takes one unverified decision. A verified one is."""
    async with asks(lab, tmp_path, rules()) as case:
        assert "not verified" in await DOORS["signal"](case, Said("bo", verified=False))
        assert await DOORS["signal"](case, Said("ana")) == ""
        assert "not verified" in await DOORS["signal"](case, Said("bo", verified=False))
        await untouched(case)
        assert await DOORS["signal"](case, Said("bo")) == ""
        await lab.in_state(case.handle, "mitigated", 60)


async def test_a_rejection_by_the_second_ends_the_step(lab: labs.Lab, tmp_path: Path) -> None:
    """One yes and one no is no."""
    async with asks(lab, tmp_path, rules()) as case:
        assert await DOORS["api"](case, Said("ana")) == ""
        assert await DOORS["command line"](case, Said("bo", decision="reject")) == ""
        assert (await case.handle.result())["outcome"] == "paged"
        assert lab.engines["a0"].address in await lab.rotation("chat-a")


async def test_an_approval_is_taken_back_at_every_door(lab: labs.Lab, tmp_path: Path) -> None:
    """Then the other one is not enough; given again, it is."""
    async with asks(lab, tmp_path, rules()) as case:
        for door in ("signal", "api", "command line", "update"):
            assert await DOORS[door](case, Said("ana")) == "", door
            assert await DOORS[door](case, WITHDRAW) == "", door
            assert "no approval here" in await DOORS[door](case, WITHDRAW), door
        assert await DOORS["api"](case, Said("bo")) == ""
        await untouched(case)
        page = await shown(case.handle)
        assert "Approved so far: bo" in page
        assert "approval taken back" in page
        assert await DOORS["api"](case, Said("ana")) == ""
        await lab.in_state(case.handle, "mitigated", 60)


@asynccontextmanager
async def held_by_another(lab: labs.Lab) -> AsyncIterator[None]:
    """Another case has the domain."""
    held = question(1)

    async def holds() -> bool:
        answer: Answer = await guard(lab).execute_update("acquire", held, result_type=Answer)
        return answer.kind == "permit"

    await labs.until(holds, "the domain is held")
    yield
    now = datetime.now(UTC)
    await guard(lab).signal("release", Release(case=held.case, workflow_id=held.workflow_id, applied=False, at=now))


@pytest.mark.parametrize("door", ["signal", "api"])
async def test_an_approval_is_taken_back_while_the_approved_step_waits_for_the_domain(
    lab: labs.Lab, tmp_path: Path, door: str
) -> None:
    """Enough have approved, nothing is done yet: it asks again, gives its place in the queue up, and acts on a new yes."""
    async with asks(lab, tmp_path, rules(quorum=1)) as case:
        async with held_by_another(lab):
            assert await DOORS["api"](case, Said("ana")) == ""
            await lab.in_state(case.handle, "waiting_domain", 60)
            assert await DOORS[door](case, Said("bo")) == "no step waits for a decision now"
            assert await DOORS[door](case, WITHDRAW) == ""
            await untouched(case)
            assert (await guard(lab).query("view"))["queue"] == 0
        await untouched(case)
        assert await DOORS["api"](case, Said("bo")) == ""
        await lab.in_state(case.handle, "mitigated", 60)


async def test_who_starts_a_case_with_a_login_does_not_approve_it(lab: labs.Lab, tmp_path: Path) -> None:
    """The detection names nobody; the start event does, and the API's door reads it there as well."""
    config = lab.client.service_client.config
    dan = await Client.connect(config.target_host, identity=f"{LOGIN}dan", data_converter=lab.client.data_converter)
    async with asks(lab, tmp_path, rules(quorum=1), dan) as case:
        assert "dan asked for this" in await DOORS["api"](case, Said("dan"))
        assert "dan asked for this" in await DOORS["signal"](case, Said("dan"))
        await untouched(case)
        assert "dan (asked for it)" in (await shown(case.handle)).replace("\\", "")
        assert await DOORS["api"](case, Said("ana")) == ""
        await lab.in_state(case.handle, "mitigated", 60)


async def test_the_page_that_tells_of_a_waiting_step_holds_the_command_that_decides_it(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """Told once for one request; the command is copied from it and works."""
    async with asks(lab, tmp_path, rules(quorum=1)) as case:
        told = [p for p in lab.pages() if p["title"].startswith("Approval asked") and case.handle.id in p["body"]]
        (page,) = told[-1:]
        line = next(text for text in page["body"].splitlines() if text.startswith("Command line: "))
        program, *words = shlex.split(line.removeprefix("Command line: "))
        assert (program, words[0], words[1]) == ("interlock", "approve", case.handle.id)
        assert await case.desk.interlock(case.token(Said("ana")), *words) == (
            0,
            f"approve of {case.step} by ana was taken",
        )
        await lab.in_state(case.handle, "mitigated", 60)


async def test_who_decides_while_the_page_is_still_on_its_way_is_counted(lab: labs.Lab, tmp_path: Path) -> None:
    """The step is shown before people are told: a quick approval must not be taken for one of an earlier asking."""
    pager = Pager(holds="Approval asked")
    async with asks(lab, tmp_path, rules(quorum=1), notify=pager) as case:
        await pager.reached.wait()
        assert await DOORS["api"](case, Said("ana")) == ""
        pager.go.set()
        await lab.in_state(case.handle, "mitigated", 60)


# --- "I am on it", in other states than the one that tests/scenarios/test_decisions.py begins with ---------------------


async def test_taken_over_while_it_waits_for_approval_no_approval_moves_it_and_hand_back_asks_anew(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """The voice from before the takeover was for the plan of that time."""
    async with asks(lab, tmp_path, rules()) as case:
        assert await DOORS["api"](case, Said("ana")) == ""
        assert (await send(case.handle, signed(case.handle, "takeover"))).accepted
        await lab.in_state(case.handle, "taken_over")
        assert await DOORS["api"](case, Said("bo")) == "no step waits for a decision now"
        assert (await send(case.handle, signed(case.handle, "hand_back"))).accepted
        status = await lab.in_state(case.handle, "waiting_approval")
        assert status["waiting"]["already"] == []
        assert lab.engines["a0"].address in await lab.rotation("chat-a")


async def test_taken_over_while_it_waits_for_the_domain_it_leaves_the_queue_and_touches_nothing(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """Its turn would come otherwise while a person has the case."""
    async with asks(lab, tmp_path, rules(quorum=1)) as case:
        async with held_by_another(lab):
            assert await DOORS["api"](case, Said("ana")) == ""
            await lab.in_state(case.handle, "waiting_domain", 60)
            assert (await send(case.handle, signed(case.handle, "takeover"))).accepted
            await lab.in_state(case.handle, "taken_over")
            assert (await guard(lab).query("view"))["queue"] == 0
        assert (await guard(lab).query("view"))["holder"] is None
        assert lab.engines["a0"].address in await lab.rotation("chat-a")


async def test_taken_over_while_it_is_verified_what_was_done_stays_and_a_person_has_it(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """Neither taken back nor gone on with: its receipt is ready for undo, the domain is free."""
    async with asks(lab, tmp_path, rules(quorum=1)) as case:
        assert await DOORS["api"](case, Said("ana")) == ""
        await lab.in_state(case.handle, "verifying", 60)
        assert (await send(case.handle, signed(case.handle, "takeover"))).accepted
        status = await lab.in_state(case.handle, "taken_over")
        (step,) = status["record"]["steps"]
        assert step["standing"] is not None
        assert [e["outcome"] for e in step["effects"]] == ["cannot_tell"]
        assert lab.engines["a0"].address not in await lab.rotation("chat-a")
        assert (await guard(lab).query("view"))["holder"] is None
        assert (await send(case.handle, signed(case.handle, "hand_back"))).accepted
        await lab.in_state(case.handle, "mitigated", 60)


async def test_taken_over_while_it_restores_nothing_is_put_back_or_taken_away_any_more(
    lab: labs.Lab, tmp_path: Path
) -> None:
    """The part that is under way ends; the mitigation is not applied anew because its proof was cut short."""
    async with asks(lab, tmp_path, rules(quorum=1)) as case:
        engine = lab.engines["a0"]
        assert await DOORS["api"](case, Said("ana")) == ""
        await lab.in_state(case.handle, "mitigated", 60)
        engine.go_on()
        await lab.resolve(lab.hang(engine))
        await lab.in_state(case.handle, "restoring", 60)
        assert (await send(case.handle, signed(case.handle, "takeover"))).accepted
        status = await lab.in_state(case.handle, "taken_over", 60)
        (step,) = status["record"]["steps"]
        assert not [e for e in status["timeline"] if e["what"].startswith("undo")]
        assert (step["standing"] is None) == (engine.address in await lab.rotation("chat-a"))
        assert (await guard(lab).query("view"))["holder"] is None
        assert (await send(case.handle, signed(case.handle, "hand_back"))).accepted
        assert (await case.handle.result())["outcome"] in ("restored", "fixed")
        assert engine.address in await lab.rotation("chat-a")
