"""`interlock cases`: what is open, what was closed, and one case in full."""

from __future__ import annotations

import json

import typer

from worker.commands.client import call, case_path

app = typer.Typer(help="Open and closed cases.", invoke_without_command=True)


@app.callback()
def default(context: typer.Context) -> None:
    """Without a sub-command: the list."""
    if context.invoked_subcommand is None:
        list_cases()


@app.command("list")
def list_cases() -> None:
    """Open cases first, then the last closed ones."""
    found = call("GET", "/v1/cases")
    for one in found["open"]:
        typer.echo(f"{one['state']:<16} {one['class'] or '-':<24} {one['started_at'][:19]}  {one['workflow_id']}")
    for one in found["closed"]:
        typer.echo(
            f"{'closed':<16} {one.get('class') or '-':<24} {str(one.get('closed_at', ''))[:19]}  {one['workflow_id']}"
        )
    if not found["open"] and not found["closed"]:
        typer.echo("no cases")


@app.command("show")
def show(case: str = typer.Argument(help="The case's workflow id, remediate:…")) -> None:
    """Everything that the case says of itself: what it waits for, the digest to approve, who may, until when."""
    typer.echo(json.dumps(call("GET", case_path(case)), indent=2, ensure_ascii=False))
