"""A process tree on loopback: every child has a log, is watched, and is ended by its own pid, the last started first."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from worker.errors import OperatorError

T = TypeVar("T")
TAIL_LINES = 12
STOP_S = 5.0


class ChildFailed(OperatorError):
    """A child ended by itself or never became ready. The message names it and ends with the tail of its log."""

    def __init__(self, sentence: str, *, returncode: int | None) -> None:
        super().__init__(sentence)
        self.returncode = returncode


@dataclass
class Child:
    """One process and where it writes. `expected_dead` once we have ended it on purpose."""

    name: str
    argv: Sequence[str]
    process: subprocess.Popen[bytes]
    log: Path
    expected_dead: bool = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def alive(self) -> bool:
        """False once it has ended, whoever ended it."""
        return self.process.poll() is None

    def tail(self) -> str:
        """The last lines of its log, indented."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"    {line}" for line in lines) or "    (its log is empty)"


class ProcessTree:
    """Starts children and ends them all when the block ends, however it ends. `folder` gets logs/ and processes.txt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.children: list[Child] = []
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)

    def start(self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Child:
        """Start `argv` with `env` on top of this process's environment. ChildFailed when it cannot even be started.

        Must be called from the main thread: Envoy ends when the *thread* that started it ends (PR_SET_PDEATHSIG).
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"{name} must be started from the main thread, or it may end with a worker thread")
        log = self.folder / "logs" / f"{name}.log"
        with log.open("ab") as out:
            try:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(env or {})},
                    # Own session: Ctrl-C in the terminal reaches us alone, and we end the children in order.
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildFailed(f"{name} cannot be started: {error}", returncode=None) from error
        child = Child(name, tuple(argv), process, log)
        self.children.append(child)
        with (self.folder / "processes.txt").open("a") as record:
            record.write(f"{process.pid}\t{name}\t{' '.join(argv)}\n")
        return child

    async def ready(self, child: Child, probe: Callable[[], Awaitable[bool]], timeout_s: float = 20.0) -> None:
        """Poll until `probe` says True. ChildFailed when the child ends before, or is not ready in time."""
        until = time.monotonic() + timeout_s
        while not await probe():
            if not child.alive():
                raise _ended(child)
            if time.monotonic() > until:
                raise ChildFailed(
                    f"{child.name} was not ready within {timeout_s:.0f} s; its log {child.log} ends with\n{child.tail()}",
                    returncode=None,
                )
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """ChildFailed for the first child that ended although nobody here ended it."""
        for child in self.children:
            if not child.expected_dead and not child.alive():
                raise _ended(child)

    def stop(self, child: Child, grace_s: float = STOP_S) -> None:
        """End one child by its pid: SIGTERM, then SIGKILL after `grace_s`. Ended already: nothing happens."""
        child.expected_dead = True
        if child.alive():
            child.process.send_signal(signal.SIGCONT)  # a stopped process would sit on its SIGTERM for ever
            child.process.terminate()
            try:
                child.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                child.process.kill()
        child.process.wait()

    def kill(self, child: Child) -> None:
        """SIGKILL one child and wait until it is gone: a fault on purpose."""
        child.expected_dead = True
        child.process.kill()
        child.process.wait()

    def stop_all(self) -> None:
        """End all children, the last started first. Goes on to the end if interrupted, and then passes that on."""
        interrupted: BaseException | None = None
        while self.children:
            try:
                self.stop(self.children[-1])
                self.children.pop()
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def __enter__(self) -> Self:
        (self.folder / "processes.txt").write_text("")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop_all()


def _ended(child: Child) -> ChildFailed:
    code = child.process.returncode
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
    return ChildFailed(f"{child.name} ended {how}; its log {child.log} ends with\n{child.tail()}", returncode=code)


def free_ports(count: int) -> list[int]:
    """Ports on 127.0.0.1 that are free now, all different: held open together while they are picked."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


async def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; SIGINT and SIGTERM cancel it, so that its blocks end in order. Then KeyboardInterrupt is raised."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    caught: list[str] = []

    def cancel(name: str) -> None:
        # Only the first one: a second Ctrl-C must not cut the ending short and leave children behind.
        if not caught:
            caught.append(name)
            task.cancel()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, cancel, number.name)
    try:
        return await task
    except asyncio.CancelledError:
        if caught:
            raise KeyboardInterrupt(caught[0]) from None
        raise
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
