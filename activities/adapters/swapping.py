"""The end of a swap, which a cancel cannot cut in two."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol


class Work(Protocol):
    """One swap under way. When `abandoned` is set, it writes nothing any more."""

    abandoned: bool


async def finished(work: Work, running: Coroutine[Any, Any, None]) -> None:
    """Runs the swap to its end, also when the caller is cancelled: then that is raised afterwards.

    Nothing may happen after "cancelled" is said: what is not written stays unwritten, the rest is finished.
    """
    task = asyncio.ensure_future(running)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        work.abandoned = True
        await asyncio.gather(task, return_exceptions=True)
        raise
