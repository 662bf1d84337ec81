"""`python -m tests.run`: pytest, with the end that a process needs that has used the Temporal SDK.

Such a process can die with SIGABRT or SIGSEGV after its work is done (facts/temporal.md 6): the exit status is pytest's own.

Without paths it runs everything in two lanes side by side, since most tests wait for something most of the time. The
kill lanes, which are many processes at once, come last, when the other lane has ended. What has failed by then is run once
more, each alone (what one fixture failed, together); what passes is told with its first failure (docs/adr/0015).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ASIDE = ("activities", "runbooks", "scenarios", "worker", "test_histories.py", "test_packaging.py", "test_wiring.py")
"""What the second lane runs: tests that wait for workflows, and pure ones."""
LAST = ("crash", "crash_kube")
KEEP = "--keep-outcome="
"""The file to which the second lane writes what became of it."""
ALONE_AT_MOST = 5
"""So many things may fail beside others and pass alone: tests, or fixtures with all that stand on them. More are a pattern
and no accident, and fail the run."""
OK, FAILED, NONE_FOUND = (
    int(code) for code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
)


@dataclass(eq=False)
class Lane:
    """What became of one run of pytest. `failed`: test → its failure in full. `wide`: test → the fixture of its module or
    session that could not be made. `whole`: it came to all of its tests."""

    status: int = -1
    whole: bool = False
    failed: dict[str, str] = field(default_factory=dict)
    wide: dict[str, str] = field(default_factory=dict)

    @property
    def told(self) -> bool:
        """It ended by itself, and what it failed by is known test by test."""
        passed = self.status in (OK, NONE_FOUND)
        return self.whole and (passed or (self.status == FAILED and bool(self.failed)))

    def __post_init__(self) -> None:
        self._broken: list[tuple[BaseException, str]] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        """Notes by which fixture of more than one test a failure came; pytest raises it anew for every test that follows."""
        try:
            return (yield)
        except BaseException as error:
            if fixturedef.scope != "function" and all(error is not known for known, _ in self._broken):
                self._broken.append((error, f"{fixturedef.baseid}::{fixturedef.argname}"))
            raise

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """What hung is each time its own: a time-out says nothing of why."""
        report = yield
        if (
            report.failed
            and call.when == "setup"
            and call.excinfo is not None
            and "Timeout (>" not in str(call.excinfo.value)
        ):
            fixture = next((name for error, name in self._broken if error is call.excinfo.value), None)
            if fixture is not None:
                self.wide[item.nodeid] = fixture
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps a failure, whether it was in the test or in what it stands on."""
        if report.failed:
            printed = "".join(f"\n--- {title} ---\n{text}" for title, text in report.sections)
            before = self.failed.get(report.nodeid, "")
            self.failed[report.nodeid] = f"{before}{report.when}: {report.longreprtext}{printed}\n"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Names tests by their whole path: they are run again from elsewhere."""
        self.whole = not (session.shouldfail or session.shouldstop)
        self.failed = {f"{session.config.rootpath}/{name}": why for name, why in self.failed.items()}
        self.wide = {f"{session.config.rootpath}/{name}": fixture for name, fixture in self.wide.items()}


def run(args: Sequence[str]) -> Lane:
    """pytest, in this process."""
    lane = Lane()
    lane.status = int(pytest.main([*args], plugins=[lane]))
    return lane


def main() -> None:
    """Runs pytest with the given arguments and leaves without the interpreter's own end."""
    keep = next((arg.removeprefix(KEEP) for arg in sys.argv[1:] if arg.startswith(KEEP)), None)
    given = [arg for arg in sys.argv[1:] if not arg.startswith(KEEP)]
    if any(Path(arg.partition("::")[0]).exists() for arg in given if not arg.startswith("-")):
        lane = run(given)
        status = lane.status
        if keep is not None:
            Path(keep).write_text(json.dumps(asdict(lane)))
    else:
        status = both(given, _first(), [HERE / name for name in ASIDE])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def both(options: Sequence[str], first: Sequence[Path], aside: Sequence[Path]) -> int:
    """Everything, in two lanes. What the second says is shown when the first has ended. Returns the exit status."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as said:
        kept = [Path(folder) / "first.json", Path(folder) / "aside.json"]
        running = [
            subprocess.Popen([*_python(options), f"{KEEP}{keep}", *map(str, paths)], stdout=out, stderr=out)
            for keep, paths, out in zip(kept, (first, aside), (None, said), strict=True)
        ]
        try:
            statuses = [lane.wait() for lane in running]
        finally:
            for lane in running:
                lane.kill()
                lane.wait()
        said.seek(0)
        print(said.read(), flush=True)
        # One that died has written nothing.
        lanes = [Lane(**json.loads(keep.read_text())) if keep.exists() else Lane() for keep in kept]
    if statuses != [lane.status for lane in lanes] or not all(lane.told for lane in lanes):
        _head("a lane did not come to its end: nothing is run again")
        return max(FAILED, *statuses)
    return _again(options, lanes)


def _again(options: Sequence[str], lanes: Sequence[Lane]) -> int:
    """The exit status, when all that failed has had its second try."""
    failed = {name: why for lane in lanes for name, why in lane.failed.items()}
    if not failed:
        return max([lane.status for lane in lanes if lane.status != NONE_FOUND] or [NONE_FOUND])
    accidents = _accidents(failed, {name: fixture for lane in lanes for name, fixture in lane.wide.items()})
    if len(accidents) > ALONE_AT_MOST:
        _head(f"{_count(failed, accidents)}; more than {ALONE_AT_MOST} are no accident: none is run again")
        # At the very end: whoever has only the last lines of a log learns what it was.
        for why, names in accidents.items():
            print(f"{len(names)} × {_in_a_line(why)}\n    {names[0]}", flush=True)
        return FAILED
    _head(f"run again, alone: {_count(failed, accidents)}")
    alone: dict[str, bool] = {}
    for names in accidents.values():
        passed = subprocess.call([*_python(options), *names]) == OK
        alone |= dict.fromkeys(names, passed)
    for heading, passed in (("passed only when alone (load)", True), ("failed twice", False)):
        names = [name for name in failed if alone[name] is passed]
        if names:
            _head(f"{heading}: {len(names)}")
        for name in names:
            print(f"{name}\n{failed[name]}", flush=True)
    return OK if all(alone.values()) else FAILED


def _accidents(failed: dict[str, str], wide: dict[str, str]) -> dict[str, list[str]]:
    """Failure → its tests. A fixture of a session or module that could not be made fails every test that stands on it with
    the same words: that happened once. Everything else happened to one test."""
    found: dict[str, list[str]] = {}
    for name, why in failed.items():
        # The error and where it was raised. Frames above it and what was printed differ from test to test.
        lines = why.partition("\n--- ")[0].splitlines()
        marked = [line for line in lines if line.startswith("E ")]
        error = "\n".join([*marked, lines[-1]] if marked else lines)
        found.setdefault(f"{error}\n{wide.get(name, name)}", []).append(name)
    return found


def _count(failed: dict[str, str], accidents: dict[str, list[str]]) -> str:
    return f"{len(failed)} test(s) failed by {len(accidents)} cause(s)"


def _in_a_line(error: str) -> str:
    """The first line that pytest marks as the error, and where."""
    lines = error.splitlines()
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    where = next((line for line in reversed(lines) if "::" not in line), "")
    return f"{(marked or lines)[0][:300]} ({where})"


def _python(options: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "tests.run", *options]


def _head(text: str) -> None:
    print(f"\n{f' {text} ':=^100}", flush=True)


def _first() -> list[Path]:
    """All that holds tests and is not in the second lane: a new folder is never forgotten."""
    holds = [p for p in HERE.iterdir() if p.name.startswith("test_") or (p.is_dir() and any(p.rglob("test_*.py")))]
    mine = [p for p in holds if p.name not in ASIDE]
    return sorted(mine, key=lambda p: (p.name in LAST, p.name))


if __name__ == "__main__":
    main()
