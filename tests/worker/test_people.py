"""The door for people, and the command line that goes through it."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from temporalio.client import Client

from activities.errors import Retryable
from runbooks.claims import SignedClaim, check
from runbooks.detection import TASK_QUEUE, guard_id
from runbooks.policy import Policy
from worker.identity import DevIssuer, Verifier, dev_issuer, ensure_claim_key
from worker.intake_http import answer_problems
from worker.people import Cases, people_router
from worker.people_desk import PeopleDeps
from worker.telemetry import Telemetry

_numbers = itertools.count()
APPROVE = {"step": "1", "digest": "abc", "decision": "approve", "reason": "looks right"}
RECORD = {"case": "c-1", "workflow_id": "remediate:eu1/service/gone", "outcome": "restored", "class": "engine.hang"}


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> DevIssuer:
    """Who logs people in."""
    return dev_issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The claim key."""
    return ensure_claim_key(tmp_path_factory.mktemp("key") / "claim.key").read_bytes()


@pytest.fixture(scope="session")
def deps(client: Client, telemetry: Telemetry, issuer: DevIssuer, key: bytes) -> PeopleDeps:
    """What the door is made of."""

    async def closed_cases(limit: int) -> list[dict[str, Any]]:
        return [RECORD]

    async def closed_case(name: str) -> dict[str, Any] | None:
        return RECORD if name in RECORD.values() else None

    return PeopleDeps(
        client=client,
        verifier=Verifier(issuer.settings),
        claim_key=key,
        telemetry=telemetry,
        policy=Policy(name="test", groups={"sre-oncall": ("bob",), "leads": ("bob",)}),
        domains=("eu1", "us1"),
        closed_cases=closed_cases,
        closed_case=closed_case,
    )


@pytest.fixture(scope="session")
async def api(deps: PeopleDeps, serve: Any) -> AsyncIterator[str]:
    """The base URL of a served door for people."""
    async with serve(app_of(deps)) as url:
        yield url


def app_of(deps: PeopleDeps) -> FastAPI:
    """The door as an app."""
    app = FastAPI(openapi_url=None)
    answer_problems(app)
    app.include_router(people_router(deps))
    return app


@pytest.fixture
async def ana(api: str, issuer: DevIssuer) -> AsyncIterator[httpx.AsyncClient]:
    """Ana is on call, by her issuer's word."""
    headers = {"authorization": f"Bearer {issuer.mint('ana', ('sre-oncall',))}"}
    async with httpx.AsyncClient(base_url=api, headers=headers, timeout=20) as http:
        yield http


@pytest.fixture
async def case(client: Client) -> str:
    """The id of an open case."""
    name = f"remediate:eu1/service/people-{next(_numbers)}/endpoint/10.0.0.1:80"
    await client.start_workflow("Remediation", {}, id=name, task_queue=TASK_QUEUE)
    return name


async def claims(client: Client, case: str) -> list[SignedClaim]:
    """The claims that reached the case."""
    found = await client.get_workflow_handle(case).query("status")
    return [SignedClaim.model_validate(c) for c in found["claims"]]


async def test_a_decision_reaches_the_case_as_a_signed_claim(
    ana: httpx.AsyncClient, client: Client, case: str, key: bytes
) -> None:
    """With the verified name, never with the token."""
    answer = await ana.post(f"/v1/cases/{case}/decide", json=APPROVE)

    assert (answer.status_code, answer.json()["who"]) == (200, "ana")
    (claim,) = await claims(client, case)
    assert check(claim, key, datetime.now(UTC)) == ""
    assert (claim.who, claim.groups, claim.case, claim.digest) == ("ana", ("sre-oncall",), case, "abc")
    history = (await client.get_workflow_handle(case).fetch_history()).to_json()
    assert ana.headers["authorization"].removeprefix("Bearer ") not in history


async def test_groups_of_the_policy_are_in_the_claim(api: str, issuer: DevIssuer, client: Client, case: str) -> None:
    """An issuer that sends no groups is enough when policy names the people."""
    async with httpx.AsyncClient(base_url=api, headers={"authorization": f"Bearer {issuer.mint('bob')}"}) as http:
        assert (await http.post(f"/v1/cases/{case}/takeover", json={"reason": "I am on it"})).status_code == 200

    assert (await claims(client, case))[0].groups == ("leads", "sre-oncall")


@pytest.mark.parametrize("action", ["takeover", "hand_back"])
async def test_takeover_and_hand_back_are_claims_about_the_whole_case(
    ana: httpx.AsyncClient, client: Client, case: str, action: str
) -> None:
    """No step, no digest."""
    assert (await ana.post(f"/v1/cases/{case}/{action}", json={"reason": "mine"})).status_code == 200
    assert (await claims(client, case))[0].action == action


