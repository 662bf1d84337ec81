"""What a hostile test needs beside the lab: raw signals, the page as the UI reads it, claims, and an end for every case."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.sql import SqlJournal
from activities.ports import Told
from runbooks.change import Change, Permit
from runbooks.claims import SignedClaim, sign
from runbooks.detection import Detection
from runbooks.people import Attested
from runbooks.policy import ClassPolicy, Policy
from tests import histories
from tests import lab as labs

Handle = WorkflowHandle[Any, Any]
HOSTILE_PAYLOADS: dict[str, tuple[bytes, bytes]] = {
    "bytes": (b"binary/plain", b"\xff\xfe\x00 not JSON"),
    "broken JSON": (b"json/plain", b'{"step": '),
    "a list": (b"json/plain", b'["approve"]'),
    "null": (b"json/plain", b"null"),
    "very deep": (b"json/plain", b"[" * 20_000 + b"]" * 20_000),
    "half a character": (b"json/plain", b'{"step": "\\ud800", "decision": "approve", "reason": "\\ud800"}'),
}
"""Encoding and data of what nobody should send to a door for people."""


def asking(**more: Any) -> Policy:
    """The lab's policy, but a hung engine asks people and takes a decision that Temporal did not verify."""
    rule: dict[str, Any] = {"mode": "ask", "accept_unverified": True, "approval_ttl_s": 60}
    return labs.policy(engine__hang=ClassPolicy.model_validate({**rule, **more}))


async def raw_signal(
    lab: labs.Lab, handle: Handle, name: str, *payloads: tuple[bytes, bytes], identity: str = ""
) -> None:
    """Sends a signal as bytes, past every converter, as any program that speaks gRPC can."""
    await lab.client.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace=lab.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id),
            signal_name=name,
            input=Payloads(payloads=[Payload(metadata={"encoding": e}, data=d) for e, d in payloads]),
            identity=identity,
            request_id=str(uuid.uuid4()),
        )
    )


async def decide(lab: labs.Lab, handle: Handle, identity: str = "", **content: Any) -> None:
    """A `decide` signal of an identity that the sender claims himself."""
    await raw_signal(lab, handle, "decide", (b"json/plain", json.dumps(content).encode()), identity=identity)


async def shown(handle: Handle) -> str:
    """The run page's details, as the Temporal UI reads them."""
    found: WorkflowMetadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return str(found.current_details)


def signed(handle: Handle, action: str, key: bytes = labs.CLAIM_KEY, **fields: Any) -> SignedClaim:
    """A claim as our API makes it: ana of sre-oncall, a minute of life, a new nonce."""
    base: dict[str, Any] = {
        "case": handle.id,
        "action": action,
        "who": "ana",
        "groups": ("sre-oncall",),
        "reason": "seen",
        "exp": int(time.time()) + 60,
        "nonce": uuid.uuid4().hex,
    }
    return sign(SignedClaim.model_validate({**base, **fields}), key)


async def send(handle: Handle, claim: SignedClaim) -> Attested:
    """Through the update door."""
    answer: Attested = await handle.execute_update(claim.action, claim, result_type=Attested)
    return answer


async def measured(lab: labs.Lab) -> None:
    """A fresh worker cannot know a pool's load before it has seen two seconds of it; then an engine may hang."""
    before = lab.served

    async def seen() -> bool:
        return lab.served >= before + 20

    await labs.until(seen, "load has been served")


async def hang(lab: labs.Lab, engine: labs.Engine) -> None:
    """Stops an engine, and waits until it really answers nothing."""
    engine.stop()

    async def silent() -> bool:
        return not await labs.answers(lab.http, engine)

    await labs.until(silent, f"{engine.address} answers nothing")


