"""`interlock report`: where time went, by class and lever, beside the paper's figures; from closed cases or incident files."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.settings import load

if TYPE_CHECKING:
    from worker.report_read import Found

BAD_INPUT = 2


def report(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Incident files, folders of them, and what `interlock replay --json` printed. None: the journal."
        ),
    ] = None,
    journal: Annotated[
        str | None, typer.Option(help="Journal of closed cases, as an SQLAlchemy URL. None: INTERLOCK_JOURNAL_URL.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only what was opened since then: 30d, 12h or a time.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report with its plots as one page.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
) -> None:
    """Shares by class, detection, levers, times, agreement, refusals, and what to automate next. Exit 2: input that cannot be read."""
    from activities.errors import PortError
    from runbooks.loader import CatalogError
    from worker.errors import OperatorError
    from worker.report import whole
    from worker.report_text import head, write

    try:
        found, source = _found(files or [], journal, since)
        made = whole(found, source)
        if html is not None:
            from worker.report_page import write_page

            write_page(made, found.rows, html)
    except (OperatorError, CatalogError, PortError) as error:
        typer.echo(f"interlock: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
        return
    if html is not None:
        typer.echo(f"{head(made)}: {html}")
        return
    write(made, sys.stdout)


def _found(files: list[Path], journal: str | None, since: str | None) -> tuple[Found, str]:
    """The rows, and where they are from."""
    from runbooks.library import load_library
    from worker.report_read import BadInput, from_files, from_journal, groups_of
    from worker.scores import moment, open_journal

    settings = load()
    if files and journal is not None:
        raise BadInput("give files or --journal, not both: they would be counted together")
    begin = moment(since, datetime.now(UTC)) if since is not None else None
    groups = groups_of(load_library(settings.catalog_dir).taxonomy)
    if files:
        return from_files(files, groups, begin), f"{len(files)} file(s) or folder(s)"
    opened = open_journal(journal or settings.journal_url)
    try:
        return asyncio.run(from_journal(opened, groups, begin)), "the journal"
    finally:
        opened.dispose()
