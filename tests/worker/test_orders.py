"""Orders to a real Guard at every door: halting needs nothing; resume and the reset of a breaker need a verified person."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.worker import Worker

from activities.adapters.sql import SqlJournal
from activities.adapters.webhook import LogNotify
from activities.attest import AttestActivities
from activities.reaper import ReaperActivities
from activities.turns import TurnActivities
from runbooks.claims import SignedClaim, sign
from runbooks.detection import guard_id
from runbooks.facts import GuardView
from runbooks.guard import GuardState
from runbooks.guard_book import Book
from runbooks.people import Ordered
from runbooks.policy import Policy
from tests.scenarios.desk import LOGIN, vouching
from worker.identity import DevIssuer, Verifier, dev_issuer
from worker.intake_http import answer_problems
from worker.people import people_router
from worker.people_desk import PeopleDeps
from worker.plugin import interlock_plugin
from worker.telemetry import Telemetry

KEY = b"k" * 32
GROUPS = {"sre-oncall": ("bob",)}
ORDERS = ("resume", "reset_breaker")


@dataclass
class Stopped:
    """A real Guard that is halted, with a tripped breaker; its doors."""

    client: Client
    handle: WorkflowHandle[Any, Any]
    url: str
    issuer: DevIssuer
    interlock: Callable[..., Awaitable[tuple[int, str, str]]]

    @property
    def domain(self) -> str:
        return self.handle.id.removeprefix("guard:")

    async def view(self) -> GuardView:
        """What the Guard says of itself."""
        found: GuardView = await self.handle.query("view", result_type=GuardView)
        return found

    async def free_of(self, order: str) -> bool:
        """Whether what the order ends has ended."""
        view = await self.view()
        return (view.halted if order == "resume" else view.breaker) is None

    async def page(self) -> str:
        """Its page in the Temporal UI."""
        found = await self.handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        return str(found.current_details)

    async def signal(self, name: str, data: bytes, identity: str = "") -> None:
        """As bytes, past every converter."""
        await self.client.workflow_service.signal_workflow_execution(
            SignalWorkflowExecutionRequest(
                namespace=self.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=self.handle.id),
                signal_name=name,
                input=Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=data)]),
                identity=identity,
                request_id=str(uuid.uuid4()),
            )
        )

    async def ask(self, order: str, who: str, *groups: str) -> httpx.Response:
        """Through our API."""
        headers = {"authorization": f"Bearer {self.issuer.mint(who, groups)}"}
        path = f"/v1/domains/{self.domain}/{order.replace('_', '-')}"
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60) as http:
            return await http.post(path, json={"reason": "looked"})

    def claim(self, order: str, key: bytes = KEY, **more: Any) -> SignedClaim:
        """As our API makes it: ana of sre-oncall."""
        fields = {
            "case": self.handle.id, "action": order, "who": "ana", "groups": ("sre-oncall",), "reason": "looked",
            "exp": int(time.time()) + 60, "nonce": uuid.uuid4().hex, **more,
        }  # fmt: skip
        return sign(SignedClaim.model_validate(fields), key)

    async def update(self, claim: SignedClaim) -> str:
        """Past the API: why it is refused, empty when it counts."""
        try:
            answer: Ordered = await self.handle.execute_update("order", claim, result_type=Ordered)
        except WorkflowUpdateFailedError as error:
            return str(error.cause)
        assert answer.accepted == (not answer.why)
        return answer.why


@pytest.fixture(scope="module")
def logins(tmp_path_factory: pytest.TempPathFactory) -> DevIssuer:
    """Who logs people in."""
    return dev_issuer(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
async def worked(address: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Client, str]]:
    """A client, and the queue of a worker that runs real Guards. Its history has the word of a server with login."""
    folder: Path = tmp_path_factory.mktemp("guards")
    client = await Client.connect(address, plugins=[interlock_plugin()])
    journal = SqlJournal(f"sqlite:///{folder / 'journal.db'}")
    reaper = ReaperActivities(client, journal, LogNotify(folder / "pages.jsonl"), ("d",))
    attest = AttestActivities(vouching(client), GROUPS, KEY, approvers=("sre-oncall",))
    queue = "real-guards"
    done: list[Callable[..., Any]] = [
        TurnActivities().in_order,
        reaper.recover,
        reaper.remember,
        reaper.describe,
        reaper.reap,
        attest.judge_orders,
        attest.check_order,
    ]
    async with Worker(client, task_queue=queue, activities=done):
        yield client, queue
    journal.dispose()


@pytest.fixture
async def guard(
    worked: tuple[Client, str], telemetry: Telemetry, logins: DevIssuer, serve: Any
) -> AsyncIterator[Stopped]:
    """A Guard that is halted, and whose breaker has tripped."""
    client, queue = worked
    domain = f"d{uuid.uuid4().hex[:8]}"
    state = GuardState(
        domain=domain, halted="halted by ana: storm", book=Book(breaker="the breaker has tripped: 9 acts")
    )
    handle = await client.start_workflow(
        "Guard", {"domain": domain, "state": state}, id=guard_id(domain), task_queue=queue
    )

    async def nothing(_: Any) -> Any:
        return None

    app = FastAPI(openapi_url=None)
    answer_problems(app)
    deps = PeopleDeps(
        client=client, verifier=Verifier(logins.settings), claim_key=KEY, telemetry=telemetry,
        policy=Policy(name="test", groups=GROUPS), domains=(domain,), closed_cases=nothing, closed_case=nothing,
        timeout_s=60,
    )  # fmt: skip
    app.include_router(people_router(deps))
    async with serve(app) as url:
        yield Stopped(client, handle, url, logins, _interlock)
    await handle.terminate("end of the test")


async def _interlock(*given: Any) -> tuple[int, str, str]:
    from tests.worker.test_people import interlock

    return await interlock(*given)


@pytest.mark.parametrize("order", ORDERS)
async def test_a_person_of_an_approver_group_orders_through_the_api(guard: Stopped, order: str) -> None:
    """The answer comes after the Guard has obeyed; the other stop stays."""
    answer = await guard.ask(order, "ana", "sre-oncall")

    assert (answer.status_code, answer.json()["who"]) == (200, "ana")
    assert await guard.free_of(order)
    assert not await guard.free_of(next(o for o in ORDERS if o != order))
    assert f"{order} by ana: looked" in (await guard.page()).replace("\\", "")


async def test_a_person_in_a_group_by_policy_orders_from_the_command_line(guard: Stopped) -> None:
    """bob's issuer names no groups; policy puts him on call."""
    token = guard.issuer.mint("bob")
    reset = await guard.interlock(guard.url, token, "breaker", "reset", guard.domain, "--reason", "looked")
    resumed = await guard.interlock(guard.url, token, "resume", guard.domain, "--reason", "over")

    assert (reset[0], resumed[0]) == (0, 0), (reset, resumed)
    assert await guard.free_of("resume")
    assert await guard.free_of("reset_breaker")


