"""`python -m tests.run`: pytest, with the end that a process needs that has used the Temporal SDK.

Such a process can die with SIGABRT or SIGSEGV after its work is done (facts/temporal.md 6): the exit status is pytest's own.

Without paths it runs everything in two lanes side by side, since most tests wait for something most of the time. The
kill lanes, which are many processes at once, come last, when the other lane has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ASIDE = ("activities", "runbooks", "scenarios", "worker", "test_histories.py", "test_packaging.py", "test_wiring.py")
"""What the second lane runs: tests that wait for workflows, and pure ones."""
LAST = ("crash", "crash_kube")
NONE_FOUND = int(pytest.ExitCode.NO_TESTS_COLLECTED)


def main() -> None:
    """Runs pytest with the given arguments and leaves without the interpreter's own end."""
    given = sys.argv[1:]
    named = any(Path(arg.partition("::")[0]).exists() for arg in given if not arg.startswith("-"))
    status = int(pytest.main(given)) if named else _both(given)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _both(options: list[str]) -> int:
    """Everything. What the second lane says is shown when the first has ended."""
    with tempfile.TemporaryFile("w+") as said:
        aside = [sys.executable, "-m", "tests.run", *options, *(str(HERE / name) for name in ASIDE)]
        second = subprocess.Popen(aside, stdout=said, stderr=subprocess.STDOUT)
        try:
            statuses = [int(pytest.main([*options, *map(str, _first())]))]
            statuses.append(second.wait())
        finally:
            second.kill()
            second.wait()
        said.seek(0)
        print(said.read(), flush=True)
    found = [s for s in statuses if s != NONE_FOUND] or [NONE_FOUND]
    return max(found)


def _first() -> list[Path]:
    """All that holds tests and is not in the second lane: a new folder is never forgotten."""
    holds = [p for p in HERE.iterdir() if p.name.startswith("test_") or (p.is_dir() and any(p.rglob("test_*.py")))]
    mine = [p for p in holds if p.name not in ASIDE]
    return sorted(mine, key=lambda p: (p.name in LAST, p.name))


if __name__ == "__main__":
    main()
