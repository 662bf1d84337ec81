"""Incidents over processes: each has a server of its own and plays one incident after another.

The next incident goes to whichever process is free. A process that dies takes its incident with it, which is told; another
one takes its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from temporalio.service import RPCError

from runbooks.incident import Incident
from runbooks.library import Library, load_library
from worker.replay_one import Options, replay_one
from worker.replay_result import Row
from worker.replay_row import lost
from worker.replay_stage import open_stage

LONGEST_S, SLOW_S, TRIES = 120.0, 1.0, 3
"""Real seconds after which an incident is given up, since something in it waits for what never comes; the longest that an
activity may take before the machine counts as too busy; and how often an incident is played for either reason."""


def usual_jobs() -> int:
    """One process for each core and one more: for a third of its time each waits for its server's next jump."""
    return (os.cpu_count() or 1) + 1


@dataclass
class _Hand:
    """One process. `at`: index of the incident that it plays."""

    process: SpawnProcess
    pipe: Connection
    at: int | None = None


def replay_all(
    incidents: Sequence[Incident], options: Options, jobs: int, told: Callable[[Row], None] = lambda _: None
) -> list[Row]:
    """A row for each, in order. `told` hears of each as soon as it has been played."""
    rows: dict[int, Row] = {}
    # The longest first: a long one that comes last would keep one core busy alone.
    left = sorted(range(len(incidents)), key=lambda i: incidents[i].lasts)
    # Read once: whoever edits the catalogue while it is played changes nothing of it.
    library = load_library(options.catalogue)
    with _hands(min(jobs, len(incidents)), options, library) as hands:
        for hand in hands:
            _give(hand, incidents, left)
        while len(rows) < len(incidents):
            for pipe in wait([h.pipe for h in hands if h.at is not None]):
                hand = next(h for h in hands if h.pipe is pipe)
                assert hand.at is not None
                rows[hand.at] = _heard(hand, incidents[hand.at], options, library)
                told(rows[hand.at])
                _give(hand, incidents, left)
    return [rows[i] for i in range(len(incidents))]


def _give(hand: _Hand, incidents: Sequence[Incident], left: list[int]) -> None:
    hand.at = left.pop() if left else None
    if hand.at is not None:
        with contextlib.suppress(BrokenPipeError):  # it has died: whoever listens for its row hears it
            hand.pipe.send(incidents[hand.at])


def _heard(hand: _Hand, incident: Incident, options: Options, library: Library) -> Row:
    try:
        row = hand.pipe.recv()
    except (EOFError, ConnectionResetError):
        hand.process.join()
        _kill(hand.process)
        row = lost(incident, f"the process that played it ended with status {hand.process.exitcode}")
        hand.process, hand.pipe = _start(options, library)
    assert isinstance(row, Row)
    return row


@contextlib.contextmanager
def _hands(count: int, options: Options, library: Library) -> Iterator[list[_Hand]]:
    hands = [_Hand(*_start(options, library)) for _ in range(count)]
    try:
        yield hands
    finally:
        for hand in hands:
            if hand.at is not None:  # interrupted: what it plays is of no use to anybody
                _kill(hand.process)
            hand.pipe.close()  # it ends by itself then
        for hand in hands:
            hand.process.join(10)
            if hand.process.exitcode != 0:
                _kill(hand.process)


def _kill(process: SpawnProcess) -> None:
    """With its server, which a process that is killed leaves behind. Gone already: nothing."""
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _start(options: Options, library: Library) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # threads of the SDK do not survive a fork
    mine, its = context.Pipe()
    process = context.Process(target=_serve, args=(its, options, library), name="interlock-replay", daemon=True)
    process.start()
    its.close()
    return process, mine


def _serve(pipe: Connection, options: Options, library: Library) -> None:
    """The life of one process. Its end is not the interpreter's own: threads of the SDK can crash it there."""
    os.setpgid(0, 0)  # a group of its own: see `_kill`
    os.set_inheritable(pipe.fileno(), False)  # held by its server, the pipe would not end with it
    os.environ.setdefault("TOKIO_WORKER_THREADS", "1")  # the SDK's; a second takes the core from the other process
    gc.disable()  # a tenth of the time; collected between incidents instead
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)  # an act that is refused is no fault of the replay
    status = 0
    try:
        asyncio.run(_play(pipe, options, library))
    except KeyboardInterrupt:
        status = 1
    except BaseException:  # noqa: BLE001  # os._exit would swallow the traceback
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


async def _play(pipe: Connection, options: Options, library: Library) -> None:
    incident, tries, frozen = await _next(pipe), 0, False
    while incident is not None:
        # After a failure a new server: the old one may still hold what failed.
        async with open_stage() as stage:
            whole = True
            while incident is not None and whole:
                tries += 1
                try:
                    async with asyncio.timeout(LONGEST_S):
                        row = await replay_one(stage, incident, options, library)
                except (TimeoutError, RPCError) as error:
                    whole = False
                    if tries < TRIES:
                        continue
                    why = f"{type(error).__name__}: {error}" if isinstance(error, RPCError) else "no end in time"
                    row = lost(incident, f"it could not be played, {TRIES} times: {why}")
                except Exception as error:  # noqa: BLE001  # whatever it is, it is this incident's row; the others go on
                    traceback.print_exc()
                    row, whole = lost(incident, f"it could not be played: {type(error).__name__}: {error}"), False
                if row.expectations_failed and stage.watch.slowest_s > SLOW_S and tries < TRIES:
                    continue  # time-outs and permits run by the wall's clock: what failed may be this machine
                pipe.send(row)
                gc.collect()
                if not frozen:
                    gc.freeze()  # what the first has loaded stays: to look at it again is a tenth of the time of each other
                    frozen = True
                incident, tries = await _next(pipe), 0


async def _next(pipe: Connection) -> Incident | None:
    """None: there is nothing more to do."""
    try:
        found = await asyncio.to_thread(pipe.recv)
    except EOFError:
        return None
    assert isinstance(found, Incident)
    return found
