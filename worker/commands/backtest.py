"""`interlock backtest`: every decision in which two policies differ, over past cases or incidents, and what it would have cost."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.settings import load

if TYPE_CHECKING:
    from runbooks.policy import Policy
    from worker.backtest_models import OfFiles, OfJournal
    from worker.settings import Settings

BAD_INPUT = 2


def backtest(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Incident files, or folders of them: replayed once per policy. None: the journal."),
    ] = None,
    policy: Annotated[
        list[Path] | None, typer.Option(help="Policy file. Give two: A, what is, and B, what may be.")
    ] = None,
    journal: Annotated[
        str | None, typer.Option(help="Journal of closed cases, as an SQLAlchemy URL. None: INTERLOCK_JOURNAL_URL.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only cases opened since then: 30d, 12h or a time.")] = None,
    runbooks: Annotated[Path | None, typer.Option(help="Catalogue folder. None: INTERLOCK_CATALOG_DIR.")] = None,
    fleet: Annotated[
        Path | None,
        typer.Option(help="Your fleet file, for limits that are shares of a pool. None: INTERLOCK_FLEET_FILE."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=0, help="Processes that replay. 0: one for each core, and one more.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
) -> None:
    """What another policy would have decided, why, and what it would have cost or saved. Exit 2: input that cannot be read."""
    from activities.errors import PortError
    from runbooks.loader import CatalogError
    from worker.errors import OperatorError

    try:
        a, b = _policies(policy or [])
        settings = load()
        if files and journal is not None:
            raise OperatorError("give files or --journal, not both: the one is replayed, the other judged again")
        if files and since is not None:
            raise OperatorError("--since is for a journal: name the files that you want replayed")
        if files:
            found: OfFiles | OfJournal = _of_files(files, a, b, runbooks or settings.catalog_dir, jobs)
        else:
            found = _of_journal(settings, a, b, journal, since, runbooks, fleet)
    except (OperatorError, CatalogError, PortError) as error:
        for line in getattr(error, "problems", None) or [str(error)]:
            typer.echo(f"interlock: {line}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    from worker.backtest_text import write

    write(found, sys.stdout)


def _policies(files: list[Path]) -> tuple[Policy, Policy]:
    from runbooks.library import load_policy
    from worker.errors import OperatorError

    if len(files) != 2:
        raise OperatorError(f"give --policy twice, for A and for B; it was given {len(files)} time(s)")
    return load_policy(files[0]), load_policy(files[1])


def _of_journal(
    settings: Settings,
    a: Policy,
    b: Policy,
    journal: str | None,
    since: str | None,
    runbooks: Path | None,
    fleet: Path | None,
) -> OfJournal:
    from runbooks.fleet import Fleet
    from runbooks.library import load_library
    from runbooks.loader import load as load_file
    from worker.backtest import of_journal, read
    from worker.report_read import groups_of
    from worker.scores import moment, open_journal

    begin = moment(since, datetime.now(UTC)) if since is not None else None
    groups = groups_of(load_library(runbooks or settings.catalog_dir).taxonomy)
    path = fleet or settings.fleet_file
    own = load_file(path, Fleet) if path is not None else None
    opened = open_journal(journal or settings.journal_url)
    try:
        return of_journal(asyncio.run(read(opened, groups, begin)), a, b, own, "the journal")
    finally:
        opened.dispose()


def _of_files(files: list[Path], a: Policy, b: Policy, catalogue: Path, jobs: int) -> OfFiles:
    from rich.console import Console
    from rich.progress import Progress

    from runbooks.library import load_library
    from worker.backtest_replay import of_files
    from worker.replay_files import incidents_in
    from worker.replay_pool import usual_jobs

    load_library(catalogue)  # a mistake in it is one sentence here, and a traceback in each process
    incidents = incidents_in(files)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("replaying, each under A and B", total=2 * len(incidents))
        return of_files(incidents, a, b, catalogue, jobs or usual_jobs(), lambda _: progress.update(bar, advance=1))
