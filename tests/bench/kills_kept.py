"""A process that always has a successor: whoever ends it, the next one is started at once."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

AGAIN_S = 0.2
"""Between the end of a process and the next one."""


@dataclass
class Kept:
    """A process that always has a successor. `ended`: ends that no kill of ours explains."""

    start: Callable[[], subprocess.Popen[bytes] | ForkServerProcess]
    kills: int = 0
    ended: int = 0
    process: subprocess.Popen[bytes] | ForkServerProcess | None = None
    killed: bool = False

    @property
    def running(self) -> bool:
        """Whether it is there now."""
        one = self.process
        return one is not None and (one.poll() if isinstance(one, subprocess.Popen) else one.exitcode) is None

    def kill(self) -> None:
        """SIGKILL, when there is something to kill."""
        if self.process is not None and self.running:
            self.killed = True
            self.process.kill()
            self.kills += 1

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            if not self.running:
                self.ended += self.process is not None and not self.killed
                self.reap()
                self.killed = False
                self.process = self.start()
            await asyncio.sleep(AGAIN_S)

    def reap(self) -> None:
        """Ends it for good and takes its status."""
        if self.process is None:
            return
        self.process.kill()
        if isinstance(self.process, subprocess.Popen):
            self.process.wait(10)
        else:
            self.process.join(10)


def run(argv: Sequence[str], log: Path, **more: Any) -> subprocess.Popen[bytes]:
    """A child whose words go to `log`."""
    with log.open("ab") as out:
        return subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT, **more)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a child and takes its status."""
    process.kill()
    process.wait(10)
