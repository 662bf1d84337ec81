"""`interlock incident`: check incident files, begin a new one, and print what may stand in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.commands.client import Failed, fail

app = typer.Typer(help="Check incident files, begin a new one, see what may stand in one.", no_args_is_help=True)
Out = Annotated[Path | None, typer.Option("--out", help="Write to this file. None: print it.")]


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="Incident files, or folders of them.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings as well.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No warnings.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also say what the rules make of the alerts, and what is then asked for.")
    ] = False,
    runbooks: Annotated[
        Path | None, typer.Option(help="Catalogue folder that it is held against. None: the shipped one.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy file. None: the shipped one.")] = None,
) -> None:
    """Say what is wrong, one sentence per mistake with file, line, field and the fix. Exit 1 for errors."""
    from runbooks.incident_check import explained
    from runbooks.library import load_library, load_policy
    from runbooks.loader import CatalogError
    from worker.incidents import check_files, files_in

    count = errors = warnings = 0
    try:
        library = load_library(runbooks)
        for one in check_files(files_in(files), library, load_policy(policy)):
            count, errors, warnings = count + 1, errors + len(one.errors), warnings + len(one.warnings)
            for line in (*one.errors, *(() if quiet else one.warnings)):
                typer.echo(line, err=line.startswith("error"))
            for line in explained(one.incident, library) if explain and one.incident is not None else ():
                typer.echo(f"{one.path}: {line}")
    except CatalogError as error:
        raise fail("\n".join(f"error: {p}" for p in error.problems)) from None
    typer.echo(f"{count} file(s), {errors} error(s), {warnings} warning(s)")
    if errors or (strict and warnings):
        raise Failed(1)


@app.command()
def new(out: Out = None) -> None:
    """A small incident with a word about each part: change it, check it, play it."""
    from worker.incidents_skeleton import SKELETON

    _give(SKELETON, out)


@app.command()
def schema(out: Out = None) -> None:
    """The JSON Schema, for editors and other tools."""
    from runbooks.incident_schema import as_text

    _give(as_text(), out)


@app.command()
def fields() -> None:
    """Every field with its kind, default and meaning, as in docs/incident-files.md."""
    from runbooks.incident_fields import tables

    typer.echo(tables())


@app.command()
def generate(
    seed: Annotated[int, typer.Option(min=0, help="The same seed and count give the same files.")],
    out: Annotated[Path, typer.Option(help="Folder for the files; it is made.")],
    count: Annotated[int, typer.Option(min=1, max=10_000, help="156 gives the paper's numbers exactly.")] = 156,
) -> None:
    """Synthetic incidents, one file each: faults in a simulated fleet, and what a site's alert rules see of them."""
    from worker.synthetic_spec import write

    typer.echo(f"{len(write(seed, count, out))} incident(s) in {out}")


def _give(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
    elif out.exists():
        raise fail(f"{out} is there already, and nothing was written over it: name another file")
    else:
        out.write_text(text, encoding="utf-8")
        typer.echo(str(out))
