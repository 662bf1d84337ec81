"""One command line: every command file is in its table, and what people need in an incident starts fast."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import worker.commands
from worker.cli import COMMANDS, GROUPS, commands_of

FILES = sorted(
    f.stem for f in Path(str(worker.commands.__file__)).parent.glob("*.py") if f.stem not in ("__init__", "client")
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs it in a process of its own."""
    return subprocess.run([sys.executable, "-m", "worker", *words], capture_output=True, text=True, timeout=60)


def test_every_command_file_is_in_the_table_and_every_row_has_a_file() -> None:
    """A command that is written but not listed does not exist for anybody."""
    assert sorted({*COMMANDS.values(), *GROUPS.values()}) == FILES


@pytest.mark.parametrize("file", sorted(set(COMMANDS.values())))
def test_the_commands_of_a_file_are_its_rows(file: str) -> None:
    """No command of a file is missing from the table."""
    assert set(commands_of(file)) == {name for name, f in COMMANDS.items() if f == file}


@pytest.mark.parametrize("file", sorted(GROUPS.values()))
def test_a_group_has_commands(file: str) -> None:
    """`interlock cases` and the like."""
    assert typer.main.get_group(import_module(f"worker.commands.{file}").app).commands


def test_help_lists_all_and_an_unknown_command_is_said_so() -> None:
    """`interlock` alone helps; a misspelt command exits 2."""
    listed = run("--help")
    wrong = run("aprove")

    assert listed.returncode == 0
    assert all(f" {name} " in listed.stdout for name in (*COMMANDS, *GROUPS))
    assert (wrong.returncode, "aprove" in wrong.stderr) == (2, True)
    assert run("cases", "--help").stdout.count("show") >= 1


def test_people_do_not_wait_for_the_workers_parts() -> None:
    """`interlock approve` loads neither Temporal nor a database nor the exporters."""
    heavy = "import sys; from worker.cli import commands_of; commands_of('decide'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, timeout=60).stdout.split()

    assert "typer" in loaded
    assert not {"temporalio", "sqlalchemy", "fastapi", "opentelemetry.sdk"} & set(loaded)
