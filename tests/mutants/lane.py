"""Runs mutants: the tests are collected once, and each mutant lives in a fork of this process, by its code alone.

A mutant meets only the tests that came through its function (seen in one run without mutants), the quickest first, and is
caught by the first that fails. A mutant that hangs is caught as well.
"""

from __future__ import annotations
import __future__

import ast
import functools
import gc
import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.mutate import Mutant, mutants_of, parsed, units

ROOT = Path(__file__).parents[2]
FILES = (
    *(f"runbooks/gates/{p.name}" for p in sorted((ROOT / "runbooks/gates").glob("*.py")) if p.name != "__init__.py"),
    "runbooks/safety.py",
    *(f"runbooks/{p.name}" for p in sorted((ROOT / "runbooks").glob("guard*.py"))),
    "runbooks/several.py",
    "runbooks/decisions.py",
)
TESTS = (
    *(f"tests/runbooks/{p.name}" for p in sorted((ROOT / "tests/runbooks").glob("test_gate_*.py"))),
    "tests/runbooks/test_safety.py",
    "tests/runbooks/test_several.py",
    "tests/runbooks/test_decisions.py",
    *(f"tests/runbooks/{p.name}" for p in sorted((ROOT / "tests/runbooks").glob("test_guard*.py"))),
)
HANGS_S = 30
"""A mutant that takes longer than this with all its tests is in a loop: they take a few seconds."""
CAUGHT, SURVIVED = 0, 7


@functools.cache
def all_mutants() -> tuple[Mutant, ...]:
    """Of every file, in order."""
    return tuple(m for f in FILES for m in mutants_of(f, (ROOT / f).read_text(encoding="utf-8")))


@dataclass
class Lane:
    """A pytest plugin: instead of the tests it runs the mutants against them."""

    choose: Callable[[Sequence[Mutant]], list[Mutant]]
    workers: int = 2
    survivors: list[Mutant] = field(default_factory=list)
    ran: list[Mutant] = field(default_factory=list)
    seconds: float = 0.0

    def pytest_configure(self) -> None:
        """The same examples each time: a mutant is caught or not, whoever runs it."""
        settings = importlib.import_module("hypothesis").settings  # not before pytest has rewritten its asserts
        settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All of it. True: the tests themselves are not run again."""
        if session.testsfailed:
            raise pytest.UsageError("the tests cannot be collected")
        self.ran = self.choose(all_mutants())
        began = time.monotonic()
        meets, took = _who_meets_what(session.items)
        gc.collect()
        gc.freeze()  # a child must not copy every page only to look for garbage
        running: dict[int, tuple[Mutant, int]] = {}
        for mutant in self.ran:
            while len(running) >= self.workers:
                self._reap(running)
            tests = sorted(meets(mutant), key=lambda item: took[item])
            pid, pipe = _start(mutant, tests)
            running[pipe] = (mutant, pid)
        while running:
            self._reap(running)
        self.seconds = time.monotonic() - began
        return True

    def _reap(self, running: dict[int, tuple[Mutant, int]]) -> None:
        ready, _, _ = select.select(list(running), [], [])
        for pipe in ready:
            mutant, pid = running.pop(pipe)
            os.close(pipe)
            _, status = os.waitpid(pid, 0)
            if os.waitstatus_to_exitcode(status) == SURVIVED:
                self.survivors.append(mutant)
                print(f"\nsurvives  {mutant}\n          {mutant.key}", flush=True)


def _start(mutant: Mutant, tests: Sequence[pytest.Item]) -> tuple[int, int]:
    """Forks. The pipe of the child closes when it ends."""
    reads, writes = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writes)
        return pid, reads
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(HANGS_S)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        become(mutant)
        alive = all(_passes(item) for item in tests)
        os._exit(SURVIVED if alive else CAUGHT)
    except BaseException:  # noqa: BLE001  a mutant that cannot even be built or breaks pytest is caught
        os._exit(CAUGHT)


def _passes(item: pytest.Item) -> bool:
    return all(report.passed for report in runtestprotocol(item, log=False, nextitem=None))


def become(mutant: Mutant) -> None:
    """Puts the mutant into this process, into the very function object that everybody has imported."""
    module = importlib.import_module(mutant.file.removesuffix(".py").replace("/", "."))
    names = dict(vars(module))
    unit = mutant.build()
    if isinstance(unit, ast.FunctionDef):
        unit.decorator_list = []
    flags = __future__.annotations.compiler_flag
    exec(compile(ast.Module([unit], []), str(ROOT / mutant.file), "exec", flags=flags, dont_inherit=True), names)
    if not isinstance(unit, ast.FunctionDef):
        # Modules of ours that have imported the constant see the mutant's; tests keep the true one.
        for name, other in list(sys.modules.items()):
            if name.startswith("runbooks.") and mutant.path in vars(other):
                setattr(other, mutant.path, names[mutant.path])
        return
    now, then = function(module, mutant.path), names[unit.name]
    now.__code__, now.__defaults__, now.__kwdefaults__ = then.__code__, then.__defaults__, then.__kwdefaults__


def function(module: ModuleType, path: str) -> FunctionType:
    """The function of a dotted path, whether it is plain, a property or a class method."""
    found: Any = module
    for part in path.split("."):
        found = vars(found)[part]
    found = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
    assert isinstance(found, FunctionType), path
    return found


def _who_meets_what(
    items: Sequence[pytest.Item],
) -> tuple[Callable[[Mutant], Iterator[pytest.Item]], dict[pytest.Item, float]]:
    """One run without mutants: which test comes through which function, and how long it takes."""
    files = {str(ROOT / f) for f in FILES}
    functions = {
        (str(ROOT / f), path)
        for f in FILES
        for path, unit in units(parsed((ROOT / f).read_text(encoding="utf-8")))
        if isinstance(unit, ast.FunctionDef)
    }
    met: dict[tuple[str, str], set[pytest.Item]] = {}
    took: dict[pytest.Item, float] = {}

    def runs(item: pytest.Item) -> None:
        seen: set[CodeType] = set()

        def note(frame: FrameType, event: str, _: object) -> None:
            if event == "call" and frame.f_code.co_filename in files:
                seen.add(frame.f_code)

        began = time.monotonic()
        sys.setprofile(note)
        try:
            fine = _passes(item)
        finally:
            sys.setprofile(None)
        took[item] = time.monotonic() - began
        if not fine:
            raise pytest.UsageError(f"{item.nodeid} fails without any mutant")
        for code in seen:
            met.setdefault((code.co_filename, code.co_qualname.partition(".<locals>")[0]), set()).add(item)

    for item in items:
        runs(item)

    def meets(mutant: Mutant) -> Iterator[pytest.Item]:
        file = str(ROOT / mutant.file)
        if (file, mutant.path) in functions:
            yield from met.get((file, mutant.path), ())
        else:  # a constant, for whoever comes through its file
            yield from {i for (f, _), them in met.items() if f == file for i in them}

    return meets, took
