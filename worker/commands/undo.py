"""`interlock undo RECEIPT`: takes one change back from the journal alone, also while Temporal is away."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Annotated

import httpx
import typer

from activities.adapters.envoy import EnvoyTraffic
from activities.adapters.sql import SqlJournal
from activities.errors import Refused
from runbooks.change import Change, Permit, Receipt
from runbooks.planning import plan_restore
from worker.commands.client import fail
from worker.commands.worker import envoy_of
from worker.doors import fleet_of
from worker.settings import Settings, load

app = typer.Typer()
ACT_WITHIN = timedelta(seconds=10)


@app.command()
def undo(receipt: Annotated[str, typer.Argument(help="Id of the receipt: r-…")]) -> None:
    """Put back what stood before a change. Only when what stands there now is exactly what the change left."""
    typer.echo(asyncio.run(_undo(load(), receipt)))


async def _undo(settings: Settings, receipt_id: str) -> str:
    folder, admin = envoy_of(settings)
    journal = SqlJournal(settings.journal_url)
    try:
        receipt = await journal.receipt_by_id(receipt_id)
        if receipt is None:
            raise fail(f"the journal has no receipt {receipt_id!r}; `interlock cases show` names them")
        state = await journal.state(receipt_id)
        if state in ("undone", "restored"):
            return f"{receipt_id} is {state} already; nothing was changed"
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            traffic = EnvoyTraffic(fleet_of(settings), folder, admin, http)
            change = await take_back(traffic, receipt)
        await journal.settle(receipt_id, "undone", "interlock undo")
        return f"undone: {', '.join(f'{k} is {v} again' for k, v in change.after.items())}"
    finally:
        journal.dispose()


async def take_back(traffic: EnvoyTraffic, receipt: Receipt) -> Change:
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
