"""`interlock runbook`: check a catalogue before it is used, and write the JSON Schemas that editors complete YAML with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from runbooks.fleet import Fleet
from runbooks.library import SHIPPED, json_schemas, load_library
from runbooks.linting import check, check_runbook
from runbooks.loader import build, read

app = typer.Typer(
    name="runbook", help="Check runbooks, policy and taxonomy; write their JSON Schemas.", no_args_is_help=True
)


@app.command(name="check")
def check_command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Catalogue folders or single runbook files. None: the shipped catalogue."),
    ] = None,
    fleet: Annotated[
        Path | None,
        typer.Option(help="Your fleet file: pools, routes and nodes that a runbook names are looked up there."),
    ] = None,
) -> None:
    """Say what is wrong, one line per mistake with file, line and field. Exit 1 when there is any."""
    problems: list[str] = []
    own = build(read(fleet), Fleet) if fleet is not None else None
    for path in paths or [SHIPPED]:
        found = check_runbook(path, fleet=own) if path.is_file() else check(path, own)
        problems += found
        if not found:
            typer.echo(f"{path}: {_summary(path)}")
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(code=1)


@app.command()
def schema(
    out: Annotated[Path, typer.Option(help="Folder to write to; it is made when missing.")] = Path("docs/schemas"),
) -> None:
    """Write one JSON Schema per kind of file."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in json_schemas().items():
        path = out / f"{name}.json"
        path.write_text(as_text(content), encoding="utf-8")
        typer.echo(str(path))


def as_text(content: dict[str, object]) -> str:
    """A schema as it is written: sorted, so that a change of a model is a small change of the file."""
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _summary(path: Path) -> str:
    if path.is_file():
        return "ok"
    library = load_library(path)
    return f"ok, {len(library.taxonomy.classes)} classes, {len(library.taxonomy.rules)} rules, {len(library.runbooks)} runbooks"