@pytest.mark.parametrize("order", ORDERS)
async def test_a_signal_counts_only_with_the_servers_word_on_its_sender(
    guard: Stopped, order: str, eventually: Any
) -> None:
    """Refused: an identity that the sender typed, a person of no approver group, no reason. Then bob, verified, with one."""
    command = {"resume": "interlock resume", "reset_breaker": "interlock breaker reset"}[order]
    why = json.dumps({"reason": "over", "who": "ana"}).encode()
    refusals = [
        (why, "bob", f"its sender is not verified: use `{command}"),
        (b"\xff", "bob", "its sender is not verified"),
        (why, f"{LOGIN}mal", "mal is in none of the approver groups: sre-oncall"),
        (b"{}", f"{LOGIN}bob", "it says no reason"),
    ]
    for data, identity, sentence in refusals:
        await guard.signal(order, data, identity)

        async def told(sentence: str = sentence) -> bool:
            return f"{order} not counted" in (page := (await guard.page()).replace("\\", "")) and sentence in page

        await eventually(told)
        assert not await guard.free_of(order)
    await guard.signal(order, why, f"{LOGIN}bob")
    await eventually(lambda: guard.free_of(order))


@pytest.mark.parametrize("order", ORDERS)
async def test_every_refusal_of_an_order_that_comes_as_a_claim(guard: Stopped, order: str) -> None:
    """Forged, changed on its way, of another group, for another Guard, late, for ever, for a case, and used before."""
    good = guard.claim(order)
    other = next(o for o in ORDERS if o != order)
    refused = {
        "signature": guard.claim(order, key=b"x" * 32),
        "the signature of this": guard.claim(order).model_copy(update={"signature": ""}),
        "is wrong": good.model_copy(update={"who": "eve", "nonce": uuid.uuid4().hex}),
        "signature of this claim": guard.claim(other).model_copy(update={"action": order}),
        "none of the approver groups": guard.claim(order, groups=("hr",)),
        "about guard:elsewhere": guard.claim(order, case="guard:elsewhere"),
        "expired": guard.claim(order, exp=int(time.time()) - 5),
        "lasts": guard.claim(order, exp=int(time.time()) + 100_000),
        "no order to a Guard": guard.claim("abort"),
    }
    for sentence, claim in refused.items():
        assert sentence in await guard.update(claim), sentence
    assert not await guard.free_of(order)
    assert await guard.update(good) == ""
    assert "used before" in await guard.update(good)
    assert await guard.free_of(order)


