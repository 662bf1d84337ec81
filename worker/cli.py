"""The one command line. Each group of commands is a file in `worker/commands/`; this table is the list of them.

A file is imported when its command is called: the worker's parts cost seconds, which `interlock approve` must not pay in
the middle of an incident. To add a command: the file, with a typer `app` (or a plain function of the command's name),
and its rows here. tests/worker/test_cli.py fails until they agree.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "approve": "decide",
    "reject": "decide",
    "withdraw": "decide",
    "takeover": "decide",
    "hand-back": "decide",
    "abort": "decide",
    "halt": "halt",
    "resume": "halt",
    "intake": "intake",
    "worker": "worker",
    "watch": "watch",
    "detect": "detect",
    "undo": "undo",
    "settle": "undo",
    "replay": "replay",
    "demo": "demo",
    "up": "demo",
    "report": "report",
    "backtest": "backtest",
}
"""Command → the file that has it."""
GROUPS = {
    "breaker": "breaker",
    "cases": "cases",
    "histories": "histories",
    "incident": "incident",
    "journal": "journal",
    "policy": "policy",
    "runbook": "runbook",
}
"""Commands with sub-commands (`interlock cases show …`) → the file whose whole `app` they are."""


def commands_of(file: str) -> dict[str, Any]:
    """The commands of one file, by name."""
    module = import_module(f"worker.commands.{file}")
    found = getattr(module, "app", None)
    if found is None:
        found = typer.Typer()
        for name in (n for n, f in COMMANDS.items() if f == file):
            found.command(name)(getattr(module, name.replace("-", "_")))
    return dict(typer.main.get_group(found).commands)


class Lazy(TyperGroup):
    """Knows all names, imports the file of the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the tables."""
        return [*COMMANDS, *GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None when there is none of this name."""
        if cmd_name in GROUPS:
            group = typer.main.get_group(import_module(f"worker.commands.{GROUPS[cmd_name]}").app)
            group.name = cmd_name
            return group
        return commands_of(COMMANDS[cmd_name])[cmd_name] if cmd_name in COMMANDS else None


app = typer.Typer(
    name="interlock",
    cls=Lazy,
    help="No lever moves until its gates say that it is safe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with local variables would show secrets
)


@app.callback()
def _interlock() -> None:
    """No lever moves until its gates say that it is safe."""
