"""Keeps our own readers off the GPUs while one is reset: nvidia-smi refuses a reset while any monitor has them open.

Two lock files. Readers share `.use` and first look at `.want`; who resets takes `.want`, so that no reader begins anew,
and then waits for `.use`. A process that dies lets go of both by itself. Give every process of a node the same path.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from activities.errors import Permanent, Refused, Retryable

_POLL_S = 0.05


class BeingReset(Retryable):
    """The GPUs are let alone for a reset: that they are not read says nothing about them."""


class Quiet:
    """The lock of one node. `path` is without suffix, e.g. /run/interlock/nvml."""

    def __init__(self, path: Path) -> None:
        self._want = path.with_name(path.name + ".want")
        self._use = path.with_name(path.name + ".use")

    def wanted(self) -> bool:
        """True while somebody resets a GPU, or waits to."""
        with _opened(self._want) as want:
            return not _locked(want, fcntl.LOCK_SH)

    @contextmanager
    def using(self) -> Iterator[None]:
        """For a reader. BeingReset while a reset is wanted."""
        with _opened(self._want) as want, _opened(self._use) as use:
            if not _locked(want, fcntl.LOCK_SH):
                raise BeingReset("a GPU of this node is being reset: nothing else may open them now")
            if not _locked(use, fcntl.LOCK_SH):
                raise BeingReset("the GPUs of this node are held for a reset")
            fcntl.flock(want, fcntl.LOCK_UN)
            yield

    @asynccontextmanager
    async def alone(self, within_s: float = 10.0) -> AsyncIterator[None]:
        """For a reset: when it begins, no reader of ours has a GPU open. Refused when one does not let go in time."""
        with _opened(self._want) as want, _opened(self._use) as use:
            loop = asyncio.get_running_loop()
            end = loop.time() + within_s
            for lock in (want, use):
                while not _locked(lock, fcntl.LOCK_EX):
                    if loop.time() > end:
                        raise Refused(f"the GPUs were not let go within {within_s:g} s by another process of Interlock")
                    await asyncio.sleep(_POLL_S)
            yield


def _locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise Permanent(f"the lock file {path} cannot be opened: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)
