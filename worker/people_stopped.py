"""Which domains are stopped now, by a halt or a tripped breaker: whoever looks at cases must see it without asking for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, TypedDict

from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from runbooks.detection import guard_id

AT_ONCE = 20
"""Guards that are asked at the same time."""


class Stopped(TypedDict):
    """`by` is `unknown` when the Guard could not be asked: then nobody knows that it is free, either."""

    domain: str
    by: Literal["halt", "breaker", "unknown"]
    why: str


async def stopped(client: Client, domains: Sequence[str], within_s: float) -> list[Stopped]:
    """A line for each domain that is not known to be free. A Guard that was never started has stopped nothing."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(domain: str) -> list[Stopped]:
        async with gate:
            return await _one(client, domain, within_s)

    return [line for lines in await asyncio.gather(*(one(d) for d in domains)) for line in lines]


async def _one(client: Client, domain: str, within_s: float) -> list[Stopped]:
    try:
        async with asyncio.timeout(within_s):
            view: Any = await client.get_workflow_handle(guard_id(domain)).query(
                "view", rpc_timeout=timedelta(seconds=within_s)
            )
    except WorkflowQueryFailedError as error:
        return [Stopped(domain=domain, by="unknown", why=f"its Guard could not say: {error}")]
    except (RPCError, RuntimeError, TimeoutError) as error:
        if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
            return []
        return [Stopped(domain=domain, by="unknown", why="its Guard does not answer")]
    if not isinstance(view, dict):
        return [Stopped(domain=domain, by="unknown", why="its Guard gave an answer of another version")]
    lines: list[Stopped] = []
    if view.get("halted"):
        lines.append(Stopped(domain=domain, by="halt", why=str(view["halted"])))
    if view.get("breaker"):
        lines.append(Stopped(domain=domain, by="breaker", why=str(view["breaker"])))
    return lines
