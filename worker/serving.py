"""How a process runs that serves for days: the event loop of uvloop, and a garbage collector that seldom looks at everything.

Both are for the milliseconds between an alert and its act (docs/performance.md). Python's own collector comes by after every 700
objects, and each full round looks at all that the imports have made: some tens of milliseconds, in which nothing else runs.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Coroutine
from typing import Any

import uvicorn
import uvloop

COLLECT_AFTER = (5_000, 10, 10)
"""Of `gc.set_threshold`. A full round still comes, after half a million new objects: a case that was put out of memory is
found by nothing else, for its parts know each other."""
THREADS = "64"
"""Of libuv, which looks names up in half of them, and in two by default: engines of one zone that does not answer would keep
the pager's name waiting, just when people must be told."""


def serving(work: Coroutine[Any, Any, None]) -> None:
    """Runs it to its end. Modules that are loaded by now stay for the life of the process, and are not looked at again.

    Not for what runs commands: uvloop keeps a command waiting for the children that it leaves behind, and hands them its files.
    """
    os.environ.setdefault("UV_THREADPOOL_SIZE", THREADS)  # libuv reads it at its first look-up
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    uvloop.run(work)


def door(app: Any, host: str, port: int) -> uvicorn.Config:
    """How HTTP is served. h11 ends a request whose head grows over 64 KiB; httptools takes heads without an end into memory
    before anybody's token is looked at."""
    return uvicorn.Config(app, host=host, port=port, http="h11", ws="none", log_level="warning", access_log=False)
