"""`python -m tests.run`: pytest, with the end that a process needs that has used the Temporal SDK.

Such a process can die with SIGABRT or SIGSEGV after its work is done (facts/temporal.md 6): the exit status is pytest's own.
"""

from __future__ import annotations

import os
import sys

import pytest


def main() -> None:
    """Runs pytest with the given arguments and leaves without the interpreter's own end."""
    status = int(pytest.main(sys.argv[1:]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
