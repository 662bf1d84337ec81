"""`interlock replay`: past incidents, played by the real workflows against a simulated fleet, in virtual time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from worker.commands.client import Failed, fail


def replay(
    files: Annotated[list[Path], typer.Argument(help="Incident files, or folders of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON instead of a table.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with a picture of each incident.")] = None,
    baseline: Annotated[
        Literal["naive", "observe"] | None,
        typer.Option(help="naive: the same levers without gates, Guard or proof. observe: decide and touch nothing."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Added to each incident's own: other noise.")] = 0,
    jobs: Annotated[int, typer.Option(min=0, help="Processes. 0: one for each core, and one more.")] = 0,
    policy: Annotated[Path | None, typer.Option(help="Policy file. None: the shipped, careful one.")] = None,
    runbooks: Annotated[Path | None, typer.Option(help="Catalogue folder. None: the shipped one.")] = None,
) -> None:
    """Play incidents and compare each with what its file expects. Exit 1 if an expectation does not hold.

    Harm is against the same site with nobody doing anything. Times to mitigate count from the first fault.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from runbooks.library import load_policy
    from worker.replay_files import incidents_in
    from worker.replay_one import Options
    from worker.replay_page import page
    from worker.replay_pool import replay_all, usual_jobs
    from worker.replay_table import said, table

    if html is not None and not html.parent.is_dir():
        raise fail(f"--html {html}: there is no folder {html.parent}; make it first")
    incidents = incidents_in(files)
    options = Options(load_policy(policy), runbooks, baseline, seed)
    columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("replaying", total=len(incidents))
        rows = replay_all(incidents, options, jobs or usual_jobs(), lambda row: progress.update(bar, advance=1))
        took = progress.tasks[0].finished_time or progress.tasks[0].elapsed or 0.0
    how = f"{len(rows)} incident{'s' * (len(rows) != 1)}, policy {options.policy.ref}" + (
        f", baseline {baseline}" if baseline else ""
    )
    if html is not None:
        html.write_text(page(rows, f"{how}; played in {took:.0f} s"), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps([row.as_json() for row in rows], ensure_ascii=False, indent=1))
    else:
        console = Console()
        if not console.is_terminal:
            console.width = 190  # a log has room; folded at 80 columns nobody reads it
        console.print(table(rows))
        console.print(said(rows, took), highlight=False)
    if any(row.expectations_failed for row in rows):
        raise Failed(1)
