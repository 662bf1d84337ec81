"""`python -m tests.kappa SEED…`: how well real cases are classified on synthetic incidents, and how many need no person.

Each seed stands for `--count` incidents (`generate: {seed, count}`), played by the real workflows, gates, ports and runbooks
over the simulated fleet, as `interlock replay` does. An incident's class is that of its main case at its end. A seed that somebody
has looked at while rules were written is no measurement any more: use fresh ones, and say which.

`mitigated`: what Interlock did in the main case was proven to help, and its time to mitigate stopped there; a person at most approved.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from runbooks.library import load_policy
from worker.agreement import Kappa, confusion, kappa
from worker.replay_one import Options
from worker.replay_pool import replay_all, usual_jobs
from worker.replay_result import Row
from worker.synthetic import generate

HEAD = (
    "| seeds | incidents | accuracy | kappa [95 %] | unknown | right where a class was given | mitigated |\n"
    "|---|---|---|---|---|---|---|"
)


def pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(true class, class found); no case at all counts as unknown."""
    return [(row.truth_class, row.found_class or "unknown") for row in rows]


def line(name: str, rows: Sequence[Row]) -> str:
    """One row of the table."""
    both, given = pairs(rows), [p for p in pairs(rows) if p[1] != "unknown"]
    right = sum(a == b for a, b in given) / len(given) if given else 0.0
    unknown = 1 - len(given) / len(both)
    mitigated = sum(row.ttm_s is not None for row in rows) / len(rows)
    found = kappa(both)
    return f"| {name} | {len(rows)} | {found.observed:.3f} | {_words(found)} | {unknown:.1%} | {right:.1%} | {mitigated:.1%} |"


def _words(found: Kappa) -> str:
    if found.value is None:
        return "not defined"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def told(by_seed: dict[int, list[Row]], people: dict[str, str]) -> str:
    """All of it as text. `people`: how each incident was found, by its name."""
    rows = [row for some in by_seed.values() for row in some]
    lines = [HEAD, *(line(str(seed), some) for seed, some in by_seed.items())]
    if len(by_seed) > 1:
        lines.append(line("all", rows))
    for how in sorted(set(people.values())):
        if some := [r for r in rows if people.get(r.incident) == how]:
            lines.append(line(f"found: {how}", some))
    lines += ["", "Confusions (true → found):"]
    lines += [f"{n:4} {a} → {b}" for (a, b), n in confusion(pairs(rows)).items() if a != b]
    lines += ["", "Ends: " + ", ".join(f"{end} {n}" for end, n in Counter(str(r.outcome) for r in rows).most_common())]
    lost = [
        r.incident
        for r in rows
        if any("could not be played" in f or "no end within" in f for f in r.expectations_failed)
    ]
    return "\n".join([*lines, *([f"Not played: {', '.join(lost)}"] if lost else [])])


def main() -> None:
    """Plays and prints. `--json FILE` keeps the rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.kappa", description=__doc__.splitlines()[0])
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--count", type=int, default=156, help="Incidents of each seed; 156 are the paper's.")
    parser.add_argument("--jobs", type=int, default=usual_jobs())
    parser.add_argument("--json", type=Path, default=Path(tempfile.gettempdir()) / "kappa.json", help="Rows, per seed.")
    args = parser.parse_args()
    by_seed: dict[int, list[Row]] = {}
    people: dict[str, str] = {}
    for seed in args.seeds:
        incidents = [made.incident for made in generate(seed, args.count)]
        people |= {i.incident: i.truth.found for i in incidents}
        by_seed[seed] = replay_all(incidents, Options(load_policy()), args.jobs)
        args.json.write_text(
            json.dumps({s: [r.as_json() for r in some] for s, some in by_seed.items()}), encoding="utf-8"
        )
    print(told(by_seed, people))


if __name__ == "__main__":
    main()
