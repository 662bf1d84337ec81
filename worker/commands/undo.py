"""`interlock undo RECEIPT`: takes one change back from the journal alone, also while Temporal is away.

`interlock settle RECEIPT`: says that a change no longer stands, or is somebody's for good: the Guard stops counting it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import httpx
import typer
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.sql import BY_HAND, SETTLED, UNDONE, SqlJournal
from activities.errors import Refused
from activities.ports import Actuator
from runbooks.change import Change, Permit, Receipt
from runbooks.detection import guard_id
from runbooks.guard_words import News
from runbooks.planning import plan_restore
from worker.clusters import clusters_of
from worker.commands.client import fail
from worker.doors import fleet_of
from worker.parts import envoy_of
from worker.settings import Settings, load
from worker.temporal import TemporalAway, connect

app = typer.Typer()
ACT_WITHIN = timedelta(seconds=10)


@app.command()
def undo(receipt: Annotated[str, typer.Argument(help="Id of the receipt: r-…")]) -> None:
    """Put back what stood before a change. Only when what stands there now is exactly what the change left."""
    typer.echo(asyncio.run(_undo(load(), receipt)))


@app.command()
def settle(
    receipt: Annotated[str, typer.Argument(help="Id of the receipt: r-…")],
    reason: Annotated[str, typer.Option(help="Why it no longer counts, e.g. put back by hand.")],
) -> None:
    """Stop counting a change that people own: it was put back by hand, or is meant to stay. Changes no traffic."""
    typer.echo(asyncio.run(_settle(load(), receipt, reason)))


async def _settle(settings: Settings, receipt_id: str, reason: str) -> str:
    journal = SqlJournal(settings.journal_url)
    try:
        receipt = await _find(journal, receipt_id)
        state = await journal.state(receipt_id)
        if state in ("undone", "restored", "settled"):
            return (
                f"{receipt_id} is {state} already; nothing was changed. {await _tell_guard(settings, journal, receipt)}"
            )
        await journal.settle(receipt_id, SETTLED, reason[:200])
        return f"{receipt_id} is settled: {reason}; {await _tell_guard(settings, journal, receipt)}"
    finally:
        journal.dispose()


async def _find(journal: SqlJournal, receipt_id: str) -> Receipt:
    receipt = await journal.receipt_by_id(receipt_id)
    if receipt is None:
        raise fail(f"the journal has no receipt {receipt_id!r}; `interlock cases show` names them")
    return receipt


async def _tell_guard(settings: Settings, journal: SqlJournal, receipt: Receipt) -> str:
    """The Guard stops counting the step's standing change. Temporal may be away: then it is said, not hidden."""
    step = (receipt.case, receipt.step_id)
    left = [r.id for r in await journal.standing(receipt.domain) if (r.case, r.step_id) == step and r.id != receipt.id]
    try:
        async with asyncio.timeout(5):
            client = await connect(settings.temporal)
            await _tell_case(client, receipt)
            if left:
                more = f"interlock undo {left[-1]}"
                return f"the Guard still counts the step: {', '.join(left)} of it stand; the newest first: {more}"
            for domain in receipt.domains or (receipt.domain,):
                handle = client.get_workflow_handle(guard_id(domain))
                await handle.signal("settled", f"{receipt.case}/{receipt.step_id}")
    except (TimeoutError, TemporalAway, RPCError) as error:
        return (
            f"the Guard of {receipt.domain} could not be told ({error}) and still counts it: "
            f"when Temporal is back, run `interlock settle {receipt.id} --reason …`"
        )
    return f"the Guard of {receipt.domain} no longer counts it"


async def _tell_case(client: Client, receipt: Receipt) -> None:
    """Its case looks at what stands at once, and finds in the journal what was done by hand."""
    news = News(kind="by_hand", domain=receipt.domain, why=receipt.id)
    try:
        await client.get_workflow_handle(receipt.case_workflow_id).signal("guard_news", news)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:  # closed: nobody watches it any more
            raise


async def _undo(settings: Settings, receipt_id: str) -> str:
    journal = SqlJournal(settings.journal_url)
    try:
        receipt = await _find(journal, receipt_id)
        state = await journal.state(receipt_id)
        if state in ("undone", "restored"):
            return f"{receipt_id} is {state} already; nothing was changed"
        async with _actuator(settings, receipt) as actuator:
            change = await take_back(actuator, receipt)
        await journal.settle(receipt_id, UNDONE, BY_HAND)
        told = await _tell_guard(settings, journal, receipt)
        return f"undone: {', '.join(f'{k} is {v} again' for k, v in change.after.items())}; {told}"
    finally:
        journal.dispose()


@asynccontextmanager
async def _actuator(settings: Settings, receipt: Receipt) -> AsyncIterator[Actuator]:
    """The system that the receipt's settings are of: by the keys, so that no lever is forgotten here."""
    fleet = fleet_of(settings)
    of_proxy = {key.partition("/")[0] for key in receipt.before} <= {"weight", "endpoint", "connections", "admit"}
    async with AsyncExitStack() as stack:
        clusters = await stack.enter_async_context(clusters_of(settings.kubernetes, fleet))
        if not of_proxy:
            if clusters.cluster is None:
                raise fail("INTERLOCK_KUBERNETES__KUBECONFIGS is not set: this receipt is of a cluster")
            yield clusters.cluster
        elif clusters.routes is not None:
            yield clusters.routes
        else:
            folder, admin = envoy_of(settings)
            assert folder is not None  # envoy_of refuses otherwise where weights are Envoy's
            http = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))
            yield EnvoyTraffic(fleet, folder, admin, http)


async def take_back(traffic: Actuator, receipt: Receipt) -> Change:
    """Compare-and-set back to before, above every epoch that the actuator has seen. Refused: changed since."""
    now = await traffic.read(receipt.domain)
    change = plan_restore(receipt.before, now.settings, receipt.after, 1.0)
    if not isinstance(change, Change):
        raise Refused(change.why)
    permit = Permit(
        id=f"undo-{uuid.uuid4().hex[:12]}",
        domain=receipt.domain,
        case=receipt.case,
        step_id=receipt.step_id,
        change_digest=change.digest,
        purpose="undo",
        epoch=now.epoch + 1,
        act_before=datetime.now(UTC) + ACT_WITHIN,
    )
    await traffic.swap(change, permit)
    return change
