"""Runs a command of the node by its argv: no shell, a deadline, and its output kept short."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from activities.errors import Permanent

_KEPT = 300
_END_S = 2.0


@dataclass(frozen=True)
class Ran:
    """How a command ended. `code` None: it did not end in time. `said`: the end of what it wrote."""

    code: int | None
    said: str


Run = Callable[[Sequence[str], float], Awaitable[Ran]]


async def run_argv(argv: Sequence[str], within_s: float) -> Ran:
    """Runs it to its end, or kills it (with its children) at the deadline or when cancelled.

    Permanent: there is no such program, or it may not be run; then nothing was done.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise Permanent(f"{argv[0]} cannot be run on this node: {error.strerror}") from error
    try:
        async with asyncio.timeout(within_s):
            said, _ = await child.communicate()
    except TimeoutError:
        return Ran(None, "")
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            # A process that waits in the driver cannot even be killed: do not wait for it for ever.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), _END_S)
    return Ran(child.returncode, " ".join(said.decode(errors="replace").split())[-_KEPT:])
