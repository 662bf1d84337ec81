"""`python -m tests.mutants.incidents [--jobs N] [--gate G13 …] FILES…`: which incident misses which gate?

Each gate in turn allows always, and the incidents are played: Markdown, a row per gate with the incidents that then fail.
The exit status is 1 when a gate is missed by none. Some 70 s of one core per gate for the files of `past` and `gates`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import runbooks.safety
from runbooks.facts import Facts
from runbooks.gates.question import Gate, Question, say
from runbooks.incident import Incident
from runbooks.library import load_policy
from runbooks.plan import GateVerdict
from worker.leave import leave
from worker.replay_files import incidents_in
from worker.replay_one import Options
from worker.replay_pool import replay_all

WITHOUT = "INTERLOCK_TEST_WITHOUT_GATE"


def number(gate: Gate) -> str:
    """`G13` of `g13_correlated`."""
    return gate.__name__.partition("_")[0].upper()


def allowing(name: str) -> None:
    """From now on this gate allows always, in this process."""

    def allow(q: Question, f: Facts) -> GateVerdict:
        return say(name, "allow", "mutant")

    kept = [g for g in runbooks.safety.GATES if number(g) == name]
    assert len(kept) == 1, name
    allow.__name__ = kept[0].__name__
    runbooks.safety.GATES = tuple(allow if g is kept[0] else g for g in runbooks.safety.GATES)


# Each process that plays begins by importing the main module of the one that started it, which is this one.
if __name__ == "__mp_main__" and os.environ.get(WITHOUT):
    allowing(os.environ[WITHOUT])


def failing(incidents: Sequence[Incident], gate: str, jobs: int) -> list[str]:
    """Names of the incidents that fail without the gate. Empty `gate`: with all of them."""
    os.environ[WITHOUT] = gate
    rows = replay_all(incidents, Options(load_policy()), jobs)
    return [r.incident for r in rows if r.expectations_failed]


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.incidents", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--gate", action="append", help="only these")
    parser.add_argument("files", nargs="+", type=Path)
    args = parser.parse_args()
    incidents = incidents_in(args.files)
    anyway = failing(incidents, "", args.jobs)
    if anyway:
        print(f"these fail with all gates: {', '.join(anyway)}")
        return 2
    print(f"| always allows | of {len(incidents)} incidents these fail |\n|---|---|", flush=True)
    missed = True
    for gate in args.gate or [number(g) for g in runbooks.safety.GATES]:
        found = failing(incidents, gate, args.jobs)
        missed = missed and bool(found)
        print(f"| {gate} | {', '.join(found) or 'none'} |", flush=True)
    return 0 if missed else 1


if __name__ == "__main__":
    leave(main)
