"""`interlock` and `python -m worker`."""

from __future__ import annotations

import os
import sys

from activities.errors import PortError
from runbooks.loader import CatalogError
from worker.cli import app
from worker.errors import OperatorError


def run() -> int:
    """Runs one command and returns its exit status. What an operator can mend is one sentence, not a traceback."""
    try:
        app()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (OperatorError, CatalogError, PortError) as error:
        sys.stderr.write(f"interlock: {error}\n")
        return 1
    return 0


def main() -> None:
    """Ends the process without the interpreter's own end: threads of the Temporal SDK can crash it there (SIGABRT)."""
    try:
        status = run()
    except BaseException:  # noqa: BLE001  # os._exit would swallow the traceback
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
