"""`interlock intake` as a child that is forked with everything imported: on a busy machine its imports alone take many seconds,
and an intake that is killed before it listens proves nothing.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.crash.worker_process import FORKS


def warm_up() -> None:
    """Starts the fork server with what intakes and workers need. Once, before the first of them."""
    forkserver.set_forkserver_preload(["pytest", "tests.crash.warm", "tests.bench.kills_imports"])
    forkserver.ensure_running()


def start(settings: dict[str, str], log: Path) -> ForkServerProcess:
    """A new intake with these settings, and no others from the environment."""
    process = FORKS.Process(target=_run, args=(settings, log))
    process.start()
    return process


def _run(settings: dict[str, str], log: Path) -> None:
    with log.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    for name in [k for k in os.environ if k.startswith("INTERLOCK_")]:
        del os.environ[name]
    os.environ |= settings
    sys.argv = ["interlock", "intake"]
    from worker.__main__ import main

    main()
