"""A sample of the mutants in every run, and the list of those that are no different is kept honest. All: `make mutants`."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.mutants.equivalent import FILE, reasons, stale
from tests.mutants.lane import FILES, ROOT, all_mutants
from tests.mutants.mutate import mutants_of

SAMPLE, SEED = 40, 20261124


def test_a_sample_of_the_mutants_is_caught() -> None:
    """The same ones each time, until the code changes. A survivor is named in what it prints."""
    run = [sys.executable, "-m", "tests.mutants", "--sample", str(SAMPLE), "--seed", str(SEED)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert f"{SAMPLE} of {SAMPLE} mutants caught" in done.stdout


def test_every_entry_of_the_list_names_a_mutant_and_says_why_nothing_differs() -> None:
    """One that no longer matches must go: the code that it excused is another."""
    assert stale(all_mutants()) == []
    assert "equivalent" in FILE.name


def test_no_two_mutants_have_one_name() -> None:
    """An entry of the list excuses exactly one."""
    names = [m.key for m in all_mutants()]
    assert len(names) == len(set(names))
    assert set(reasons()) <= set(names)
    assert {m.file for m in all_mutants()} == set(FILES)


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("def f(a, b):\n    return a < b", ["a < b → GtE", "a < b → LtE", "return a < b → dropped", "return a < b → return None"]),
        ("def f(a, b):\n    g(a and b)", ["a and b → or", "a and b → without a", "a and b → without b", "g(a and b) → dropped"]),
        ("def f(a):\n    assert a < 1\n    return None", []),
        ("def f(q):\n    return say(q, 'ask', until=q)", [
            "'ask' → 'allow'", "'ask' → 'deny'", "'ask' → 'hold'", "return say(q, 'ask', until=q) → dropped",
            "return say(q, 'ask', until=q) → return None", "say(… until=q) → without it",
        ]),
        ("MOST = 3", ["3 → 2", "3 → 4"]),
        ("class C(Model):\n    most: int = 3\n\n    def f(self):\n        self.x = not 1",
         ["1 → 0", "1 → 2", "not 1 → 1", "self.x = not 1 → dropped"]),
    ],
    ids=["comparison", "and", "nothing that runs", "outcome", "constant", "method"],
)  # fmt: skip
def test_what_is_changed_in_a_piece_of_code(source: str, changes: list[str]) -> None:
    """Each change alone, and each can be compiled."""
    found = mutants_of("x.py", source)
    assert sorted(m.what for m in found) == sorted(changes)
    for mutant in found:
        compile(ast.Module([mutant.build()], []), "x.py", "exec")
