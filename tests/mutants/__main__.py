"""`python -m tests.mutants [--sample N --seed S] [PART …]`: mutants of every gate and every Guard transition.

PART: only mutants whose name contains it. The exit status is 1 when one survives that equivalent.yaml does not explain.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence

import pytest

from tests.mutants.equivalent import reasons, stale
from tests.mutants.lane import ROOT, TESTS, Lane, all_mutants
from tests.mutants.mutate import Mutant
from worker.leave import leave


def main() -> int:
    """Prints the share that was caught, and each survivor."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=0, help="only so many, by chance")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("part", nargs="*", help="only mutants whose name contains this")
    args = parser.parse_args()
    known = reasons()

    def choose(found: Sequence[Mutant]) -> list[Mutant]:
        mutants = [m for m in found if m.key not in known]
        if args.part:
            mutants = [m for m in mutants if any(p in m.key for p in args.part)]
        return random.Random(args.seed).sample(mutants, min(args.sample, len(mutants))) if args.sample else mutants

    if old := stale(all_mutants()):
        print("\n".join(["equivalent.yaml names no such mutant, or gives no reason:", *old]))
        return 1
    os.chdir(ROOT)
    lane = Lane(choose, args.workers)
    quiet = ["-q", "--noconftest", "-p", "no:cacheprovider"]
    status = pytest.main([*quiet, *TESTS], plugins=[lane])
    if status != pytest.ExitCode.OK or not lane.ran:
        print(f"the tests could not be run against mutants: {status!r}")
        return 2
    caught = len(lane.ran) - len(lane.survivors)
    print(f"{caught} of {len(lane.ran)} mutants caught ({caught / len(lane.ran):.1%}) in {lane.seconds:.0f} s; "
          f"{len(known)} more change nothing (tests/mutants/equivalent.yaml)")  # fmt: skip
    return 1 if lane.survivors else 0


if __name__ == "__main__":
    leave(main)
