"""Keeps the terminal's Ctrl-C from the demo's children: it reaches us alone, and the demo ends them in order."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys


def main() -> int:
    """Runs the demo in a session of its own, passes signals on, and returns its exit status."""
    # Should we be killed ourselves, the demo is asked to end (setpriv is in Debian's util-linux).
    setpriv = shutil.which("setpriv")
    first = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    argv = [*first, sys.executable, "-m", "tests.kube.demo.run", *sys.argv[1:]]
    child = subprocess.Popen(argv, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: child.send_signal(n))
    status = child.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
