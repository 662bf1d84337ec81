"""A workflow that hears of its cancel in Temporal, and is never broken off by it.

A cancel comes once, at whatever the workflow waits for. There it looks like something that was lost (an activity), it is
swallowed (a signal to another workflow, an act that waits it out), or it ends the run between two things that belong
together (temporalio 1.35, all measured). So the work has a task of its own, which the cancel does not reach.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from temporalio import workflow

T = TypeVar("T")


async def uncancelled(work: Coroutine[Any, Any, T], told: Callable[[], None]) -> T:
    """What the work returns or raises. `told` is called when a cancel is asked for: what to make of it is the work's matter."""
    task = asyncio.create_task(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            # Without a reason it is no cancel: the worker puts the workflow out of its memory, and ends all of its tasks.
            if workflow.cancellation_reason() is None:
                raise
            told()
            if task.done():  # it came in the moment of its end
                return task.result()
