"""How what serves for days runs."""

from __future__ import annotations

import subprocess
import sys

CHILD = """
import asyncio, gc, os, weakref
from worker.serving import serving

class Part:
    other = None

async def work():
    print(type(asyncio.get_running_loop()).__module__, gc.get_freeze_count() > 1000, gc.isenabled())
    first = Part(); first.other = Part(); first.other.other = first
    seen = weakref.ref(first)
    del first
    kept = []
    for n in range(40):
        kept.append([[] for _ in range(100_000)])
        if seen() is None:
            break
    print("found" if seen() is None else "kept for ever")

serving(work())
"""


def test_it_serves_on_uvloop_and_a_case_that_was_put_out_of_memory_is_still_found() -> None:
    """Parts that know each other are found by the collector alone, without being told; what was imported is left alone."""
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["uvloop True True", "found"], done.stderr
