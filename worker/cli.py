"""The one command line. Each group of commands is a file in `worker/commands/`; this is the list of them."""

from __future__ import annotations

import typer

from worker.commands import cases, decide, halt, intake, runbook

app = typer.Typer(
    name="interlock",
    help="No lever moves until its gates say that it is safe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with local variables would show secrets
)

# Commands with a name of their own (`interlock cases …`).
for name, group in {"cases": cases.app, "runbook": runbook.app}.items():
    app.add_typer(group, name=name)

# Commands directly under `interlock`.
for group in (decide.app, halt.app, intake.app):
    app.registered_commands += group.registered_commands
