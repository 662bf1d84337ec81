"""A case that is looked at while its workers die: its own word, its Guard's, its end, and what the workers said."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle, WorkflowQueryFailedError
from temporalio.service import RPCError

from runbooks.detection import guard_id
from runbooks.facts import GuardView


class Watched:
    """What lanes of every kind share. A lane has the attributes that are named here, and says by `temporal` who to ask."""

    name: str
    folder: Path
    workers: list[ForkServerProcess]
    handle: WorkflowHandle[Any, Any] | None

    look_every_s = 0.4
    """Between two looks at the state: each is a query that a worker answers, and many lanes look at once."""

    patience_s = 120.0
    """For one state to be reached."""

    def temporal(self) -> Client:
        """The server that the case runs on."""
        raise NotImplementedError

    async def status(self) -> dict[str, Any]:
        """The case's own word; without a worker there is none, and `state` is empty."""
        assert self.handle is not None
        try:
            found: dict[str, Any] = await self.handle.query("status", rpc_timeout=timedelta(seconds=2))
        except (RPCError, WorkflowQueryFailedError):
            return {"state": ""}
        return found

    async def in_state(self, *states: str, deadline_s: float | None = None) -> dict[str, Any]:
        """Waits until the case is in one of these states, whatever dies meanwhile."""
        end, last = time.monotonic() + (deadline_s or self.patience_s), dict[str, Any]()
        while True:
            found = await self.status()
            last = found if found["state"] else last
            if found["state"] in states:
                return found
            lost = found["state"] == "closed" or time.monotonic() > end
            assert not lost, f"{self.name} is {last.get('state')}, not {' or '.join(states)}"
            await asyncio.sleep(self.look_every_s)

    async def result(self, deadline_s: float = 120.0) -> dict[str, Any]:
        """The closed case's result."""
        assert self.handle is not None
        try:
            async with asyncio.timeout(deadline_s):
                found: dict[str, Any] = await self.handle.result()
        except TimeoutError:
            raise AssertionError(f"{self.name} is not closed in {deadline_s} s") from None
        return found

    async def guard(self) -> GuardView:
        """What the Guard of this lane's domain says."""
        view: GuardView = (
            await self.temporal().get_workflow_handle(guard_id(self.name)).query("view", result_type=GuardView)
        )
        return view

    def log(self) -> str:
        """The end of what the workers said."""
        texts = (p.read_text(errors="replace")[-4000:] for p in sorted(self.folder.glob("worker-*.log")))
        return "\n".join(texts)

    def end_workers(self) -> None:
        """Ends every worker process of this lane, stopped ones too."""
        for worker in self.workers:
            worker.kill()
            worker.join(10)
