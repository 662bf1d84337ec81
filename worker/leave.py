"""The end of a process that used the Temporal SDK.

Threads of the SDK can crash the interpreter's own end (SIGABRT or SIGSEGV) after the work is done: facts of temporalio 1.35,
one exit of ten. So nothing of it is run, and the exit status is the work's own.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def leave(work: Callable[[], int | None]) -> NoReturn:
    """Does the work and ends the process with its status, None being 0. An exception is printed, and the status is then 1;
    SystemExit (argparse raises it after `--help`) means here what it means to the interpreter."""
    try:
        status = work() or 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001  # os._exit would swallow the traceback
        sys.excepthook(*sys.exc_info())
        status = 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
