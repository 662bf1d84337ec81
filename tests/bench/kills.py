"""`python -m tests.bench.kills --seed N --runs K`: storms of alerts while worker, intake and Temporal are killed, then an audit.

Each run prints its seed and its counts. The exit status is 1 when anything was lost, done twice, or forbidden.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.kills_audit import Verdict, audit
from tests.bench.kills_faults import FAULTS, Fault
from tests.bench.kills_plant import running_plant
from tests.bench.kills_storm import Storm, raging

ILLS = 4
"""How often a fault comes and goes in one run."""


async def run(seed: int, folder: Path, kills: int = 9, domains: int = 2, fault: Fault | None = None) -> Verdict:
    """One storm of so many kills, or of one fault that comes and goes, and what became of everything in it."""
    began = time.monotonic()
    async with running_plant(folder, domains, fault) as plant:
        storm = Storm(plant, random.Random(seed))
        await raging(storm, ILLS if fault else kills, fault is not None)
        return await audit(storm, seed, began)


def main() -> None:
    """The command."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--seed", type=int, default=1, help="of the first run; each further run has the next")
    asked.add_argument("--runs", type=int, default=20)
    asked.add_argument("--kills", type=int, default=9, help="in one run")
    asked.add_argument("--domains", type=int, default=2)
    asked.add_argument("--keep", type=Path, help="keep logs, journal and histories in this folder")
    asked.add_argument("--fault", choices=FAULTS, help="this, a few times, instead of kills")
    given = asked.parse_args()
    what = given.fault or f"{given.kills} kills"
    print(f"kills: {given.runs} runs of {what}; {platform.machine()}, {os.cpu_count()} cores", flush=True)
    found = [_one(seed, given) for seed in range(given.seed, given.seed + given.runs)]
    accepted, lost, twice = (
        sum(n) for n in zip(*((v.accepted, len(v.lost), len(v.twice)) for v in found), strict=True)
    )
    kills = {k: sum(v.kills[k] for v in found) for k in found[0].kills}
    print(f"all {len(found)} runs: accepted {accepted}, lost {lost}, twice {twice}, kills {kills}, "
          f"acts {sum(v.acts for v in found)}, runs with something wrong {sum(not v.good for v in found)}")  # fmt: skip
    _leave(0 if all(v.good for v in found) else 1)


def _one(seed: int, given: argparse.Namespace) -> Verdict:
    folder = Path(tempfile.mkdtemp(prefix=f"kills-{seed}-"))
    verdict = asyncio.run(run(seed, folder, given.kills, given.domains, given.fault))
    print(verdict, flush=True)
    if given.keep:
        shutil.copytree(folder, given.keep / f"seed-{seed}", ignore_dangling_symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(folder)
    return verdict


def _leave(status: int) -> None:
    """Without the interpreter's own end: a process that used the Temporal SDK can die in it (facts/temporal.md 6)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