@dataclass
class Waiting:
    """A case of a hung engine that waits for people."""

    handle: Handle
    step: str
    digest: str
    detection: Detection
    engine: labs.Engine
    lab: labs.Lab

    def approval(self, **more: Any) -> dict[str, Any]:
        """What the page tells people to send."""
        return {"step": self.step, "plan": self.digest, "decision": "approve", "reason": "go", **more}

    async def refusal(self, deadline_s: float = 15.0, after: int = 0) -> dict[str, Any]:
        """The next decision that the case has judged, after the first `after`."""

        async def judged() -> Any:
            return (await self.lab.status(self.handle))["record"]["decisions"][after:]

        found: list[dict[str, Any]] = await labs.until(judged, "the decision is judged", deadline_s)
        return found[0]

    async def untouched(self) -> None:
        """It still waits, and Envoy still has the engine in rotation."""
        await self.lab.in_state(self.handle, "waiting_approval")
        assert self.engine.address in await self.lab.rotation(self.engine.pool)


@asynccontextmanager
async def waiting_case(
    lab: labs.Lab, rules: Policy | None = None, name: str = "a0", **parts: Any
) -> AsyncIterator[Waiting]:
    """A worker, a hung engine, and its case that waits for approval; the case is ended with the block."""
    engine = lab.engines[name]
    async with labs.running_worker(lab.parts(rules or asking(), **parts)), ended(lab) as cases:
        await measured(lab)
        await hang(lab, engine)
        detection = lab.hang(engine)
        handle = await lab.start(detection)
        cases.append(handle)
        asked = (await lab.in_state(handle, "waiting_approval"))["waiting"]
        yield Waiting(handle, asked["step"], asked["digest"], detection, engine, lab)


async def mitigated(lab: labs.Lab, cases: list[Handle], engine: labs.Engine) -> tuple[Handle, str]:
    """A hung engine that was isolated, and its receipt."""
    await measured(lab)
    await hang(lab, engine)
    handle = await lab.start(lab.hang(engine))
    cases.append(handle)
    status = await lab.in_state(handle, "mitigated")
    return handle, str(status["record"]["steps"][0]["receipts"][0]["id"])


@asynccontextmanager
async def ended(lab: labs.Lab) -> AsyncIterator[list[Handle]]:
    """Cases put into the list are ended with the block, what they left in Envoy is taken back, the Guard starts afresh."""
    cases: list[Handle] = []
    try:
        yield cases
    finally:
        for handle in {h.id: h for h in cases}.values():
            newest = lab.client.get_workflow_handle(handle.id)
            if (await newest.describe()).status is WorkflowExecutionStatus.RUNNING:
                await newest.terminate("end of the test")
            await histories.keep_chosen(newest)
        await clean(lab, *(h.id for h in cases))


async def clean(lab: labs.Lab, *workflow_ids: str) -> None:
    """As an operator would: what stands is put back, its receipts are settled, and the Guard starts without memory."""
    await lab.forget()
    journal = SqlJournal(lab.journal_url)
    try:
        # What people own counts until somebody settles it, as `interlock settle` does.
        for receipt in await journal.standing(labs.CLUSTER):
            if receipt.case_workflow_id in workflow_ids:
                await journal.settle(receipt.id, "undone", "end of the test")
    finally:
        journal.dispose()
    traffic = EnvoyTraffic(lab.fleet, lab.folder / "edge", lab.admin, lab.http)
    now = await traffic.read(labs.CLUSTER)
    for key in [k for k, v in now.settings.items() if k.startswith("endpoint/") and v != "in"]:
        change = Change(before={key: now.settings[key]}, after={key: "in"}, last=True)
        permit = Permit(
            id=f"clean-{uuid.uuid4().hex[:8]}", domain=labs.CLUSTER, case="test", step_id="clean", purpose="undo",
            change_digest=change.digest, epoch=(await traffic.read(labs.CLUSTER)).epoch + 1,
            act_before=datetime.now(UTC) + timedelta(seconds=10),
        )  # fmt: skip
        await traffic.swap(change, permit)


class Pager:
    """A receiving end of pages that can be held: until `go` is set, a matching page is not acknowledged."""

    def __init__(self, holds: str = "") -> None:
        self.pages: list[tuple[str, str, str]] = []
        self.holds = holds
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    async def tell(self, dedup_key: str, title: str, body: str) -> Told:
        """Takes a page; waits first when it is one to hold."""
        if self.holds and self.holds in title:
            self.reached.set()
            await self.go.wait()
        self.pages.append((dedup_key, title, body))
        return Told(channel="test", dedup_key=dedup_key, reference=str(len(self.pages)), at=datetime.now(UTC))
