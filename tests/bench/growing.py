"""`make bench-growing`: what open cases, more workers and storms cost, into .bench/growing (Markdown and JSON).

python -m tests.bench.growing --parts approval,people,closing,storm --open 10,100,1000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench import growing_closing, growing_storm, growing_waiting
from tests.bench.growing_report import write
from tests.bench.report import machine
from worker.demo.processes import ProcessTree
from worker.leave import leave

PARTS = ("approval", "people", "closing", "storm")
STORMS = ((50, 1), (50, 50), (2000, 1), (2000, 50))
"""Targets, alerts in a group."""


def main() -> None:
    """Parses the arguments and runs the parts, each site on processes of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.growing", description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--open", default="10,100,1000", help="cases that wait at once; 5000 takes half an hour")
    parser.add_argument("--closing", type=int, default=300, help="cases of the storm that one and two workers close")
    parser.add_argument("--alerts", type=int, default=10_000, help="alerts of a storm through the intake")
    parser.add_argument("--storms", default="", help="of them by number, from 0; all without it")
    parser.add_argument("--domains", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(".bench"))
    parser.add_argument("--beside", default="", help="what else ran on the machine; it stands under the tables")
    options = parser.parse_args()
    out = options.out.absolute()
    place = out / "growing" / "results.json"
    told: dict[str, Any] = json.loads(place.read_text()) if place.exists() else {}
    chosen = [STORMS[int(n)] for n in options.storms.split(",")] if options.storms else STORMS
    open_ones = {"sizes": [int(n) for n in options.open.split(",")], "domains": options.domains}
    jobs: dict[str, Callable[[], list[Any]]] = {
        "approval": lambda: _run(out / "runs", partial(growing_waiting.measure, waits="approval", **open_ones)),
        "people": lambda: _run(out / "runs", partial(growing_waiting.measure, waits="people", **open_ones)),
        "closing": lambda: [
            _run(
                out / "runs",
                partial(growing_closing.measure, workers=n, count=options.closing, domains=options.domains),
            )
            for n in (1, 2)
        ],
        "storm": lambda: [
            _run(
                out / "runs",
                partial(
                    growing_storm.measure, alerts=options.alerts, targets=targets, size=size, domains=options.domains
                ),
            )
            for targets, size in chosen
        ],
    }
    for part in options.parts.split(","):
        about = machine() | {"commit": _commit(), "beside": options.beside or "nothing"}
        # Parts measured earlier stay, each with the machine and the moment that it was measured at.
        told[part] = {"machine": about, "rows": [asdict(r) if is_dataclass(r) else r for r in jobs[part]()]}  # type: ignore[arg-type]
        write(out / "growing", told)
    print((out / "growing" / "table.md").read_text())


def _run(folder: Path, job: Callable[[ProcessTree], Coroutine[Any, Any, Any]]) -> Any:
    shutil.rmtree(folder, ignore_errors=True)
    with ProcessTree(folder) as tree:
        found = asyncio.run(job(tree))
    print(f"{time.strftime('%H:%M:%S')} {found}", file=sys.stderr, flush=True)
    return found


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    leave(main)