async def test_what_the_case_refuses_is_409_with_its_reason(ana: httpx.AsyncClient, case: str) -> None:
    """By its validator, or by its answer."""
    by_validator = await ana.post(f"/v1/cases/{case}/decide", json={**APPROVE, "step": "nowhere"})
    by_answer = await ana.post(f"/v1/cases/{case}/decide", json={**APPROVE, "digest": "old"})

    assert (by_validator.status_code, by_validator.json()["error"]) == (409, "no such step: nowhere")
    assert (by_answer.status_code, by_answer.json()["error"]) == (409, "this approval is for another plan")


async def test_an_answer_that_is_neither_yes_nor_no_is_not_taken_for_yes(ana: httpx.AsyncClient, case: str) -> None:
    """502, look at the case."""
    assert (await ana.post(f"/v1/cases/{case}/abort", json={"reason": "enough"})).status_code == 502


async def test_a_case_that_does_not_exist_or_has_closed_takes_no_decision(
    ana: httpx.AsyncClient, client: Client, case: str
) -> None:
    """404 in one sentence."""
    handle = client.get_workflow_handle(case)
    await handle.signal("finish")
    await handle.result()

    for name in (case, "remediate:nowhere"):
        answer = await ana.post(f"/v1/cases/{name}/decide", json=APPROVE)
        assert (answer.status_code, "no open case" in answer.json()["error"]) == (404, True)


async def test_only_cases_can_be_reached(ana: httpx.AsyncClient) -> None:
    """Not the Guard, not anybody else's workflow."""
    assert (await ana.post("/v1/cases/guard:eu1/takeover", json={"reason": "x"})).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "step"),
        ({**APPROVE, "digest": ""}, "digest"),
        ({**APPROVE, "decision": "maybe"}, "decision"),
        ({**APPROVE, "approver": "ana"}, "approver"),
        ({**APPROVE, "reason": ""}, "reason"),
        ([], "request"),
    ],
)
async def test_a_wrong_body_is_422_with_the_field(ana: httpx.AsyncClient, case: str, body: Any, field: str) -> None:
    """An `approver` typed into JSON is not even a field."""
    answer = await ana.post(f"/v1/cases/{case}/decide", json=body)

    assert answer.status_code == 422
    assert field in (answer.json()["field"], answer.json()["error"].partition(":")[0])


