"""`make bench`: every row, one after the other, into .bench/results (table as text and Markdown, JSON, a plot)."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.contestant import CannotRun, Contestant, SinkView
from tests.bench.interlock import Interlock
from tests.bench.measures import Paced, Storm, paced, storm
from tests.bench.peers import Robusta, Rulebook
from tests.bench.report import machine, write
from tests.bench.wire import Connection
from worker.demo.processes import ProcessTree, free_ports
from worker.leave import leave

ROWS = ("embedded", "production", "robusta", "rulebook")
KILL_ACT_S = 0.1
"""How long an action takes in the kill run: with none at all nothing would be under way when the signal comes."""
MEASURES = ("paced", "burst", "slow", "kill")


@dataclass
class Row:
    """One contestant's results; `cannot` says why there are none."""

    name: str
    version: str
    settings: tuple[str, ...]
    paced: Paced | None = None
    burst: Storm | None = None
    slow: Storm | None = None
    kill: Storm | None = None
    cannot: str = ""


def contestant(name: str, tree: ProcessTree, domains: int) -> Contestant:
    """By the row's name."""
    if name in ("embedded", "production"):
        return Interlock(tree, production=name == "production", domains=domains)
    return Robusta(tree) if name == "robusta" else Rulebook(tree)


async def measure(name: str, measures: list[str], options: argparse.Namespace, folder: Path) -> Row:
    """One row. Each storm starts on a fresh contestant: what one leaves behind must not slow the next."""
    row: Row | None = None
    for what in measures:
        with ExitStack() as stack:
            tree = stack.enter_context(ProcessTree(folder / f"{name}-{what}"))
            who = contestant(name, tree, options.domains)
            row = row or Row(who.name, who.version, who.settings)
            stack.callback(who.stop)
            port = free_ports(1)[0]
            child = tree.start("sink", [sys.executable, "-m", "tests.bench.sink", "--port", str(port)])
            await tree.ready(child, partial(_answers, port))
            sink = SinkView(port)
            say(f"{who.name}: {what}: starting")
            try:
                await who.start(port)
            except CannotRun as error:
                row.cannot = str(error)
                say(f"{who.name} cannot run here: {error}")
                return row
            say(f"{who.name}: {what}")
            result = await one(what, who, sink, options)
            setattr(row, what, result)
            say(f"{who.name}: {what}: {json.dumps(asdict(result), default=str)[:900]}")
    assert row is not None
    return row


async def one(what: str, who: Contestant, sink: SinkView, options: argparse.Namespace) -> Paced | Storm:
    """One measure."""
    peer = not isinstance(who, Interlock)
    if what == "paced":
        await warm(who, sink)
        return await paced(who, sink, options.samples // (3 if isinstance(who, Rulebook) else 1), options.gap)
    if isinstance(who, Interlock):
        await who.hang_one_of_each()
    slow_act = isinstance(who, Rulebook)
    count = options.rulebook_alerts if slow_act else options.alerts
    if what == "slow":
        await sink.slow(1.0)
        count = min(count, options.slow_alerts)
    if what == "kill":
        await sink.slow(KILL_ACT_S)
    quiet = 8.0 if peer else 15.0
    return await storm(who, sink, count, quiet, options.most, kill=what == "kill")


async def warm(who: Contestant, sink: SinkView) -> None:
    """Three alerts that are not measured: imports, caches and connections of everybody are there then."""
    await paced(who, sink, 3, 0.5)


async def _answers(port: int) -> bool:
    try:
        async with Connection("127.0.0.1", port) as connection:
            return (await connection.ask("GET", "/acts/0"))[0] == 200
    except OSError:
        return False


def say(text: str) -> None:
    """Progress, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Parses the arguments and runs the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--measures", default=",".join(MEASURES))
    parser.add_argument(
        "--samples",
        type=int,
        default=30,
        help="paced alerts of a row; the policy allows five an hour of one engine",
    )
    parser.add_argument("--gap", type=float, default=1.0, help="seconds between an act and the next paced alert")
    parser.add_argument("--alerts", type=int, default=800, help="alerts of a storm")
    parser.add_argument("--slow-alerts", type=int, default=200, help="alerts of the storm whose actions take a second")
    parser.add_argument("--rulebook-alerts", type=int, default=16, help="ansible-rulebook takes seconds for each")
    parser.add_argument("--most", type=float, default=120.0, help="longest wait for the acts of a storm, seconds")
    parser.add_argument("--domains", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path(".bench"))
    parser.add_argument("--beside", default="", help="what else ran on the machine; it stands under the table")
    options = parser.parse_args()
    folder = options.out.absolute() / "runs"
    shutil.rmtree(folder, ignore_errors=True)
    rows: list[Any] = []
    for name in options.rows.split(","):
        rows.append(asyncio.run(measure(name, options.measures.split(","), options, folder)))
        write(options.out.absolute() / "results", rows, machine(), options.beside)
    print((options.out / "results" / "table.txt").read_text())


if __name__ == "__main__":
    leave(main)
