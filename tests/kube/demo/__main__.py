"""`make demo-cluster`: builds the control plane when it is missing, and then keeps the terminal's Ctrl-C from the demo's
children: it reaches us alone, and the demo ends them in order."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys

from tests.kube.build import BuildFailed, MissingGo, NotBuilt, binaries, built

INTERRUPTED = 130


def main() -> int:
    """Runs the demo in a session of its own, passes signals on, and returns its exit status."""
    try:
        if "--help" not in sys.argv:
            _build()
    except (MissingGo, BuildFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was started", file=sys.stderr)
        return INTERRUPTED
    # Should we be killed ourselves, the demo is asked to end (setpriv is in Debian's util-linux).
    setpriv = shutil.which("setpriv")
    first = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    argv = [*first, sys.executable, "-m", "tests.kube.demo.run", *sys.argv[1:]]
    child = subprocess.Popen(argv, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: child.send_signal(n))
    status = child.wait()
    return status if status >= 0 else 128 - status


def _build() -> None:
    """Here and not in the demo's own session: a Ctrl-C must reach Go as well. stdout stays free for JSON."""
    try:
        built()
    except NotBuilt:
        print("builds a Kubernetes control plane, about 7 minutes, once", file=sys.stderr, flush=True)
        with contextlib.redirect_stdout(sys.stderr):
            binaries()


if __name__ == "__main__":
    sys.exit(main())
