"""How a process runs that serves for days: the event loop of uvloop, and a garbage collector that seldom looks at everything.

Both are for the milliseconds between an alert and its act (docs/performance.md). Python's own collector comes by after every 700
objects, and each full round looks at all that the imports have made: some tens of milliseconds, in which nothing else runs.
"""

from __future__ import annotations

import gc
from collections.abc import Coroutine
from typing import Any

import uvloop

COLLECT_AFTER = (5_000, 10, 10)
"""Of `gc.set_threshold`. A full round still comes, after half a million new objects: a case that was put out of memory is
found by nothing else, for its parts know each other."""


def serving(work: Coroutine[Any, Any, None]) -> None:
    """Runs it to its end. Modules that are loaded by now stay for the life of the process, and are not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    uvloop.run(work)