async def test_without_a_valid_token_nothing_is_shown_or_done(
    api: str, issuer: DevIssuer, client: Client, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    """401 on every route, and the token is logged nowhere."""
    caplog.set_level(logging.DEBUG)
    expired = issuer.mint("ana", ("sre-oncall",), life_s=-10)
    async with httpx.AsyncClient(base_url=api) as http:
        for headers in ({}, {"authorization": f"Bearer {expired}"}, {"authorization": "Bearer detector-token"}):
            for method, path in (
                ("GET", "/v1/cases"),
                ("GET", f"/v1/cases/{case}"),
                ("POST", f"/v1/cases/{case}/decide"),
                ("POST", "/v1/halt"),
                ("POST", "/v1/domains/eu1/resume"),
            ):
                answer = await http.request(method, path, headers=headers, json=APPROVE if method == "POST" else None)
                assert answer.status_code == 401, path

    assert await claims(client, case) == []
    assert expired not in caplog.text


async def test_halt_of_all_reaches_the_guard_of_every_domain(ana: httpx.AsyncClient, client: Client) -> None:
    """Also of one that has no Guard yet: it is started, halted."""
    answer = await ana.post("/v1/halt", json={"reason": "storm"})

    assert answer.json()["domains"] == ["eu1", "us1"]
    for domain in ("eu1", "us1"):
        orders = await client.get_workflow_handle(guard_id(domain)).query("view")
        assert {"order": "halt", "reason": "storm", "who": "ana"} in orders


@pytest.mark.parametrize(("path", "order"), [("resume", "resume"), ("reset-breaker", "reset_breaker")])
async def test_an_order_to_one_domain_is_a_signed_claim_that_only_its_guard_takes(
    ana: httpx.AsyncClient, client: Client, key: bytes, path: str, order: str
) -> None:
    """Not a signal: anybody may send one of those, and nothing would come back."""
    await ana.post("/v1/halt", json={"reason": "storm"})
    answer = await ana.post(f"/v1/domains/us1/{path}", json={"reason": "over"})
    unknown = await ana.post(f"/v1/domains/mars/{path}", json={"reason": "x"})

    assert (answer.status_code, answer.json()) == (200, {"order": order, "domains": ["us1"], "who": "ana"})
    views = {d: await client.get_workflow_handle(guard_id(d)).query("view") for d in ("eu1", "us1")}
    claim = SignedClaim.model_validate(views["us1"][-1]["claim"])
    assert check(claim, key, datetime.now(UTC)) == ""
    assert (claim.action, claim.case, claim.who, claim.groups) == (order, "guard:us1", "ana", ("sre-oncall",))
    assert views["eu1"][-1]["order"] == "halt"
    assert (unknown.status_code, "eu1, us1" in unknown.json()["error"]) == (404, True)


async def test_what_a_guard_refuses_is_409_with_its_reason(ana: httpx.AsyncClient) -> None:
    """Of one domain: its sentence. Of all: each domain's, and which have resumed."""
    await ana.post("/v1/halt", json={"reason": "storm"})
    one = await ana.post("/v1/domains/eu1/resume", json={"reason": "too early"})
    every = await ana.post("/v1/resume", json={"reason": "too early"})

    assert (one.status_code, one.json()["error"]) == (409, "eu1: the fault is still there")
    assert every.json()["error"] == "eu1: the fault is still there; us1: the fault is still there (resumed: none)"


async def test_a_resume_starts_the_guard_that_does_not_run_and_asks_it(
    ana: httpx.AsyncClient, client: Client, serve: Any, deps: PeopleDeps
) -> None:
    """Somebody may have terminated it: the halt is in the journal then, and only a Guard can end it."""
    async with (
        serve(app_of(replace(deps, domains=("ap1",)))) as url,
        httpx.AsyncClient(base_url=url, headers=ana.headers, timeout=20) as http,
    ):
        answer = await http.post("/v1/domains/ap1/resume", json={"reason": "over"})

    assert (answer.status_code, answer.json()) == (200, {"order": "resume", "domains": ["ap1"], "who": "ana"})
    orders = await client.get_workflow_handle(guard_id("ap1")).query("view")
    assert orders[-1]["claim"]["case"] == guard_id("ap1")


async def test_when_no_worker_answers_a_halt_holds_and_a_resume_is_503(
    ana: httpx.AsyncClient, client: Client, serve: Any, deps: PeopleDeps
) -> None:
    """The safe side needs nobody; the other one is answered by the Guard itself, or not at all."""
    await client.start_workflow("Guard", {}, id=guard_id("deaf"), task_queue="nobody-polls-here")
    async with (
        serve(app_of(replace(deps, domains=("deaf",), timeout_s=1.0))) as url,
        httpx.AsyncClient(base_url=url, headers=ana.headers, timeout=20) as http,
    ):
        halted = await http.post("/v1/domains/deaf/halt", json={"reason": "storm"})
        resumed = await http.post("/v1/domains/deaf/resume", json={"reason": "over"})

    assert halted.status_code == 200
    assert (resumed.status_code, "did not answer" in resumed.json()["error"]) == (503, True)


async def test_who_may_approve_nothing_may_not_halt(api: str, issuer: DevIssuer) -> None:
    """Halting needs an approver group, any of them."""
    token = issuer.mint("carl", ("marketing",))
    async with httpx.AsyncClient(base_url=api, headers={"authorization": f"Bearer {token}"}) as http:
        assert (await http.post("/v1/halt", json={"reason": "fun"})).status_code == 403


async def test_cases_are_listed_open_and_closed(ana: httpx.AsyncClient, case: str, eventually: Any) -> None:
    """Open ones from Temporal, closed ones from the journal."""

    async def listed() -> bool:
        found = (await ana.get("/v1/cases")).json()
        return found["closed"] == [RECORD] and case in {c["workflow_id"] for c in found["open"]}

    await eventually(listed)


async def test_one_case_is_shown_from_wherever_it_is(ana: httpx.AsyncClient, case: str) -> None:
    """Open: its own status. Closed: the record, by workflow id or case id. Neither: 404."""
    assert (await ana.get(f"/v1/cases/{case}")).json()["state"] == "waiting"
    assert (await ana.get(f"/v1/cases/{RECORD['workflow_id']}")).json() == RECORD
    assert (await ana.get("/v1/cases/c-1")).json() == RECORD
    assert (await ana.get("/v1/cases/remediate:nowhere")).status_code == 404
    assert (await ana.get("/v1/cases/c-2")).status_code == 404


async def test_a_closed_case_is_shown_with_the_head_that_was_sealed(deps: PeopleDeps) -> None:
    """Temporal answers by replaying, and its clock after a local activity may run otherwise: then its chain has another head."""
    sealed = {"case": "c-1", "head": "as sealed"}

    async def closed_case(name: str) -> dict[str, Any] | None:
        return {"state": "closed", "record": sealed} if name == "c-1" else None

    async def away(name: str) -> dict[str, Any] | None:
        raise Retryable("the journal does not answer")

    desk = Cases(replace(deps, closed_case=closed_case))
    replayed = {"case": "c-1", "head": "as replayed"}

    assert await desk._as_written({"state": "closed", "record": replayed}) == {"state": "closed", "record": sealed}
    for other in ({"state": "starting"}, {"state": "closing", "record": replayed}):
        assert await desk._as_written(other) == other, "an open case says itself how it stands"
    gone = await desk._as_written({"state": "closed", "record": {**replayed, "case": "c-2"}})
    told = await Cases(replace(deps, closed_case=away))._as_written({"state": "closed", "record": replayed})
    assert (gone["record"]["head"], told["record"]) == ("as replayed", replayed), "shown all the same"
    assert gone["unsealed"] == "the journal does not have it: this record is as Temporal replays it"
    assert told["unsealed"] == "the journal does not answer: this record is as Temporal replays it"


async def interlock(api: str, token: str, *words: str) -> tuple[int, str, str]:
    """Runs the real command line in a process of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
    env |= {"INTERLOCK_API_URL": api, "INTERLOCK_TOKEN": token} if token else {"INTERLOCK_API_URL": api}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "worker", *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await child.communicate()
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


async def test_the_command_line_goes_through_this_door(api: str, issuer: DevIssuer, client: Client, case: str) -> None:
    """approve, withdraw, a refused reject, takeover, halt, cases: exit status and one readable line each."""
    token = issuer.mint("ana", ("sre-oncall",))
    words = (case, "--step", "1", "--digest", "abc", "--reason", "ok")
    approved, withdrawn, refused, taken, halted, shown, listed = await asyncio.gather(
        interlock(api, token, "approve", *words),
        interlock(api, token, "withdraw", *words),
        interlock(api, token, "reject", case, "--step", "1", "--digest", "old", "--reason", "no"),
        interlock(api, token, "takeover", case, "--reason", "mine"),
        interlock(api, token, "halt", "eu1", "--reason", "storm"),
        interlock(api, token, "cases", "show", case),
        interlock(api, token, "cases"),
    )

    assert approved[:2] == (0, "approve of 1 by ana was taken\n")
    assert withdrawn[:2] == (0, "withdraw of 1 by ana was taken\n")
    assert refused == (1, "", "this approval is for another plan\n")
    assert taken[0] == 0
    assert halted[0] == 0
    assert halted[1].startswith("halt of eu1 by ana: no lever moves there")
    assert json.loads(shown[1])["state"] == "waiting"
    assert "restored         engine.hang" in listed[1]
    assert RECORD["case"] in listed[1]
    assert {c.action for c in await claims(client, case)} == {"decide", "takeover"}
    assert {c.decision for c in await claims(client, case)} == {"approve", "withdraw", "reject", None}


async def test_orders_of_the_command_line_go_through_this_door(
    ana: httpx.AsyncClient, api: str, issuer: DevIssuer
) -> None:
    """halt first, then resume and breaker reset as claims; what the Guard refuses is its sentence on stderr."""
    await ana.post("/v1/halt", json={"reason": "storm"})
    token = issuer.mint("ana", ("sre-oncall",))
    resumed, reset, refused, every = await asyncio.gather(
        interlock(api, token, "resume", "us1", "--reason", "over"),
        interlock(api, token, "breaker", "reset", "us1", "--reason", "looked"),
        interlock(api, token, "breaker", "reset", "us1", "--reason", "too early"),
        interlock(api, token, "resume", "--all", "--reason", "over"),
    )

    assert resumed[0] == 0
    assert resumed[1].startswith("resume of us1 by ana: levers may move there again")
    assert reset[0] == 0
    assert reset[1].startswith("breaker reset of us1 by ana: levers may move there again")
    assert refused == (1, "", "us1: the fault is still there\n")
    assert every[0] == 0
    assert every[1].startswith("resume of eu1, us1 by ana: ")


async def test_the_command_line_says_what_is_missing(api: str, issuer: DevIssuer, free_port: int) -> None:
    """No token, no server, no domain: one sentence, exit 1, no traceback."""
    no_token, no_server, no_domain = await asyncio.gather(
        interlock(api, "", "cases"),
        interlock(f"http://127.0.0.1:{free_port}", "t", "cases"),
        interlock(api, issuer.mint("ana"), "halt", "--reason", "x"),
    )

    for (status, _, err), says in (
        (no_token, "INTERLOCK_TOKEN"),
        (no_server, "does not answer"),
        (no_domain, "--all"),
    ):
        assert status == 1
        assert says in err
        assert err.count("\n") == 1
