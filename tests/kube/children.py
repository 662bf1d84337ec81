"""Programs that this process started: kept by name, logged to files, ended by their own process objects."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


class Children:
    """All that `start` started. Logs are `folder`/NAME.log."""

    def __init__(self) -> None:
        self.folder = Path()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped: set[str] = set()

    def start(self, name: str, argv: list[str]) -> None:
        """Start one, from a thread that lives as long as it should."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(ending_with_us(argv), stdout=log, stderr=log, cwd=self.folder)

    def until(self, name: str, condition: Callable[[], bool], deadline_s: float = 60) -> None:
        """Wait for what shows that it is up. RuntimeError with its log's end when it is not, or when any has ended."""
        end = time.monotonic() + deadline_s
        while not condition():
            dead = [n for n, p in self.processes.items() if p.poll() is not None]
            if dead or time.monotonic() > end:
                who = dead[0] if dead else name
                what = "ended" if dead else f"did not come up within {deadline_s} s"
                raise RuntimeError(f"{who} {what}\n{self.log(who)}")
            time.sleep(0.05)

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.processes[name].send_signal(signal.SIGSTOP)
        self._stopped.add(name)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.processes[name].send_signal(signal.SIGCONT)
        self._stopped.discard(name)

    def resume_all(self) -> None:
        """SIGCONT to all that were paused."""
        for name in tuple(self._stopped):
            self.resume(name)

    def kill_all(self) -> None:
        """SIGKILL, the last started first, and reap."""
        for process in reversed(self.processes.values()):
            process.kill()
        for process in self.processes.values():
            process.wait(10)
        self.processes.clear()
        self._stopped.clear()

    def log(self, name: str) -> str:
        """The last lines that it wrote."""
        path = self.folder / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else "(no log)"


def ending_with_us(argv: list[str]) -> list[str]:
    """The argv, killed by the kernel when the thread that starts it ends (setpriv is in Debian's util-linux)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *argv] if setpriv else argv
