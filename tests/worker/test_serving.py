"""How what serves for days runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from activities.adapters.node_agent_run import run_argv

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


NAMES = """
import asyncio, os
from worker.serving import serving

async def work():
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    print(len(os.listdir("/proc/self/task")))

serving(work())
"""


def test_names_are_looked_up_side_by_side_so_that_a_dark_zone_does_not_hold_up_the_pager() -> None:
    """libuv has four threads if nobody says otherwise, and gives two of them to names."""
    done = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True, timeout=60, check=False)
    assert int(done.stdout) >= 64, done.stderr


async def test_a_command_of_a_node_that_leaves_a_daemon_behind_is_done_when_it_ends_itself() -> None:
    """On the loop that the node's hands run on; on uvloop it would be waited for until the daemon ends."""
    ran = await run_argv(["sh", "-c", "sleep 30 >/dev/null 2>&1 </dev/null & echo done; echo $! >&2"], 20)
    os.kill(int(ran.said.split()[-1]), signal.SIGKILL)
    assert ran.code == 0
    assert ran.said.startswith("done")


def test_it_serves_on_uvloop_and_a_case_that_was_put_out_of_memory_is_still_found() -> None:
    """Parts that know each other are found by the collector alone, without being told; what was imported is left alone."""
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["uvloop True True", "found"], done.stderr
