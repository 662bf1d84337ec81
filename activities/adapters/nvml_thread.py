"""Blocking work that may never return: a wedged driver holds its caller for ever."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from activities.errors import Retryable

T = TypeVar("T")


async def in_thread(work: Callable[[], T], within_s: float | None, what: str) -> T:
    """Blocking work in a daemon thread. Retryable when it does not return in time (None: wait for ever): a wedged driver
    can hold a thread for ever, and neither the pool of threads nor the end of the process may wait for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def answer(value: T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type]  # None only where T allows it

    def body() -> None:
        value, problem = None, None
        try:
            value = work()
        except BaseException as error:  # noqa: BLE001  # it is raised again, where it is awaited
            problem = error
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits
            loop.call_soon_threadsafe(answer, value, problem)

    threading.Thread(target=body, name=what, daemon=True).start()
    try:
        async with asyncio.timeout(within_s):
            return await done
    except TimeoutError:
        raise Retryable(f"{what} does not answer within {within_s:g} s") from None
