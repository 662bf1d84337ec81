"""Processes that used the Temporal SDK end with their own status, whatever its threads do at the interpreter's end."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEFORE = "import atexit, os, signal\nfrom worker.leave import leave\n"
CRASHES = "atexit.register(lambda: os.kill(os.getpid(), signal.SIGABRT))\n"
"""What the SDK's threads do in one end of ten (facts of temporalio 1.35), here in each."""


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("work", "status"), [("0", 0), ("None", 0), ("3", 3)])
def test_a_process_that_would_crash_at_its_end_leaves_with_the_status_of_its_work(work: str, status: int) -> None:
    """And what it printed is there."""
    done = ended(f"{BEFORE}{CRASHES}print('done', end='')\nleave(lambda: {work})")

    assert (done.returncode, done.stdout) == (status, "done")
    assert ended(f"{BEFORE}{CRASHES}").returncode != 0, "without it the crash is seen"


def test_what_the_work_raises_is_printed_and_the_status_is_one() -> None:
    """It is not swallowed with the end."""
    done = ended(f"{BEFORE}leave(lambda: 1 // 0)")

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(("code", "status", "says"), [("", 0, ""), ("0", 0, ""), ("4", 4, ""), ("'why'", 1, "why\n")])
def test_an_exit_that_the_work_asks_for_is_its_status_and_no_fault(code: str, status: int, says: str) -> None:
    """As after `--help`, and after a sentence for the operator."""
    done = ended(f"{BEFORE}{CRASHES}import sys\nleave(lambda: sys.exit({code}))")

    assert (done.returncode, done.stderr) == (status, says)
