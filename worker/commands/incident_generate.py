"""`interlock incident generate`: synthetic incidents with the paper's shares, one file each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make synthetic incidents.")


@app.command()
def generate(
    seed: Annotated[int, typer.Option(min=0, help="The same seed and count give the same files.")],
    out: Annotated[Path, typer.Option(help="Folder for the files; it is made.")],
    count: Annotated[int, typer.Option(min=1, max=10_000, help="156 gives the paper's numbers exactly.")] = 156,
) -> None:
    """Write synthetic incidents, one file each: faults in a simulated fleet, and what a site's alert rules see of them."""
    from worker.synthetic_spec import write

    paths = write(seed, count, out)
    typer.echo(f"{len(paths)} incident(s) in {out}")
