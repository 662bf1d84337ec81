"""`interlock` and `python -m worker`."""

from __future__ import annotations

import sys
from typing import NoReturn

from activities.errors import PortError
from runbooks.loader import CatalogError
from worker.cli import app
from worker.errors import OperatorError
from worker.leave import leave


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


def main() -> NoReturn:
    """Runs one command and ends the process."""
    leave(run)


if __name__ == "__main__":
    main()