@pytest.mark.parametrize("order", ORDERS)
async def test_who_may_approve_nothing_orders_nothing_at_api_and_command_line(guard: Stopped, order: str) -> None:
    """403 by the API itself; and without a valid token 401."""
    words = ("resume",) if order == "resume" else ("breaker", "reset")
    mal = await guard.ask(order, "mal", "hr")
    by_command = await guard.interlock(
        guard.url, guard.issuer.mint("mal", ("hr",)), *words, guard.domain, "--reason", "over"
    )
    nobody = await guard.interlock(guard.url, "no-token", *words, guard.domain, "--reason", "over")

    assert (mal.status_code, "none of the approver groups" in mal.json()["error"]) == (403, True)
    assert (by_command[0], "none of the approver groups" in by_command[2]) == (1, True)
    assert (nobody[0], "not a JWT" in nobody[2]) == (1, True)
    assert not await guard.free_of(order)


async def test_anybody_halts_by_signal_whatever_it_holds(guard: Stopped, eventually: Any) -> None:
    """Resumed first; then bytes that are no JSON halt again. Halting is the safe side."""
    assert (await guard.ask("resume", "ana", "sre-oncall")).status_code == 200
    await guard.signal("halt", b"\xff stop!")

    async def halted() -> bool:
        return (await guard.view()).halted is not None

    await eventually(halted)


async def test_a_halt_holds_while_no_worker_answers_and_a_resume_does_not_count_then(
    worked: tuple[Client, str], guard: Stopped, telemetry: Telemetry, serve: Any, eventually: Any, tmp_path: Path
) -> None:
    """The halt is in the Guard's history: the first worker that comes obeys it. The resume is 503."""
    client, _ = worked
    domain, queue = f"deaf{uuid.uuid4().hex[:6]}", f"later-{uuid.uuid4().hex[:6]}"
    await client.start_workflow("Guard", {"domain": domain}, id=guard_id(domain), task_queue=queue)
    deaf = replace(guard, handle=client.get_workflow_handle(guard_id(domain)))
    await deaf.signal("halt", b'{"reason": "storm", "who": "ana"}')

    async def nothing(_: Any) -> Any:
        return None

    app = FastAPI(openapi_url=None)
    answer_problems(app)
    deps = PeopleDeps(
        client=client, verifier=Verifier(guard.issuer.settings), claim_key=KEY, telemetry=telemetry,
        policy=Policy(name="test"), domains=(domain,), closed_cases=nothing, closed_case=nothing, timeout_s=1,
    )  # fmt: skip
    app.include_router(people_router(deps))
    async with serve(app) as url:
        answer = await replace(deaf, url=url).ask("resume", "ana", "sre-oncall")
    assert (answer.status_code, "did not answer, is a worker running?" in answer.json()["error"]) == (503, True)

    journal = SqlJournal(f"sqlite:///{tmp_path / 'journal.db'}")
    reaper = ReaperActivities(client, journal, LogNotify(tmp_path / "pages.jsonl"), (domain,))
    # Another key: the update that nobody answered may still arrive, and must not end what this test looks at.
    attest = AttestActivities(client, GROUPS, b"z" * 32, approvers=("sre-oncall",))
    async with Worker(
        client,
        task_queue=queue,
        activities=[
            TurnActivities().in_order,
            reaper.recover,
            reaper.remember,
            attest.judge_orders,
            attest.check_order,
        ],
    ):

        async def halted() -> bool:
            return (await deaf.view()).halted == "halted by ana: storm"

        await eventually(halted)
        await deaf.handle.terminate("end of the test")
    journal.dispose()
